"""Cancels in a storm: each answer is true, and the vendor is hung up on within a second."""

import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from tests.chaos.books import Books
from tests.chaos.system import PATIENCE, Servers, System, kill, until
from tests.doubles.slow_vendor import SlowVendor
from turnmill import Client, TurnCancelled, TurnState, TurnTimeout
from turnmill.sync.turns import Turn
from turnmill_worker.stack.process import Child

WAIT = PATIENCE.total_seconds()
CHAT: dict[str, Any] = {"provider": "openai", "model": "gpt-5-mini", "settings": {"api": "chat"}}
#: Heartbeats come every 3 s: where it is faster, they are not what finds a cancel.
LEASE = timedelta(seconds=12)
AT_ONCE = 1.0  #: and not when the lease is extended, which is every three seconds


@pytest.fixture(scope="module")
def vendor() -> Iterator[SlowVendor]:
    vendor = SlowVendor()
    yield vendor
    vendor.stop()


@pytest.fixture(scope="module")
def system(servers: Servers, vendor: SlowVendor) -> Iterator[System]:
    with System(servers, lease=LEASE, environment=vendor.environment) as system:
        yield system
        assert Books.of(system).complaints() == []


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[Client]:
    with system.client() as client:
        yield client


@pytest.fixture
def worker(system: System) -> Child:
    """Return a worker that lives; a test may kill it."""
    alive = [one for one in system.workers.values() if one.poll() is None]
    return alive[0] if alive else system.start_worker()


def let_leases_end(system: System) -> None:
    """Do in a moment what takes a lease after the death of a worker."""
    system.rows(
        "UPDATE turnmill.turns SET lease_until = now() - interval '1 minute'"
        " WHERE lease_owner IS NOT NULL RETURNING id"
    )


@dataclass(slots=True)
class Cancelled:
    """A turn that somebody has cancelled."""

    turn: Turn
    text: str  #: no other turn says it
    asked_at: float = 0.0  #: when `cancel` had returned
    answered: bool = False  #: the vendor was told to answer it


def sent(client: Client, number: int) -> Cancelled:
    """Return a turn that was sent, in a session of its own."""
    session = client.sessions.create(user_id="ada", **CHAT)
    text = f"say {number:06}"
    return Cancelled(client.send(session, text, lane=("interactive", "bulk")[number % 2]), text)


def begun(client: Client, vendor: SlowVendor) -> Cancelled:
    """Return a turn that waits for its vendor."""
    found = sent(client, 100_000 + len(vendor.requests()))
    until(lambda: vendor.open(found.text))
    return found


def hung_up(vendor: SlowVendor, text: str) -> float:
    """Return when the vendor was hung up on, which it learns a moment after we know the verdict."""
    until(lambda: not vendor.open(text))
    closed_at = vendor.requests(text)[-1].closed_at
    assert closed_at is not None, "it was answered"
    return closed_at


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def test_a_cancel_is_heard_while_the_broker_is_away(
    system: System, worker: Child, client: Client, vendor: SlowVendor
) -> None:
    item = begun(client, vendor)
    with system.servers.frozen_redis():
        item.turn.cancel()
        asked_at = time.monotonic()
        assert item.turn.cancel(wait=True, timeout=WAIT) is TurnState.CANCELLED
    assert hung_up(vendor, item.text) - asked_at < AT_ONCE
    assert len(vendor.requests(item.text)) == 1
    (attempt,) = item.turn.attempts()
    assert (attempt.outcome, attempt.estimated) == ("cancelled", True)
    assert attempt.input_tokens == 3  # of ten letters


def test_a_cancel_that_nobody_heard_is_found_all_the_same(
    system: System, worker: Child, client: Client, vendor: SlowVendor
) -> None:
    item = begun(client, vendor)
    system.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND starts_with(query, 'LISTEN')"
    )
    item.turn.cancel()
    assert item.turn.cancel(wait=True, timeout=10) is TurnState.CANCELLED
    assert hung_up(vendor, item.text)


