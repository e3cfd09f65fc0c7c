"""How many turns a worker holds: as many as its pool may run tasks, also when that changes."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
from celery import Celery

from turnmill import Client
from turnmill.domain.states import Lane
from turnmill_worker.stack.celery_parts import command_of
from turnmill_worker.stack.process import Child, Program, wait_until

SOON = timedelta(seconds=20)

Start = Callable[..., AbstractContextManager[Child]]


@pytest.fixture
def start(database_url: str, broker_url: str, tmp_path: Path) -> Start:
    """Return what starts a worker with some options; the worker is killed at last."""

    @contextmanager
    def started(*options: str, latency: str = "0.05") -> Iterator[Child]:
        env = {
            **os.environ,
            "TURNMILL_DATABASE_URL": database_url,
            "TURNMILL_BROKER_URL": broker_url,
            "TURNMILL_MOCK_LATENCY": latency,
            "TURNMILL_GRACE": "1",
            "AUTOSCALE_KEEPALIVE": "1",
        }
        options = (*options, "--hostname=w@test", "--without-gossip", "--without-mingle")
        argv = command_of("worker", *options, "--loglevel=INFO", app="turnmill_worker.app")
        log = tmp_path / "worker.log"
        child = Child.spawn(Program(name="worker", argv=argv, log=log, env=env))
        try:
            assert wait_until(lambda: "ready." in log.read_text(), timeout=SOON), log.read_text()
            yield child
        finally:
            child.kill()

    return started


def send(
    database_url: str, count: int, *, lane: Lane = Lane.INTERACTIVE, seconds: float | None = None
) -> None:
    """Send one turn to each of so many sessions, and tell no worker: the dispatcher finds them."""
    metadata = {} if seconds is None else {"mock": {"latency": seconds}}
    with Client(database_url=database_url) as client:
        for _ in range(count):
            session = client.sessions.create(user_id="ada")
            client.send(session, "Hello", lane=lane, metadata=metadata)


def count(database_url: str, state: str) -> int:
    with psycopg.connect(database_url) as conn:
        row = conn.execute(
            "SELECT count(*) FROM turnmill.turns WHERE state = %s", (state,)
        ).fetchone()
    assert row is not None
    return int(row[0])


def holds(database_url: str, number: int) -> bool:
    return wait_until(lambda: count(database_url, "running") == number, timeout=SOON)


@pytest.mark.long
@pytest.mark.parametrize("concurrency", [1, 2, 20])
def test_a_small_worker_answers_more_turns_than_it_has_slots(
    concurrency: int, start: Start, database_url: str
) -> None:
    send(database_url, 50, lane=Lane.BULK)
    with start(f"--concurrency={concurrency}"):
        assert wait_until(lambda: count(database_url, "succeeded") == 50, timeout=SOON)
        send(database_url, 50)
        assert wait_until(lambda: count(database_url, "succeeded") == 100, timeout=SOON)


@pytest.mark.long
@pytest.mark.parametrize("concurrency", [2, pytest.param(20, marks=[pytest.mark.slow])])
def test_bulk_turns_that_wait_leave_room_for_interactive_ones(
    concurrency: int, start: Start, database_url: str, broker_url: str
) -> None:
    send(database_url, 500, lane=Lane.BULK, seconds=120.0)
    with (
        start(f"--concurrency={concurrency}"),
        Client(database_url=database_url, broker_url=broker_url) as client,
    ):
        assert wait_until(lambda: count(database_url, "running") > 0, timeout=SOON)
        session = client.sessions.create(user_id="ada")
        for _ in range(40):  # meanwhile the dispatcher looks at the lane again and again
            client.send(session, "Hello").result(timeout=SOON.total_seconds())


@pytest.mark.long
def test_a_slow_bulk_turn_keeps_no_other_one_waiting(start: Start, database_url: str) -> None:
    send(database_url, 3, lane=Lane.BULK, seconds=120.0)
    send(database_url, 100, lane=Lane.BULK)
    with start("--concurrency=20"):
        assert wait_until(lambda: count(database_url, "succeeded") == 100, timeout=SOON)
        assert count(database_url, "running") == 3


def test_a_worker_that_ends_names_the_turns_that_outlast_it_and_begins_none_that_wait(
    start: Start, database_url: str, broker_url: str
) -> None:
    send(database_url, 40, seconds=120.0)
    with start("--concurrency=3") as worker:
        assert holds(database_url, 3)
        worker.ask_to_stop()
        assert wait_until(lambda: worker.poll() is not None, timeout=SOON)
        assert worker.poll() == 0
        outlasting = [
            one for one in worker.program.log.read_text().splitlines() if "outlast" in one
        ]
    assert count(database_url, "running") == 0
    [line] = outlasting
    assert " WARNING " in line and "3 turns outlast" in line and len(line.split(", ")) == 4
    with psycopg.connect(database_url) as conn:
        assert conn.execute("SELECT count(*) FROM turnmill.attempts").fetchone() == (3,)


@pytest.mark.long
def test_a_pool_that_is_told_to_grow_holds_more_turns__and_fewer_when_told_to_shrink(
    start: Start, database_url: str, broker_url: str
) -> None:
    send(database_url, 200)
    with Celery(broker=broker_url) as app, start("--concurrency=3", latency="1"):
        assert holds(database_url, 3)
        app.control.pool_grow(4, destination=["w@test"])
        assert holds(database_url, 7)
        app.control.pool_shrink(5, destination=["w@test"])
        assert holds(database_url, 2)
        more = partial(wait_until, lambda: count(database_url, "running") > 2)
        assert not more(timeout=timedelta(seconds=2.5))


@pytest.mark.long
def test_an_autoscaled_worker_holds_as_many_turns_as_it_may_grow_to(
    start: Start, database_url: str
) -> None:
    send(database_url, 20)
    with start("--autoscale=9,2", latency="1.5"):
        assert holds(database_url, 9)
        assert wait_until(lambda: count(database_url, "succeeded") == 20, timeout=SOON)


@pytest.mark.long
@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_celerys_pools_of_one_process_answer_turns_of_every_lane_and_drain(
    pool: str, start: Start, database_url: str
) -> None:
    send(database_url, 10)
    send(database_url, 20, lane=Lane.BULK)
    with start(f"--pool={pool}", "--concurrency=4") as worker:
        assert wait_until(lambda: count(database_url, "succeeded") == 30, timeout=SOON)
        send(database_url, 3, seconds=120.0)
        assert wait_until(lambda: count(database_url, "running") > 0, timeout=SOON)
        worker.ask_to_stop()
        assert wait_until(lambda: worker.poll() is not None, timeout=SOON)
        assert worker.poll() == 0
    assert count(database_url, "running") == 0
