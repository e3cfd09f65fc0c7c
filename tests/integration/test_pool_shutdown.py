"""How a worker ends, dies, loses its broker and grows: a process of its own for each test."""

import signal
from functools import partial
from pathlib import Path

import pytest

from tests.integration.pool_worker import SOON, PoolWorker, Sent
from turnmill_worker.pool.task_pool import SYNC_THREADS
from turnmill_worker.stack.process import wait_until
from turnmill_worker.stack.valkey import EmbeddedValkey

SLOTS = 4


def late_naps(worker: PoolWorker, number: int, seconds: float, gauge: str) -> list[Sent]:
    return [worker.send("late_nap", seconds, gauge) for _ in range(number)]


def loop_user(worker: PoolWorker) -> list[str]:
    """Return what a boot step did on the pool's loop."""
    return [str(what) for what in worker.notes.lrange("loop user", 0, -1)]


@pytest.mark.parametrize("pool", ["asyncio", pytest.param("threads", marks=[pytest.mark.slow])])
def test_a_warm_shutdown_ends_what_runs_and_gives_back_what_waits(
    pool: str, broker_url: str, tmp_path: Path
) -> None:
    with PoolWorker(pool, broker_url, tmp_path, f"--concurrency={SLOTS}") as worker:
        sent = late_naps(worker, 2 * SLOTS, 1.0, "warm")
        assert wait_until(lambda: worker.running("warm") == SLOTS, timeout=SOON)
        assert wait_until(lambda: worker.unacknowledged() == 2 * SLOTS, timeout=SOON)
        worker.signal(signal.SIGTERM)
        assert worker.gone() == 0
        assert [one.state for one in sent].count("SUCCESS") == SLOTS
        assert worker.done("warm") == SLOTS
        assert worker.unacknowledged() == 0
        assert worker.queued() == SLOTS
        assert loop_user(worker) == (["started", "stopped"] if pool == "asyncio" else [])


def test_ordinary_tasks_that_wait_for_a_thread_can_be_revoked_and_are_given_back(
    broker_url: str, tmp_path: Path
) -> None:
    with PoolWorker("asyncio", broker_url, tmp_path, "--concurrency=20") as worker:
        for _ in range(SYNC_THREADS):
            worker.send("late_sync_nap", 2.0, "sync")
        assert wait_until(lambda: worker.running("sync") == SYNC_THREADS, timeout=SOON)
        revoked, waiting = (worker.send("late_sync_nap", 2.0, "sync") for _ in range(2))
        assert wait_until(lambda: worker.unacknowledged() == SYNC_THREADS + 2, timeout=SOON)
        worker.app.control.revoke(revoked.id, terminate=True)
        assert wait_until(lambda: revoked.state == "REVOKED", timeout=SOON)
        worker.signal(signal.SIGTERM)
        assert worker.gone() == 0
        assert worker.done("sync") == SYNC_THREADS
        assert waiting.state == "PENDING"
        assert worker.unacknowledged() == 0
        assert worker.queued() == 1


@pytest.mark.long
def test_a_soft_shutdown_waits_so_long_and_gives_back_the_rest(
    broker_url: str, tmp_path: Path
) -> None:
    conf = ["worker_soft_shutdown_timeout=1.5"]
    with PoolWorker("asyncio", broker_url, tmp_path, "--concurrency=5", conf=conf) as worker:
        short = late_naps(worker, 2, 0.7, "short")
        long = late_naps(worker, 3, 60.0, "long")
        late_naps(worker, 1, 0.1, "waiting")
        assert wait_until(lambda: worker.unacknowledged() == 6, timeout=SOON)
        assert wait_until(
            lambda: worker.running("short") + worker.running("long") == 5, timeout=SOON
        )
        worker.signal(signal.SIGQUIT)
        worker.gone()
        assert [one.state for one in short] == ["SUCCESS"] * 2
        assert "SUCCESS" not in [one.state for one in long]
        assert worker.running("long") == 0
        assert worker.done("waiting") == 0
        assert worker.unacknowledged() == 0
        assert worker.queued() == 4
        assert loop_user(worker) == ["started", "terminated"]


def test_a_cold_shutdown_during_a_warm_one_cancels_and_gives_back(
    broker_url: str, tmp_path: Path
) -> None:
    with PoolWorker("asyncio", broker_url, tmp_path, "--concurrency=8") as worker:
        late_naps(worker, 3, 60.0, "cold")
        assert wait_until(lambda: worker.running("cold") == 3, timeout=SOON)
        worker.signal(signal.SIGTERM)
        assert wait_until(lambda: "Warm shutdown" in worker.logged(), timeout=SOON)
        worker.signal(signal.SIGQUIT)
        worker.gone()
        assert worker.running("cold") == 0
        assert worker.done("cold") == 3
        assert worker.unacknowledged() == 0
        assert worker.queued() == 3


