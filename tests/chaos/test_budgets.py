"""Money stays exact while workers are killed: spent and reserved are never above the limit."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.chaos.books import Books
from tests.chaos.stage import Stage, course
from tests.chaos.system import PATIENCE, Servers, System, kill, until
from turnmill import Budget, Client, SessionRecord, StoreError
from turnmill.store.database import Database
from turnmill.store.upkeep.invariants import violations
from turnmill_worker.stack.process import Child

WAIT = PATIENCE.total_seconds()
LEASE = timedelta(seconds=2)
#: "hello" is two tokens, and the shortest reply to it nine.
CALL = 2 * Decimal("0.001") + 9 * Decimal("0.01")
SETTINGS = {"max_output_tokens": 9}
LOST, SENT = ("send", "lost"), ("send", "succeeded")


def priced(folder: Path) -> dict[str, str]:
    path = folder / "prices.json"
    path.write_text(json.dumps({"mock/*": {"input": 1_000, "output": 10_000}}))
    return {"TURNMILL_PRICES": str(path)}


@contextmanager
def watched(client: Client) -> Iterator[list[Decimal]]:
    """Look at the budget all the time; yields by how much it was overdrawn, at each look."""
    over: list[Decimal] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.002):
            try:
                found = client.budgets.get()
            except StoreError:
                continue
            over.append(found.spent_usd + found.reserved_usd - found.limit_usd)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for one in readers:
        one.start()
    yield over
    done.set()
    for one in readers:
        one.join()


def sessions_of(client: Client, many: int) -> list[SessionRecord]:
    return [client.sessions.create(user_id=f"u{n % 9}", settings=SETTINGS) for n in range(many)]


def free_again(client: Client) -> Budget:
    """Wait until nothing is reserved any more: it has a lease and three seconds for that."""
    until(lambda: client.budgets.get().reserved_usd == 0, within=LEASE + timedelta(seconds=3))
    return client.budgets.get()


@pytest.mark.parametrize(
    ("turns", "kills", "flushes", "calls"),
    [
        pytest.param(200, 4, 1, 40, id="small"),
        pytest.param(1000, 20, 5, 100, id="whole", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(600)
def test_a_budget_holds_whatever_is_killed_and_refuses_nothing_that_fits(
    servers: Servers, turns: int, kills: int, flushes: int, calls: int
) -> None:
    with System(servers, lease=LEASE) as system, system.client() as client:
        system.environment |= priced(system.folder) | {"TURNMILL_MOCK_LATENCY": "0.3-1.5"}
        limit = calls * CALL
        client.budgets.set(limit_usd=limit, period="total")
        workers = [system.launch_worker(concurrency=10) for _ in range(4)]
        system.await_ready(*workers)
        sent = [(one, "hello") for one in sessions_of(client, turns)]
        with watched(client) as over:
            client.send_many(sent)
            hurt(system, workers, kills=kills, flushes=flushes)
            until(lambda: not _unfinished(system), within=4 * PATIENCE)
            found = free_again(client)
        assert len(over) > 50 and max(over) <= 0
        assert system.count_calls("completed") * CALL <= found.spent_usd <= limit
        states = Counter(_ended(system))
        assert set(states) == {("succeeded", None), ("failed", "budget_exceeded")}
        assert found.spent_usd + CALL > limit, "a turn was refused that would have fitted"
        _assert_sound(system)
        assert Books.of(system).complaints() == []


def hurt(system: System, workers: list[Child], *, kills: int, flushes: int) -> None:
    """Kill workers as soon as each has begun something, and empty Redis now and then."""
    for n in range(kills):
        enough, late = system.count_calls() + 5, time.monotonic() + 1
        until(lambda: system.count_calls() > enough or time.monotonic() > late)  # noqa: B023
        kill(workers.pop(0))
        workers.append(system.launch_worker(concurrency=10))
        if n % (kills // flushes) == 0:
            with system.servers.redis() as redis:
                redis.flushall()


def _unfinished(system: System) -> int:
    return int(system.rows("SELECT sum(unfinished) FROM turnmill.sessions")[0][0])


def _ended(system: System) -> list[tuple[str, str | None]]:
    return [(one[0], one[1]) for one in system.rows("SELECT state, error_code FROM turnmill.turns")]


def _assert_sound(system: System) -> None:
    database = Database(system.database_url)
    with database.begin() as conn:
        assert [str(one) for one in violations(conn)] == []
    database.close()


@pytest.fixture(scope="module")
def stage(servers: Servers) -> Iterator[Stage]:
    with System(servers, lease=LEASE) as system, system.client() as client:
        system.environment |= priced(system.folder)
        client.budgets.set(user_id="ada", limit_usd=1000, period="total")
        yield Stage(system, client)
        _assert_sound(system)
        assert Books.of(system).complaints() == []


@pytest.mark.parametrize(
    ("point", "outcomes", "costs"),
    [
        ("reserve.before", [LOST, ("check", "absent"), SENT], 1),
        ("reserve.after", [LOST, ("check", "absent"), SENT], 1),
        ("settle.before", [LOST, ("check", "succeeded")], 1),
        ("settle.after", [SENT], 1),
    ],
)
def test_a_worker_that_dies_around_its_books_costs_nobody_anything(
    stage: Stage, point: str, outcomes: list[tuple[str, str]], costs: int
) -> None:
    before = stage.client.budgets.get(user_id="ada")
    stage.arm(point)
    turn = stage.client.send(stage.session(settings=SETTINGS), "hello")
    stage.fall()
    assert course(turn.result(timeout=WAIT).attempts) == outcomes
    until(lambda: stage.client.budgets.get(user_id="ada").reserved_usd == 0)
    after = stage.client.budgets.get(user_id="ada")
    assert after.spent_usd - before.spent_usd == costs * CALL
    assert after.estimated_usd == before.estimated_usd


def test_a_call_that_was_cut_in_the_middle_stays_charged_as_an_estimate(stage: Stage) -> None:
    before = stage.client.budgets.get(user_id="ada")
    turn = stage.client.send(
        stage.session(settings=SETTINGS), "hello", metadata={"mock": {"latency": 600}}
    )
    stage.await_call(turn)
    during = stage.client.budgets.get(user_id="ada")
    assert during.reserved_usd == CALL
    stage.kill_owner(turn)
    until(lambda: stage.client.budgets.get(user_id="ada").estimated_usd > before.estimated_usd)
    until(lambda: stage.client.budgets.get(user_id="ada").reserved_usd == CALL)  # it is sent again
    turn.cancel(wait=True)
    after = stage.client.budgets.get(user_id="ada")
    assert after.reserved_usd == 0
    assert after.spent_usd - before.spent_usd == 2 * CALL
    assert after.estimated_usd - before.estimated_usd == 2 * CALL
