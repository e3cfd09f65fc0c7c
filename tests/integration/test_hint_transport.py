"""How a worker takes hints from Redis: by the handful, and never more than it can run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.integration.pool_worker import SOON, PoolWorker
from turnmill_worker.stack.process import wait_until

SOME = 40


@pytest.fixture
def worker(broker_url: str, tmp_path: Path) -> Iterator[PoolWorker]:
    """A worker with slots for all, that is yet to be started; its messages are there first."""
    worker = PoolWorker("asyncio", broker_url, tmp_path, f"--concurrency={SOME}")
    worker.broker.config_resetstat()
    for _ in range(SOME):
        worker.send("hint", 0.0, "taken", queue="hints")
    try:
        yield worker
    finally:
        worker.__exit__()


def calls(broker: redis.Redis) -> dict[str, int]:
    """Return how often each of the two commands was run."""
    stats: dict[str, dict[str, int]] = broker.info("commandstats")
    return {name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("brpop", "blmpop")}


def allow(broker: redis.Redis, command: str) -> None:
    broker.execute_command("ACL", "SETUSER", "default", command)  # type: ignore[no-untyped-call]


def test_hints_that_have_piled_up_are_popped_by_the_handful(worker: PoolWorker) -> None:
    worker.start()
    assert wait_until(lambda: worker.done("taken") == SOME, timeout=SOON)
    assert calls(worker.broker)["blmpop"] <= 4


def test_a_server_that_refuses_the_newer_command_is_served_one_by_one(worker: PoolWorker) -> None:
    allow(worker.broker, "-blmpop")
    try:
        worker.start()
        assert wait_until(lambda: worker.done("taken") == SOME, timeout=SOON)
        assert calls(worker.broker) == {"brpop": pytest.approx(SOME, abs=2), "blmpop": 0}
    finally:
        allow(worker.broker, "+blmpop")


def test_a_worker_pops_no_more_than_it_has_slots_for(broker_url: str, tmp_path: Path) -> None:
    options, conf = ("--concurrency=3",), ["worker_disable_prefetch=1"]
    with PoolWorker("asyncio", broker_url, tmp_path, *options, conf=conf) as worker:
        for _ in range(10):
            worker.send("hint", 5.0, "held", queue="hints")
        assert wait_until(lambda: worker.running("held") == 3, timeout=SOON)
        assert len(worker.inspect("active")) == 3
        assert worker.inspect("reserved") == []
        assert worker.broker.llen("hints") == 7
        worker.broker.delete("hints")


@pytest.mark.parametrize("slots", [1, 20], ids=["one by one", "by the handful"])
def test_what_is_no_message_is_dropped_and_the_hints_behind_it_are_taken(
    slots: int, broker_url: str, tmp_path: Path
) -> None:
    with PoolWorker("asyncio", broker_url, tmp_path, f"--concurrency={slots}") as worker:
        worker.broker.lpush("hints", *["litter"] * 50)
        worker.send("hint", 0.0, "taken", queue="hints")
        assert wait_until(lambda: worker.done("taken") == 1, timeout=SOON)
        assert worker.broker.llen("hints") == 0
