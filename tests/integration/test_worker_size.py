"""How many turns a worker holds: as many as its pool may run tasks, also when that changes."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from celery import Celery

from turnmill import Client
from turnmill.domain.states import Lane
from turnmill_worker.stack.celery_parts import command_of
from turnmill_worker.stack.process import Child, Program, wait_until

SOON = timedelta(seconds=20)

Start = Callable[..., AbstractContextManager[Path]]


@pytest.fixture
def start(database_url: str, broker_url: str, tmp_path: Path) -> Start:
    """Return what starts a worker with some options; it yields the log, and kills it at last."""

    @contextmanager
    def started(*options: str, latency: str = "0.05") -> Iterator[Path]:
        env = {
            **os.environ,
            "TURNMILL_DATABASE_URL": database_url,
            "TURNMILL_BROKER_URL": broker_url,
            "TURNMILL_MOCK_LATENCY": latency,
            "AUTOSCALE_KEEPALIVE": "1",
        }
        options = (*options, "--hostname=w@test", "--without-gossip", "--without-mingle")
        argv = command_of("worker", *options, "--loglevel=INFO", app="turnmill_worker.app")
        log = tmp_path / "worker.log"
        child = Child.spawn(Program(name="worker", argv=argv, log=log, env=env))
        try:
            assert wait_until(lambda: "ready." in log.read_text(), timeout=SOON), log.read_text()
            yield log
        finally:
            child.kill()

    return started


def send(database_url: str, count: int, *, lane: Lane = Lane.INTERACTIVE) -> None:
    """Send one turn to each of so many sessions, and tell no worker: the dispatcher finds them."""
    with Client(database_url=database_url) as client:
        for _ in range(count):
            client.send(client.sessions.create(user_id="ada"), "Hello", lane=lane)


def count(database_url: str, state: str) -> int:
    with psycopg.connect(database_url) as conn:
        row = conn.execute("SELECT count(*) FROM turns WHERE state = %s", (state,)).fetchone()
    assert row is not None
    return int(row[0])


def holds(database_url: str, number: int) -> bool:
    return wait_until(lambda: count(database_url, "running") == number, timeout=SOON)


@pytest.mark.parametrize("concurrency", [1, 2, 20])
@pytest.mark.parametrize("lane", [Lane.INTERACTIVE, Lane.BULK])
def test_a_small_worker_answers_more_turns_than_it_has_slots(
    lane: Lane, concurrency: int, start: Start, database_url: str
) -> None:
    send(database_url, 50, lane=lane)
    with start(f"--concurrency={concurrency}"):
        assert wait_until(lambda: count(database_url, "succeeded") == 50, timeout=SOON)


def test_a_pool_that_is_told_to_grow_holds_more_turns__and_fewer_when_told_to_shrink(
    start: Start, database_url: str, broker_url: str
) -> None:
    send(database_url, 30)
    control = Celery(broker=broker_url).control
    with start("--concurrency=3", latency="2"):
        assert holds(database_url, 3)
        control.pool_grow(4, destination=["w@test"])
        assert holds(database_url, 7)
        control.pool_shrink(5, destination=["w@test"])
        assert holds(database_url, 2)


def test_an_autoscaled_worker_holds_as_many_turns_as_it_may_grow_to(
    start: Start, database_url: str
) -> None:
    send(database_url, 20)
    with start("--autoscale=9,2", latency="1.5"):
        assert holds(database_url, 9)
        assert wait_until(lambda: count(database_url, "succeeded") == 20, timeout=SOON)


@pytest.mark.parametrize("pool", ["solo", "threads", "prefork"])
def test_celerys_other_pools_answer_turns_of_every_lane(
    pool: str, start: Start, database_url: str
) -> None:
    send(database_url, 10)
    send(database_url, 60, lane=Lane.BULK)
    with start(f"--pool={pool}", "--concurrency=4"):
        assert wait_until(lambda: count(database_url, "succeeded") == 70, timeout=SOON)
