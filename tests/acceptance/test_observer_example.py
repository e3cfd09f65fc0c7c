"""The example of docs/events.md, taken from the page and run."""

import re
import sqlite3
from pathlib import Path

import pytest

from turnmill import Client
from turnmill.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "events.md"


def test_the_example_of_the_page_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = PAGE.read_text(encoding="utf-8").partition("### A whole example")[2]
    module, used = re.findall(r"```python\n(.*?)```", example.partition("\n## ")[0], re.DOTALL)
    (name,) = re.findall(r"`(\w+)\.py`:", example)
    (observers,) = re.findall(r'`TURNMILL_OBSERVERS="(.*?)"`', example)
    (tmp_path / f"{name}.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ENDS_FILE", str(tmp_path / "ends.db"))
    settings = Settings(database_url="sqlite://", observers=observers)
    with Client(settings=settings) as client:
        exec(compile(used, str(PAGE), "exec"), {"client": client})
    ends = sqlite3.connect(tmp_path / "ends.db")
    assert [row[1::2] for row in ends.execute("SELECT * FROM ends")] == [(1, "turn.succeeded")]
    ends.close()
