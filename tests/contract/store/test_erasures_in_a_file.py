"""What is erased from an SQLite file is in none of the bytes beside it, either."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests import rows, steps
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.schema import migrate
from turnmill.verbs.users.erasing import Erasing
from turnmill.verbs.users.verifying import Verifying

CANARY = "canary-7d1e"


@pytest.fixture
def url(tmp_path: Path) -> str:
    found = f"sqlite:///{tmp_path / 'turnmill.db'}"
    migrate.upgrade(found)
    return found


@pytest.fixture
def file(url: str) -> Iterator[Database]:
    with closing(Database(url)) as store:
        yield store


def said(store: Database, folder: Path) -> Erasing:
    session = rows.start(store, system_prompt=f"prompt of {CANARY}")
    for _ in range(20):
        steps.answer(store, rows.send(store, session, f"{CANARY} {'x' * 900}"))
    return Erasing(store, Settings(home=folder))


def bytes_of(folder: Path) -> bytes:
    return b"".join(one.read_bytes() for one in folder.iterdir() if one.is_file())


def test_neither_the_file_nor_its_log_holds_what_was_erased(file: Database, tmp_path: Path) -> None:
    erasing = said(file, tmp_path)
    assert CANARY.encode() in bytes_of(tmp_path)
    erasing.erase("ada", reason="", grace=timedelta(0))
    assert CANARY.encode() not in bytes_of(tmp_path)


def test_a_log_that_somebody_reads_meanwhile_is_told_of_until_he_has_done(
    file: Database, url: str, tmp_path: Path
) -> None:
    with closing(Database(url)) as other:
        with file.engine.connect() as idle:  # the log is written by one who does not wait for long
            idle.connection.cursor().execute("PRAGMA busy_timeout = 0")
        erasing = said(file, tmp_path)
        verifying = Verifying(file, Settings(home=tmp_path))
        with other.snapshot() as conn:
            conn.exec_driver_sql("SELECT count(*) FROM messages").all()
            erasing.erase("ada", reason="", grace=timedelta(0))
            assert verifying.verify("ada", words=()).unvacuumed
    assert not verifying.verify("ada", words=()).unvacuumed
    assert CANARY.encode() not in bytes_of(tmp_path)


def test_what_is_deleted_is_overwritten_whoever_built_sqlite(file: Database) -> None:
    with file.begin() as conn:
        assert conn.exec_driver_sql("PRAGMA secure_delete").scalar() == 1
