"""A store in memory, and what comes in the middle of a statement: Ctrl-C, or a test's time-out."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event, text

from tests import rows, steps
from turnmill.store.database import Database
from turnmill.store.schema.revision import create_all


@pytest.fixture
def store() -> Iterator[Database]:
    store = Database("sqlite://")
    with store.begin() as conn:
        create_all(conn)
    yield store
    store.close()


@contextmanager
def interrupted_at(store: Database, moment: str) -> Iterator[None]:
    """Interrupt whoever does this with a connection."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    event.listen(store.engine, moment, interrupt)
    with pytest.raises(KeyboardInterrupt):
        yield
    event.remove(store.engine, moment, interrupt)


@pytest.mark.parametrize("moment", ["after_cursor_execute", "reset"])
def test_all_that_was_kept_outlives_a_statement_that_is_interrupted(
    store: Database, moment: str
) -> None:
    kept = rows.start(store)
    with interrupted_at(store, moment):
        rows.start(store)
    assert steps.session(store, kept).id == kept


def test_what_an_interrupted_transaction_had_written_is_gone(store: Database) -> None:
    with interrupted_at(store, "after_cursor_execute"), store.begin() as conn:
        conn.execute(text("DELETE FROM event_log"))
    with store.begin() as conn:  # the next one begins as if there had been none
        conn.execute(text("SELECT 1"))


def test_whoever_still_reads_when_a_store_in_memory_is_closed_reads_to_the_end(
    store: Database,
) -> None:
    begun, closed = threading.Event(), threading.Event()
    found: list[object] = []

    def read() -> None:
        with store.begin() as conn:
            begun.set()
            assert closed.wait(60)
            found.append(conn.scalar(text("SELECT 1")))

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(60)
    store.close()
    closed.set()
    reader.join()
    assert found == [1]
