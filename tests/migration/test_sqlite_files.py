"""An SQLite file of any origin is brought along whole, or refused with the way out; never half."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest

from turnmill import Client
from turnmill.domain.errors import SchemaOutOfDate, StoreError
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.schema import migrate, migrations, revision

REVISIONS = sorted(
    file.name[:4] for file in Path(migrations.__file__).parent.glob("versions/[0-9]*.py")
)

#: A conversation of one turn, in columns that every revision has.
_SESSION = """
INSERT INTO sessions (id, key, user_id, provider, model, next_seq, turns_succeeded)
VALUES (?, 'old', 'ada', 'mock', 'mock', 2, 1)
"""
_TURN = """
INSERT INTO turns (id, session_id, seq, state, attempt, max_attempts, claims, input_tokens,
    finished_at, started_at)
VALUES (?, ?, 1, 'succeeded', 1, 5, 1, 7, '2026-01-01 00:00:00.000000',
    '2026-01-01 00:00:00.000000')
"""
_MESSAGE = """
INSERT INTO messages (id, session_id, turn_id, position, role, content, final)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
#: Migrates a file, and is killed by the first statement that contains a word.
_KILLED = """
import os, signal, sys
from sqlalchemy import Engine, event
from turnmill.store.schema import migrate

@event.listens_for(Engine, "after_cursor_execute")
def kill(conn, cursor, statement, *_):
    if sys.argv[2] in statement:
        os.kill(os.getpid(), signal.SIGKILL)

migrate.upgrade(sys.argv[1])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "turns.db"


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


@cache
def written(wanted: str) -> bytes:
    """Return a file that the version of this revision would have left, with a conversation in it.

    It is what the version before has left, brought along: so each migration is run once.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "turns.db"
        if wanted == "0001":
            migrate.upgrade(url_of(path), wanted)
            say_something(path)
        else:
            path.write_bytes(written(REVISIONS[REVISIONS.index(wanted) - 1]))
            migrate.upgrade(url_of(path), wanted)
        return path.read_bytes()


def say_something(path: Path) -> None:
    session, turn = new_id().hex, new_id().hex
    with sqlite3.connect(path) as old:
        old.create_function("turnmill_now", 1, lambda _: "2026-01-01 00:00:00.000000")
        old.execute(_SESSION, (session,))
        old.execute(_TURN, (turn, session))
        for place, role, text in ((0, "user", "hello"), (1, "assistant", "well met")):
            content = f'[{{"type": "text", "text": "{text}"}}]'
            old.execute(_MESSAGE, (new_id().hex, session, turn, place, role, content, place == 1))
    old.close()


def written_at(path: Path, wanted: str) -> None:
    path.write_bytes(written(REVISIONS[-1] if wanted == "head" else wanted))


def opened(path: Path) -> Client:
    return Client(settings=Settings(database_url=url_of(path), grace=timedelta(seconds=1)))


def test_of_attempts_before_it_is_not_known_what_went_into_a_cache(path: Path) -> None:
    written_at(path, "0004")
    attempt = "INSERT INTO attempts (turn_id, fence, n, kind, worker) SELECT id, 1, 1, 'send', 'w'"
    with sqlite3.connect(path) as old:
        old.create_function("turnmill_now", 1, lambda _: "2026-01-01 00:00:00.000000")
        old.execute(f"{attempt} FROM turns")
    old.close()
    client = opened(path)
    try:
        [turn] = client.turns.list()
        assert [one.cache_write_tokens for one in turn.attempts()] == [None]
    finally:
        client.close()


def assert_whole(path: Path) -> None:
    """What was said stands, what is said now is answered, and no column is missing."""
    client = opened(path)
    try:
        assert [one.text for one in client.sessions.history("old")] == ["hello", "well met"]
        assert client.send("old", "again").result(timeout=20).text
    finally:
        client.close()
    assert revision.revision_of(url_of(path)) == revision.HEAD


