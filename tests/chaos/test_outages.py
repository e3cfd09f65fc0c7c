"""Servers that go away for a while, and workers that come and go."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from tests.chaos.books import Books
from tests.chaos.load import LONG, await_calls, await_end, start_turns, unfinished
from tests.chaos.system import PATIENCE, System, until
from turnmill_worker.stack.process import wait_until

logger = logging.getLogger(__name__)

WAIT = PATIENCE.total_seconds()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_replies_in_hand_are_stored_once_when_the_database_is_back(
    system: System, many: int, outage: timedelta
) -> None:
    worker = system.start_worker(concurrency=many)
    with system.client() as client:
        start_turns(client, many, script={"latency": 5.0})
        await_calls(system, many)
    system.servers.crash_postgres()
    gone_at = time.monotonic()
    until(lambda: system.count_calls("completed") == many)
    until(lambda: time.monotonic() - gone_at > outage.total_seconds(), within=2 * outage)
    system.servers.postgres.restart()
    await_end(system)
    assert worker.poll() is None
    books = Books.of(system)
    assert books.count("succeeded") == many
    assert len(books.attempts) == len(books.calls) == many


def test_a_frozen_redis_never_holds_a_send_up(system: System) -> None:
    system.start_worker()
    with system.client() as client, system.client() as fresh:
        session = client.sessions.create(user_id="ada")
        client.send(session, "first").result(timeout=WAIT)
        slowest = 0.0
        with system.servers.frozen_redis():
            for sender in (client, fresh, client, fresh, client):
                began = time.monotonic()
                sender.send(session, "hello")
                slowest = max(slowest, time.monotonic() - began)
        assert slowest < 3
        await_end(system)


def test_turns_go_on_within_seconds_after_a_flush(system: System) -> None:
    system.start_worker(concurrency=20)
    with system.client() as client:
        start_turns(client, 150, script={"latency": 0.2})
        await_calls(system, 40)
        with system.servers.redis() as redis:
            redis.flushall()
        calls = system.count_calls()
        began = time.monotonic()
        until(lambda: system.count_calls() >= min(calls + 30, 150))
        seconds = time.monotonic() - began
        logger.info("went on %.1f s after the flush", seconds)
        assert seconds < 10
        await_end(system)


@pytest.mark.slow
def test_a_rolling_restart_under_load_loses_no_attempt(system: System) -> None:
    workers = [system.launch_worker() for _ in range(2)]
    system.await_ready(*workers)
    with steady_load(system):
        await_calls(system, 50)
        for old in workers:
            system.start_worker()
            old.ask_to_stop()
            until(lambda old=old: old.poll() is not None)  # type: ignore[misc]
            assert old.poll() == 0
    await_end(system, within=LONG)
    books = Books.of(system)
    assert {turn.state for turn in books.turns} == {"succeeded"}
    assert {turn.lost for turn in books.turns} == {0}
    assert len(books.calls) == len(books.turns)


@contextmanager
def steady_load(system: System) -> Iterator[None]:
    """Keep 20 sessions busy."""
    stopped = threading.Event()

    def send() -> None:
        with system.client() as client:
            messages = [(client.sessions.create(user_id="ada").id, "hello") for _ in range(20)]
            script = {"mock": {"latency": 0.3}}
            while not stopped.is_set():
                client.send_many(messages, lane="interactive", metadata=script)
                wait_until(lambda: stopped.is_set() or unfinished(system) < 40, timeout=PATIENCE)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        yield
    finally:
        stopped.set()
        sending.join()
