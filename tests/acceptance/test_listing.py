"""Every `ls` that is read in pages: the same options, the same order, the same JSON as `show`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from tests.acceptance.terminal import Said, Terminal
from turnmill.store.schema.tables import batches, sessions, turns
from turnmill.sync.client import Client

NOUNS = ("sessions", "turns", "batch")
SHOW = {"sessions": "show", "turns": "show", "batch": "status"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose store holds five of each noun, all made at the same moment."""
    folder = tmp_path_factory.mktemp("listing")
    file = folder / "one.jsonl"
    file.write_text(json.dumps({"text": "Hello", "session": "s0"}) + "\n")
    with Client(database_url=f"sqlite:///{folder}/turns.db") as client:
        for n in range(5):
            client.sessions.create(user_id="ada", key=f"s{n}")
        client.sessions.pause("s0")  # so that nothing moves
        for n in range(5):
            client.batches.create(file, name=f"a batch with a long name, number {n}")
        moment = client.sessions.get("s0").created_at
        with client._executor.database.begin() as conn:
            for table in (sessions, turns, batches):
                conn.execute(update(table).values(created_at=moment))
    return folder


@pytest.fixture
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest's own terminal
    return Terminal(folder, {"TURNMILL_DATABASE_URL": f"sqlite:///{folder}/turns.db"})


def ids(said: Said) -> list[str]:
    assert said.code == 0, said.err
    return [one["id"] for one in said.lines()]


def pages(there: Terminal, noun: str, *, limit: int) -> Iterator[list[str]]:
    after: tuple[str, ...] = ()
    for _ in range(10):
        said = there.run(noun, "ls", "--json", "--limit", str(limit), *after)
        yield ids(said)
        if "more:" not in said.err:
            return
        after = tuple(said.err.strip().removeprefix("more: ").split())
    raise AssertionError("it never ends")


@pytest.mark.parametrize("noun", NOUNS)
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_pages_hold_everything_once_newest_first_and_the_last_one_promises_no_more(
    there: Terminal, noun: str, limit: int
) -> None:
    whole = ids(there.run(noun, "ls", "--json"))
    assert len(whole) == 5
    assert whole == sorted(whole, reverse=True)
    read = list(pages(there, noun, limit=limit))
    assert [one for page in read for one in page] == whole
    assert {len(page) for page in read[:-1]} <= {limit}
    assert read[-1]


@pytest.mark.parametrize("noun", NOUNS)
def test_one_object_a_line_holds_what_show_says_of_it(there: Terminal, noun: str) -> None:
    lines = there.run(noun, "ls", "--json").lines()
    assert lines
    for listed in lines:
        shown: Mapping[str, Any] = there.run(noun, SHOW[noun], listed["id"], "--json").json()
        assert {name: shown[name] for name in listed} == listed


@pytest.mark.parametrize("noun", NOUNS)
@pytest.mark.parametrize("limit", ["0", "-1", "1001", "many"])
def test_a_page_has_bounds(there: Terminal, noun: str, limit: str) -> None:
    said = there.run(noun, "ls", "--limit", limit)
    assert (said.code, said.out) == (2, "")
    assert "--limit" in said.err


@pytest.mark.parametrize("noun", NOUNS)
def test_going_on_after_what_is_no_such_thing_is_an_error_with_a_next_step(
    there: Terminal, noun: str
) -> None:
    other = ids(there.run(NOUNS[NOUNS.index(noun) - 1], "ls", "--json"))[0]
    for after in (other, str(UUID(int=0)), "no-id", ""):
        said = there.run(noun, "ls", "--after", after)
        assert (said.code in (1, 3), said.out) == (True, ""), after
        hint = f"`turnmill {noun} ls` lists them" if after else "characters that can be printed"
        assert "error: " in said.err and "hint: " in said.err
        assert hint in said.err or (noun == "turns" and "lists them" in said.err)


@pytest.mark.parametrize("noun", NOUNS)
def test_a_pipe_gets_every_column_and_a_terminal_as_many_as_fit(there: Terminal, noun: str) -> None:
    piped = there.run(noun, "ls").out.splitlines()
    for width in (80, 120):
        lines = Terminal(there.folder, {**there.environment, "COLUMNS": str(width)}).run(noun, "ls")
        shown = lines.out.splitlines()
        assert noun != "turns" or "waits for" in shown[0]
        assert max(map(len, shown)) <= width
        assert len(shown) == len(piped) == 6, lines.out
        assert set(shown[0].split()) <= set(piped[0].split())
        assert all(len(line.split()[0]) == 36 for line in shown[1:])


@pytest.mark.parametrize("noun", NOUNS)
def test_an_empty_listing_says_so_beside_the_output(tmp_path: Path, noun: str) -> None:
    Client(database_url=f"sqlite:///{tmp_path}/turns.db").close()
    empty = Terminal(tmp_path, {"TURNMILL_DATABASE_URL": f"sqlite:///{tmp_path}/turns.db"})
    said = empty.run(noun, "ls")
    assert (said.code, said.out) == (0, "")
    assert said.err.startswith("no ")