def test_a_worker_that_dies_between_cancel_and_verdict_leaves_a_cancelled_turn(
    system: System, worker: Child, client: Client, vendor: SlowVendor
) -> None:
    item = begun(client, vendor)
    os.kill(worker.pid, signal.SIGSTOP)
    assert item.turn.cancel() is TurnState.RUNNING
    with pytest.raises(TurnTimeout):
        item.turn.cancel(wait=True, timeout=0.2)
    kill(worker)
    system.start_worker()
    let_leases_end(system)
    assert item.turn.cancel(wait=True, timeout=WAIT) is TurnState.CANCELLED
    with pytest.raises(TurnCancelled):
        item.turn.result(timeout=0)
    assert [one.outcome for one in item.turn.attempts()] == ["lost"]


def test_a_turn_in_quarantine_is_cut_within_a_second(
    system: System, worker: Child, client: Client, vendor: SlowVendor
) -> None:
    item = begun(client, vendor)
    kill(worker)
    let_leases_end(system)
    system.start_worker()
    until(lambda: "/" in (item.turn.refresh().record.lease_owner or ""))
    until(lambda: vendor.open(item.text))
    item.turn.cancel()
    asked_at = time.monotonic()
    assert item.turn.cancel(wait=True, timeout=WAIT) is TurnState.CANCELLED
    assert hung_up(vendor, item.text) - asked_at < AT_ONCE


@pytest.mark.timeout(900)
@pytest.mark.parametrize("many", [200, pytest.param(1_000, marks=pytest.mark.slow)])
def test_of_many_cancels_under_kill_9_and_flushall_each_answer_is_true(
    servers: Servers, vendor: SlowVendor, many: int
) -> None:
    with System(servers, lease=LEASE, environment=vendor.environment) as system:
        workers = [system.launch_worker(concurrency=many) for _ in range(2)]
        system.await_ready(*workers)
        with system.client() as client:
            turns = cancelled_in_a_storm(system, client, vendor, many=many)
            for item in turns:
                assert_told_the_truth(item, item.turn.cancel(wait=True, timeout=WAIT))
        assert Books.of(system).complaints() == []
    until(lambda: not vendor.open())
    waits = [
        max(call.closed_at - item.asked_at, 0.0)
        for item in turns
        for call in vendor.requests(item.text)
        if call.closed_at is not None
    ]
    assert len(waits) > many // 2
    assert percentile(waits, 0.99) <= AT_ONCE, (
        f"of {len(waits)}: p50 {percentile(waits, 0.5):.3f}, p99 {percentile(waits, 0.99):.3f} s"
    )


def cancelled_in_a_storm(
    system: System, client: Client, vendor: SlowVendor, *, many: int
) -> list[Cancelled]:
    """Return turns of which each was cancelled, and some answered at the same moment."""
    first, dice = next(iter(system.workers.values())), random.Random(12)

    def cancel(item: Cancelled) -> None:
        if dice.random() < 0.2:
            item.answered = True
            vendor.answer(item.text)
        item.turn.cancel()
        item.asked_at = time.monotonic()

    with ThreadPoolExecutor(9) as pool:
        turns = list(pool.map(lambda number: sent(client, number), range(many)))
        until(lambda: all(vendor.open(one.text) for one in turns))
        dice.shuffle(turns)
        for n, item in enumerate(turns):
            pool.submit(cancel, item)
            if n == many // 4:
                pool.submit(kill, first)
            if n == many // 2:
                with system.servers.redis() as connection:
                    connection.flushall()
    return turns


def assert_told_the_truth(item: Cancelled, end: TurnState) -> None:
    """Hold what `cancel` has returned to the rows, and to what the vendor has said."""
    done = end is TurnState.SUCCEEDED
    assert done or end is TurnState.CANCELLED
    assert item.turn.refresh().state is end
    assert [one.role for one in item.turn.messages()] == ["user", *["assistant"] * done]
    assert item.answered or not done  # nobody else has an answer
