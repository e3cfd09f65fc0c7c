"""The example of docs/tools.md, taken from the page and run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.talking import installed
from turnmill import Client
from turnmill.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "tools.md"


def test_the_example_of_the_page_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = PAGE.read_text(encoding="utf-8")
    module, used = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[:2]
    (name,) = re.findall(r"`TURNMILL_TOOLS=(\w+)`", page)
    (tmp_path / f"{name}.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(installed(tmp_path))
    calls = json.dumps([[["weather", {"city": "Rome"}]]])
    names: dict[str, Any] = {"provider": "talking", "model": calls}
    with Client(settings=Settings(database_url="sqlite://", tools=name)) as client:
        exec(compile(used, str(PAGE), "exec"), names | {"client": client}, names)
    assert json.loads(names["reply"].text)["outputs"] == ["sunny in Rome"]