def every_other_is_long(old: str) -> object:
    """Leave half of the old ones out of the shorter suite: they run the same migrations."""
    is_long = old <= "0040" and int(old) % 2 == 0
    return pytest.param(old, marks=pytest.mark.long) if is_long else old


@pytest.mark.parametrize("old", [every_other_is_long(one) for one in REVISIONS])
def test_a_file_of_each_version_is_brought_along_when_it_is_opened(path: Path, old: str) -> None:
    written_at(path, old)
    assert revision.revision_of(url_of(path)) == old
    assert_whole(path)


def test_a_file_that_keeps_its_revision_where_alembic_does_is_brought_along(path: Path) -> None:
    written_at(path, "0001")
    with sqlite3.connect(path) as old:
        old.execute(f"ALTER TABLE {revision.VERSION_TABLE} RENAME TO alembic_version")
    old.close()
    assert_whole(path)


def content_of(path: Path) -> list[str]:
    with sqlite3.connect(path) as file:
        dump = list(file.iterdump())
    file.close()
    return dump


def refused(path: Path, error: type[StoreError], *, because: str) -> None:
    """Refused by everybody who opens it, with a hint, and left as it was."""
    before = path.read_bytes() if not is_database(path) else content_of(path)
    for opens in (lambda: opened(path).close(), lambda: migrate.upgrade(url_of(path))):
        with pytest.raises(error, match=because) as found:
            opens()
        assert found.value.hint
    assert (path.read_bytes() if not is_database(path) else content_of(path)) == before


def is_database(path: Path) -> bool:
    return path.read_bytes().startswith(b"SQLite format 3")


def test_a_file_of_a_later_version_is_refused_and_stays_as_it_is(path: Path) -> None:
    written_at(path, "head")
    with sqlite3.connect(path) as later:
        later.execute(f"UPDATE {revision.VERSION_TABLE} SET version_num = '9999'")
    later.close()
    refused(path, SchemaOutOfDate, because="9999")


def test_a_file_of_another_program_is_refused_and_stays_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE sessions (id INTEGER PRIMARY KEY, cookie TEXT)")
        other.execute("INSERT INTO sessions VALUES (1, 'theirs')")
        other.execute("CREATE TABLE alembic_version (version_num TEXT)")
        other.execute("INSERT INTO alembic_version VALUES ('0001')")
    other.close()
    refused(path, SchemaOutOfDate, because="another program")


def test_tables_of_an_application_stay_beside_ours_and_so_does_its_revision(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE invoices (id INTEGER PRIMARY KEY)")
        other.execute("CREATE TABLE alembic_version (version_num TEXT)")
        other.execute("INSERT INTO alembic_version VALUES ('c0ffee')")
    other.close()
    opened(path).close()
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT version_num FROM alembic_version").fetchall() == [("c0ffee",)]
    other.close()
    assert revision.revision_of(url_of(path)) == revision.HEAD


def test_what_is_no_database_is_refused_and_stays_as_it_is(path: Path) -> None:
    path.write_text("a letter to my aunt, which is long enough to be read as a header\n" * 20)
    refused(path, StoreError, because="no SQLite database")


def test_a_file_that_lacks_what_its_revision_says_is_refused(path: Path) -> None:
    written_at(path, "head")
    with sqlite3.connect(path) as broken:
        broken.execute("ALTER TABLE attempts DROP COLUMN polls")
    broken.close()
    refused(path, SchemaOutOfDate, because="attempts lacks polls")


@pytest.mark.parametrize(
    "word",
    [
        "ADD COLUMN",
        *(
            pytest.param(word, marks=pytest.mark.long)
            for word in ("CREATE TABLE kept_refs", "sqlite_master SET", "0004")
        ),
    ],
)
def test_a_file_whose_migration_was_killed_in_the_middle_is_as_before_and_comes_along(
    path: Path, word: str
) -> None:
    written_at(path, "0001")
    before = content_of(path)
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, url_of(path), word], check=False, env=os.environ
    )
    assert killed.returncode == -signal.SIGKILL
    assert content_of(path) == before
    assert_whole(path)
