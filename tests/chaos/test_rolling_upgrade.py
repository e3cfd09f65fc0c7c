"""Upgrading while turns run: old code on the new schema, and a clear word when that ends."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.chaos.books import Books
from tests.chaos.load import await_end
from tests.chaos.system import System, kill, until
from tests.migration.later import TODAY  # before a test lets the code know of later ones
from turnmill import SchemaOutOfDate
from turnmill.store.database import Database
from turnmill.store.schema import migrate, revision

LATER = "tests.migration:later"
_SESSIONS = 20
_MOST = 5_000


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `migrate` know the migrations of a version that is yet to be written."""
    monkeypatch.setattr(migrate, "VERSIONS", (*migrate.VERSIONS, LATER))


@contextmanager
def traffic(system: System) -> Iterator[None]:
    """Send without a pause for as long as the block takes."""
    enough = threading.Event()

    def send() -> None:
        with system.client() as client:
            sessions = [client.sessions.create(user_id=f"u{n}") for n in range(_SESSIONS)]
            for number in range(_MOST):
                if enough.wait(0.01):
                    return
                client.send(sessions[number % _SESSIONS], "hello", metadata=_SLOWLY)

    with ThreadPoolExecutor(1) as thread:
        sending = thread.submit(send)
        try:
            yield
        finally:
            enough.set()
        sending.result(timeout=30)


_SLOWLY = {"mock": {"latency": 0.2}}


@pytest.mark.long
@pytest.mark.timeout(240)
def test_workers_of_the_version_before_go_on_while_and_after_a_schema_is_migrated(
    system: System, later: None
) -> None:
    first, second = system.launch_worker(), system.launch_worker()
    system.await_ready(first, second)
    with traffic(system):
        until(lambda: system.count_calls("completed") > 50)
        done = migrate.upgrade(system.database_url, finish=False)
        assert (done.before, done.after) == (TODAY, "9001")
        kill(first)
        third = system.start_worker()  # the code of before starts on the schema of after
        after = system.count_calls("completed")
        until(lambda: system.count_calls("completed") > after + 50)
        kill(third)
    await_end(system)
    books = Books.of(system)
    assert books.count("succeeded") == len(books.turns) > 100
    assert second.poll() is None


def test_code_that_a_finished_upgrade_leaves_behind_is_told_so(system: System, later: None) -> None:
    migrate.upgrade(system.database_url)
    worker = system.launch_worker()
    until(lambda: worker.poll() is not None)
    said = worker.program.log.read_text()
    assert "serves versions from 9001 on" in said
    assert "install the version that migrated it" in said
    migrate.downgrade(system.database_url, "9001")
    system.start_worker()


def test_new_code_runs_before_and_after_the_last_step_of_its_upgrade(
    system: System, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "HEAD", "9002")
    monkeypatch.setattr(revision, "NEEDS", "9001")
    database = Database(system.database_url)

    def check() -> None:
        with database.begin() as conn:
            revision.require_current(conn)

    with pytest.raises(SchemaOutOfDate, match="needs 9001"):
        check()
    for finish in (False, True):
        migrate.upgrade(system.database_url, finish=finish)
        check()
    assert migrate.unfinished(system.database_url) == 0
    database.close()


def test_a_migration_that_waits_for_a_lock_lets_others_pass(system: System, later: None) -> None:
    database = Database(system.database_url)
    with ThreadPoolExecutor(1) as thread, system.client() as client:
        session = client.sessions.create(user_id="ada")
        with database.begin() as conn:
            conn.exec_driver_sql("SELECT count(*) FROM turnmill.turns")  # held until we commit
            migrating = thread.submit(migrate.upgrade, system.database_url)
            until(lambda: system.rows("SELECT FROM pg_locks WHERE NOT granted"))
            for number in range(20):
                client.send(session, f"number {number}")
            assert not migrating.done()
        assert migrating.result(timeout=60).after == "9002"
    database.close()
