"""Many clients, many workers, many turns: one of each is all that counts."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from tests.chaos.books import Books
from tests.chaos.load import (
    LONG,
    await_calls,
    await_end,
    seconds_to_take_over,
    soften,
    start_turns,
    unfinished,
)
from tests.chaos.stage import course
from tests.chaos.system import PATIENCE, System, kill, until
from turnmill import IdempotencyConflict
from turnmill.store.database import Database
from turnmill.store.records import Head

logger = logging.getLogger(__name__)

WAIT = PATIENCE.total_seconds()
T = TypeVar("T")


def at_once(count: int, action: Callable[[int], T]) -> list[T]:
    """Do it in that many threads, which begin together."""
    together = threading.Barrier(count)

    def begin(number: int) -> T:
        together.wait(timeout=WAIT)
        return action(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def test_forty_clients_with_one_key_make_one_turn(system: System) -> None:
    with system.client() as client:
        session = client.sessions.create(user_id="ada")

        def send(number: int) -> tuple[str, bool]:
            with system.client() as mine:
                # Every fourth says something else under the same key.
                text = "other" if number % 4 == 0 else "the same"
                try:
                    turn = mine.send(session, text, idempotency_key="one")
                except IdempotencyConflict:
                    return "conflict", False
                return str(turn.id), turn.created

        answers = at_once(40, send)
        later = client.send(session, "later")
    turns = {turn for turn, _ in answers} - {"conflict"}
    assert len(turns) == 1
    assert sum(created for _, created in answers) == 1
    assert 10 <= sum(turn == "conflict" for turn, _ in answers) <= 30
    assert system.rows("SELECT seq FROM turnmill.turns WHERE id = %s", later.id) == [(2,)]
    system.start_worker()
    await_end(system)


def test_forty_hints_for_one_session_make_one_call_at_a_time(system: System) -> None:
    workers = [system.launch_worker() for _ in range(3)]
    system.await_ready(*workers)
    with system.client() as client:
        session = client.sessions.create(user_id="ada")
        turns = [
            client.send(session, "hello", metadata={"mock": {"latency": 0.2}}) for _ in range(5)
        ]
        heads = [
            Head(turn_id=turn.id, session_id=turn.session_id, lane=turn.record.lane)
            for turn in turns
        ]

        def hint(_: int) -> None:
            with system.client() as mine:
                while unfinished(system):
                    mine._executor.announcer.announce(heads)

        at_once(8, hint)
        assert [len(system.calls_of(turn.id)) for turn in turns] == [1] * 5


@pytest.mark.slow
def test_bulk_neither_starves_nor_delays_interactive(system: System) -> None:
    system.start_worker(concurrency=40)
    with system.client() as client:
        start_turns(client, 150, lane="bulk", script={"latency": 1.0})
        await_calls(system, 10)
        began = time.monotonic()
        turns = start_turns(client, 10)
        for turn in turns:
            turn.result(timeout=WAIT)
        assert unfinished(system) > 30
        assert time.monotonic() - began < 10
    await_end(system)


def test_a_caller_that_keeps_its_transaction_open_delays_its_own_session_only(
    system: System,
) -> None:
    system.start_worker()
    database = Database(system.database_url)
    with system.client() as client:
        session = client.sessions.create(user_id="ada")
        running = client.send(session, "first", metadata={"mock": {"latency": 0.5}})
        until(lambda: system.calls_of(running.id))
        with database.begin() as conn:
            waiting = client.send(session, "second", connection=conn)
            others = start_turns(client, 100)
            for turn in others:
                turn.result(timeout=WAIT)
            assert running.refresh().state == "running"
        assert course(running.result(timeout=WAIT).attempts) == [("send", "succeeded")]
        waiting.result(timeout=WAIT)
    database.close()


def test_a_message_in_a_transaction_that_was_rolled_back_was_never_sent(system: System) -> None:
    database = Database(system.database_url)
    with system.client() as client:
        session = client.sessions.create(user_id="ada")
        with database.engine.connect() as conn:
            client.send(session, "never", connection=conn)
            conn.rollback()
        assert list(client.sessions.history(session)) == []
        assert client.sessions.get(session).unfinished == 0
    database.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_poison_turn_among_many_dies_alone(system: System, many: int) -> None:
    victim = system.start_worker(concurrency=many + 100)
    with system.client() as client:
        healthy = start_turns(client, many - 1, script={"latency": 600})
        await_calls(system, len(healthy))
        session = client.sessions.create(user_id="eve")
        poison = client.send(session, "x", metadata={"mock": {"faults": "segfault"}})
        following = client.send(session, "and after it")
        until(lambda: victim.poll() is not None)
        soften(system, healthy)
        system.start_worker(concurrency=many + 100)
        await_end(system, within=2 * LONG)
        record = poison.refresh().record
        assert (record.state, record.error_code) == ("dead", "worker_lost")
        assert following.refresh().state == "succeeded"
    books = Books.of(system)
    assert (books.count("succeeded"), books.count("dead")) == (many, 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_turns_of_a_killed_worker_are_taken_over(system: System, many: int) -> None:
    victim = system.start_worker(concurrency=many)
    with system.client() as client:
        turns = start_turns(client, many, script={"latency": 600})
        await_calls(system, many)
        rescuer = system.start_worker(concurrency=many)
        soften(system, turns)
        kill(victim)
        since = time.time()
        await_end(system)
    assert rescuer.poll() is None
    seconds = seconds_to_take_over(system, since)
    assert len(seconds) == many
    late = max(seconds) - system.lease.total_seconds()
    logger.info("%d turns taken over within lease + %.1f s", many, late)
    assert max(seconds) < system.lease.total_seconds() + 20
    assert {turn.lost for turn in Books.of(system).turns} == {1}
