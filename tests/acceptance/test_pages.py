"""Every block of Python on a page runs as it stands, or the page says why it does not."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest

import turnmill
from turnmill import AsyncClient, Client, Text
from turnmill.testing import memory_client

DOCS = Path(__file__).parents[2] / "docs"
#: Signatures that `make check` holds to the code, and programs of their own test's.
_ELSEWHERE = {"api.md", "applications.md"}
_BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```python\n(.*?)```", re.DOTALL)


def blocks() -> Iterator[Any]:
    for page in sorted(DOCS.glob("*.md")):
        if page.name in _ELSEWHERE:
            continue
        for n, (why, code) in enumerate(_BLOCK.findall(page.read_text(encoding="utf-8"))):
            if not why:
                yield pytest.param(code, id=f"{page.stem}-{n}")


class Enough(Exception):
    """The reader of a page has seen what an endless loop does."""


def book(event: object) -> None:
    raise Enough


async def answer(client: AsyncClient, text: str) -> str:
    session = await client.sessions.create(user_id="ada")
    turn = await client.send(session, text)
    return (await turn.result(timeout=10)).text


@pytest.fixture
def client() -> Iterator[Client]:
    with memory_client() as client:
        yield client


@pytest.mark.parametrize("code", list(blocks()))
def test_a_block_of_a_page_runs_as_it_stands(
    code: str, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNMILL_DATABASE_URL", "sqlite://")
    monkeypatch.setenv("ENDS_FILE", str(tmp_path / "ends.db"))
    (tmp_path / "jobs.jsonl").write_text('{"user_id": "ada", "text": "Hello"}\n')
    session = client.sessions.create(user_id="ada", key="ada:1")
    client.send(session, "Hello").result(timeout=10)
    page = ModuleType("page")
    # What the words around the blocks speak of.
    told = {"client": client, "session": session, "document": "a text", "book": book}
    imports = {"asyncio": asyncio, "answer": answer, "AsyncClient": AsyncClient, "Self": Self}
    vars(page).update(told | imports | {"Text": Text})
    quick = "from __future__ import annotations\n" + code.replace("timeout=60", "timeout=0.2")
    try:
        exec(compile(quick, "page", "exec", dont_inherit=True), vars(page))
    except Enough:
        assert "for event in" in code


def test_the_docstring_of_the_package_runs_as_it_stands(
    client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TURNMILL_DATABASE_URL", "sqlite://")
    code = (turnmill.__doc__ or "").partition("\n\n")[2]
    exec(compile(code, "page", "exec"), {"__name__": "page"})
    assert "You said: Hello" in capsys.readouterr().out
