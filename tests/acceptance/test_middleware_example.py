"""The example of docs/middleware.md, taken from the page and run as a package beside a worker."""

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from turnmill import Client
from turnmill.settings import Settings

#: Stands inside of the example's layer, and sees what leaves.
LOOKS = """
SENT = []

def make():
    async def looks(call, go):
        SENT.append(call.request.text)
        return await go(call)
    return looks
"""
PAGE = Path(__file__).parents[2] / "docs" / "middleware.md"


def test_the_example_of_the_page_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = PAGE.read_text(encoding="utf-8").partition("## A whole example")[2]
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", example, re.DOTALL))
    (module,) = re.findall(r"`turnmill_redact.py`:\n\n.*?```python\n(.*?)```", example, re.DOTALL)
    (used,) = re.findall(r"```python\n(session = .*?)```", example, re.DOTALL)
    (setting,) = re.findall(r'`TURNMILL_LAYERS="(.*?)"`', example)
    project = tomllib.loads(blocks["toml"])["project"]
    (tmp_path / "turnmill_redact.py").write_text(module)
    folder = tmp_path / "turnmill_redact-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]["turnmill.layers"]
    lines = [f"{name} = {path}" for name, path in points.items()]
    (folder / "entry_points.txt").write_text("\n".join(["[turnmill.layers]", *lines]))
    (tmp_path / "looking.py").write_text(LOOKS)
    monkeypatch.syspath_prepend(tmp_path)
    layers = f"{setting},look=looking:make"
    with Client(settings=Settings(database_url="sqlite://", layers=layers)) as client:
        exec(compile(used, str(PAGE), "exec"), {"client": client})
    assert "My card is 4111 1111 1111 1111" in capsys.readouterr().out
    assert import_module("looking").SENT == ["My card is <card 1>"]
