"""Waiting for a reply: a wake-up is a hint, a deadline is a promise, an outage has an end."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests import steps
from tests.crowd import DEADLINE
from tests.waiting import until
from turnmill import AsyncClient, Client, Reply, TurnTimeout
from turnmill.domain.errors import (
    BatchTimeout,
    StoreFull,
    StoreUnavailable,
    TurnCancelled,
    TurnDead,
    TurnExpired,
    TurnNotFound,
)
from turnmill.domain.states import TurnState
from turnmill.listening import task as async_waiting
from turnmill.listening import thread as blocking_waiting
from turnmill.listening.thread import Waiter
from turnmill.listening.watchlist import Deadline
from turnmill.store.database import Database
from turnmill.store.line.leases import LOSSES_TO_DEATH
from turnmill.store.nouns import batches as batch_rows
from turnmill.store.nouns import outcome, sessions
from turnmill.store.schema_name import execute
from turnmill.sync.turns import Turn
from turnmill.verbs import reply as reply_of_turn
from turnmill.wire import SETTLED_CHANNEL

WAYS = ["blocking", "asyncio"]


@pytest.fixture
def turn(database_url: str) -> Iterator[Turn]:
    """A turn that no worker will answer."""
    with Client(database_url=database_url) as client:
        yield client.send(client.sessions.create(user_id="ada"), "hello")


class Waiting:
    """Somebody who waits for a turn in a thread, with either client."""

    def __init__(self, url: str, turn: Turn, way: str) -> None:
        self._url = url
        self._turn = turn
        self._wait = {"blocking": self._blocking, "asyncio": self._concurrent}[way]
        self._thread = ThreadPoolExecutor(1)

    def result(self, timeout: Any) -> "Future[Reply]":
        return self._thread.submit(self._wait, timeout)

    def _blocking(self, timeout: Any) -> Reply:
        with Client(database_url=self._url) as client:
            return client.turns.get(self._turn.id).result(timeout)

    def _concurrent(self, timeout: Any) -> Reply:
        async def wait() -> Reply:
            async with AsyncClient(database_url=self._url) as client:
                return await (await client.turns.get(self._turn.id)).result(timeout)

        return asyncio.run(wait())


@pytest.fixture(params=WAYS)
def waiting(request: pytest.FixtureRequest, database_url: str, turn: Turn) -> Waiting:
    return Waiting(database_url, turn, request.param)


_LISTENING = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND query LIKE 'LISTEN%'"
)


class Rumours:
    """Says again and again that a turn has ended, though it has not."""

    def __init__(self, url: str, turn: Turn) -> None:
        self._url = url
        self._said = str(turn.id)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.count = 0

    def _run(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as conn:
            while not self._over.wait(0.005):
                conn.execute("SELECT pg_notify(%s, %s)", (SETTLED_CHANNEL, self._said))
                self.count += conn.execute(_LISTENING).fetchone() is not None

    def __enter__(self) -> "Rumours":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_a_wake_up_without_an_end_ends_no_wait(
    database_url: str, store: Database, turn: Turn, waiting: Waiting
) -> None:
    with Rumours(database_url, turn) as rumours:
        reply = waiting.result(DEADLINE)
        until(lambda: rumours.count >= 20)
        assert not reply.done()
        steps.answer(store, turn.id)
        assert reply.result(DEADLINE).turn_id == turn.id


def test_a_wait_that_is_woken_for_nothing_lasts_as_long_as_was_said(
    database_url: str, turn: Turn, waiting: Waiting
) -> None:
    began = time.monotonic()
    with Rumours(database_url, turn), pytest.raises(TurnTimeout):
        waiting.result(0.7).result(DEADLINE)
    assert time.monotonic() - began >= 0.7


def test_a_turn_that_failed_and_was_retried_in_place_is_waited_for(
    store: Database, turn: Turn, waiting: Waiting
) -> None:
    reply = waiting.result(DEADLINE)
    claim = steps.take_one(store, turn.id)
    steps.end(store, claim, TurnState.RETRYING)
    steps.due_now(store, turn.id)
    steps.answer(store, turn.id)
    assert reply.result(DEADLINE).text


@pytest.mark.parametrize("timeout", [0, 0.0, 1e-9, timedelta(0)])
def test_no_time_at_all_is_one_look(
    store: Database, turn: Turn, waiting: Waiting, timeout: Any
) -> None:
    with pytest.raises(TurnTimeout):
        waiting.result(timeout).result(DEADLINE)
    steps.answer(store, turn.id)
    assert waiting.result(timeout).result(DEADLINE).text


def test_one_look_waits_for_no_listener(turn: Turn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Waiter, "_listen", lambda self: self._closed.wait(DEADLINE))
    began = time.monotonic()
    with pytest.raises(TurnTimeout):
        turn.result(timeout=0)
    assert time.monotonic() - began < DEADLINE / 2


@pytest.mark.parametrize("timeout", [366 * 86_400, 31_622_400.0, timedelta(days=366), None])
def test_any_time_that_can_be_said_can_be_waited(
    store: Database, turn: Turn, waiting: Waiting, timeout: Any
) -> None:
    reply = waiting.result(timeout)
    steps.answer(store, turn.id)
    assert reply.result(DEADLINE).text


def test_a_wait_outlives_the_connections_it_was_begun_with(
    database_url: str,
    store: Database,
    turn: Turn,
    waiting: Waiting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = threading.Event()

    def outcome_of(conn: Any, turn_id: Any) -> Any:
        found = outcome.outcome_of(conn, turn_id)
        looked.set()  # what comes now is news
        return found

    monkeypatch.setattr(reply_of_turn, "outcome_of", outcome_of)
    with psycopg.connect(database_url, autocommit=True) as admin:
        reply = waiting.result(DEADLINE)
        assert looked.wait(DEADLINE)
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        store.close()
        steps.answer(store, turn.id)
        assert reply.result(DEADLINE).text


def _cancels(store: Database, turn: Turn) -> None:
    steps.cancel(store, turn.id)


def _lets_expire(store: Database, turn: Turn) -> None:
    with store.begin() as conn:
        execute(conn, "UPDATE turnmill.turns SET expires_at = created_at")
    steps.expire(store)


def _deletes(store: Database, turn: Turn) -> None:
    with store.begin() as conn:
        sessions.remove(conn, turn.session_id)


def _deletes_while_it_runs(store: Database, turn: Turn) -> None:
    steps.take_one(store, turn.id)
    _deletes(store, turn)


def _loses_for_good(store: Database, turn: Turn) -> None:
    for _ in range(LOSSES_TO_DEATH):
        steps.take_one(store, turn.id)
        steps.lose(store, turn.id)


@pytest.mark.parametrize(
    ("ends", "error"),
    [
        (_cancels, TurnCancelled),
        (_lets_expire, TurnExpired),
        (_deletes, TurnNotFound),
        (_deletes_while_it_runs, TurnNotFound),
        (_loses_for_good, TurnDead),
    ],
)
def test_whoever_waits_is_told_of_every_kind_of_ending_at_once(
    database_url: str,
    store: Database,
    turn: Turn,
    waiting: Waiting,
    monkeypatch: pytest.MonkeyPatch,
    ends: Callable[[Database, Turn], None],
    error: type[Exception],
) -> None:
    """Nobody asks for ten minutes: what is not told is not known."""
    for kind in (blocking_waiting.Listener, async_waiting._Listener):
        monkeypatch.setattr(kind, "poll_seconds", 600.0)
    with psycopg.connect(database_url, autocommit=True) as admin:
        reply = waiting.result(DEADLINE)
        until(lambda: admin.execute(_LISTENING).fetchone() is not None)
        ends(store, turn)
        with pytest.raises(error):
            reply.result(DEADLINE)


def test_who_cannot_be_told_asks(
    store: Database, turn: Turn, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = threading.Event()

    def refuse(*_: object) -> None:
        refused.set()
        raise StoreFull

    for kind in (Waiter, async_waiting._Watch):
        monkeypatch.setattr(kind, "_listen", refuse)
    reply = waiting.result(None)
    assert refused.wait(DEADLINE)
    steps.answer(store, turn.id)
    assert reply.result(DEADLINE).text


def test_an_answer_whose_news_was_lost_is_found_at_the_deadline(
    store: Database, turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Waiter, "_wake", lambda self, turn_ids: None)
    with ThreadPoolExecutor(1) as thread:
        reply = thread.submit(turn.result, 0.5)
        steps.answer(store, turn.id)
        assert reply.result(DEADLINE).text


def test_a_batch_is_waited_for_through_an_outage(
    database_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text('{"user_id": "ada", "text": "hello"}\n')
    real, outages = batch_rows.counts, iter([False, True, True])

    def counts(*args: Any) -> Any:
        if next(outages, False):
            raise StoreUnavailable
        return real(*args)

    with Client(database_url=database_url) as client:
        batch = client.batches.create(file)
        monkeypatch.setattr(batch_rows, "counts", counts)
        with pytest.raises(BatchTimeout):
            batch.wait(timeout=0.6)
    assert list(outages) == []


def test_a_deadline_that_is_no_number_has_passed() -> None:
    assert Deadline(float("nan")).passed
    assert not Deadline(None).passed
    assert 0 < Deadline(timedelta.max).left < threading.TIMEOUT_MAX