@pytest.mark.long
def test_what_a_killed_worker_had_not_acknowledged_runs_again(
    broker_url: str, tmp_path: Path
) -> None:
    conf = ["visibility_timeout=2"]
    with PoolWorker("asyncio", broker_url, tmp_path, "--concurrency=8", conf=conf) as worker:
        sent = late_naps(worker, 3, 1.0, "killed")
        assert wait_until(lambda: worker.running("killed") == 3, timeout=SOON)
        worker.signal(signal.SIGKILL)
        assert worker.gone() == -signal.SIGKILL
        assert worker.unacknowledged() == 3
        worker.start()
        assert [one.get(within=3 * SOON) for one in sent] == [1.0] * 3
        assert worker.done("killed") == 3


# Tasks that do not end


@pytest.mark.long
def test_a_cold_shutdown_leaves_behind_whatever_does_not_end(
    broker_url: str, tmp_path: Path
) -> None:
    with PoolWorker(
        "asyncio", broker_url, tmp_path, "--concurrency=4", tasks="pool_hostile"
    ) as worker:
        for task in ("ignores", "hangs_in_a_thread", "hangs_elsewhere", "spins"):
            worker.send(f"{task}_without_end")
            assert wait_until(partial(worker.noted, task), timeout=SOON)
        worker.signal(signal.SIGQUIT)
        worker.gone()
        assert "the process leaves threads behind" in worker.logged()


# The broker goes away


@pytest.mark.long
def test_tasks_survive_a_restart_of_the_broker_and_keep_their_slots(
    home: Path, tmp_path: Path
) -> None:
    with (
        EmbeddedValkey(home, port=0) as server,
        PoolWorker("asyncio", server.url, tmp_path, f"--concurrency={SLOTS}") as worker,
    ):
        for _ in range(SLOTS - 1):
            worker.send("nap", 6.0, "restart")
        assert wait_until(lambda: worker.running("restart") == SLOTS - 1, timeout=SOON)
        assert wait_until(lambda: worker.unacknowledged() == 0, timeout=SOON)
        server.kill()
        server.restart()
        for _ in range(4):
            worker.send("nap", 0.1, "restart")
        assert wait_until(lambda: worker.done("restart") >= 4, timeout=2 * SOON)
        assert worker.running("restart") == SLOTS - 1, "the first ones ended too soon to tell"
        assert worker.peak("restart") == SLOTS
        assert wait_until(lambda: worker.done("restart") == SLOTS + 3, timeout=SOON)
        assert worker.inspect("active") == []
        assert worker.inspect("stats")["pool"]["running"] == 0


# Bounds


@pytest.mark.long
def test_autoscale_and_disabled_prefetch_bound_what_is_taken__per_child_bounds_are_refused_aloud(
    broker_url: str, tmp_path: Path
) -> None:
    options = ("--autoscale=6,2", "--max-tasks-per-child=5")
    conf = ["worker_disable_prefetch=1"]
    env = {"AUTOSCALE_KEEPALIVE": "1"}
    with PoolWorker("asyncio", broker_url, tmp_path, *options, conf=conf, env=env) as worker:
        assert "maxtasksperchild is ignored" in worker.logged()
        for _ in range(10):
            worker.send("nap", 1.5, "scaled")
        assert wait_until(lambda: worker.running("scaled") == 6, timeout=SOON)
        assert worker.queued() == 4
        assert wait_until(lambda: worker.done("scaled") == 10, timeout=SOON)
        assert worker.peak("scaled") == 6

        def limit() -> int:
            return int(worker.inspect("stats")["pool"]["max-concurrency"])

        assert wait_until(lambda: limit() == 2, timeout=SOON)


# The other pools


@pytest.mark.long
@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_coroutine_tasks_run_under_celerys_other_pools_too(
    pool: str, broker_url: str, tmp_path: Path
) -> None:
    with PoolWorker(pool, broker_url, tmp_path, "--concurrency=1") as worker:
        sent = worker.send("identity")
        assert sent.get() == [sent.id, sent.id, sent.id, True]
        assert worker.send("structured").get() == ["timed out", "child"]
        assert worker.send("auto").get() == 2
        if pool == "prefork":
            limited = worker.send("softly_limited_seconds", 60.0)
            assert limited.get() == "cleaned up"
        worker.signal(signal.SIGTERM)
        assert worker.gone() == 0
