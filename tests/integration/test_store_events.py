"""Events under transactions that overlap: who holds up whom, and what is seen when."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests import rows, steps
from turnmill.domain.ids import SessionId
from turnmill.domain.states import TurnState
from turnmill.store.database import Database
from turnmill.store.line.settle import settle
from turnmill.store.nouns import event_log, events
from turnmill.store.schema_name import execute


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=8)
    with database.begin() as conn:
        events.add_reader(conn, "one")
    yield database
    steps.assert_sound(database)
    database.close()


def read(store: Database) -> list[events.Event]:
    with store.begin() as conn:
        found = events.read(conn, "one")
        for event in found:
            events.passed(conn, "one", event)
    return found


def _held_up_by_nobody(store: Database, for_how_long: timedelta, *, every: float = 0.0) -> None:
    """Read on while a transaction is open that began before, and that has an event itself."""
    busy, other = rows.start(store), rows.start(store)
    claim = steps.take_one(store, steps.send(store, busy).turn_id)
    verdict = steps.verdict(claim, TurnState.SUCCEEDED)
    with store.begin() as open_conn:
        # Ours would be ended after two minutes: this one is somebody else's.
        execute(open_conn, "SET LOCAL idle_in_transaction_session_timeout = 0")
        settle(open_conn, [verdict])
        ends, n = time.monotonic() + for_how_long.total_seconds(), 0
        while n < 3 or time.monotonic() < ends:
            n += 1
            sent = steps.send(store, other).turn_id
            steps.answer(store, sent)
            assert [(one.turn_id, one.n) for one in read(store)] == [(sent, n)]
            with store.begin() as conn:
                event_log.prune(conn)
            threading.Event().wait(every)
    assert [one.turn_id for one in read(store)] == [claim.turn_id]


def test_a_transaction_that_stays_open_holds_up_no_event_of_others(store: Database) -> None:
    _held_up_by_nobody(store, timedelta(0))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_transaction_that_stays_open_for_ten_minutes_holds_up_no_event_of_others(
    store: Database,
) -> None:
    _held_up_by_nobody(store, timedelta(minutes=10), every=1.0)


def test_readers_that_read_while_many_write_miss_nothing(store: Database) -> None:
    lines = [rows.start(store) for _ in range(6)]
    written = threading.Event()

    def write(line: SessionId) -> None:
        for _ in range(15):
            steps.answer(store, steps.send(store, line).turn_id)

    def follow() -> list[events.Event]:
        found: list[events.Event] = []
        while not written.is_set():
            found += read(store)
        return found + read(store)

    with ThreadPoolExecutor(4) as pool:
        following = pool.submit(follow)
        for done in [pool.submit(write, line) for line in lines]:
            done.result()
        written.set()
        found = following.result()
    for line in lines:
        assert [one.n for one in found if one.session_id == line] == list(range(1, 16))
