"""Whatever a task raises or does, its slot is free again and the next task runs."""

import signal
import time
from collections.abc import Iterator
from functools import partial

import pytest
from billiard.exceptions import TimeLimitExceeded
from celery.exceptions import TaskRevokedError

from tests.integration.pool_hostile import RAISED, STUBBORN
from tests.integration.pool_worker import SOON, PoolWorker, Sent, emptied
from turnmill_worker.stack.process import wait_until
from turnmill_worker.stack.valkey import EmbeddedValkey

SLOTS = 8


@pytest.fixture(scope="module")
def worker(
    valkey_server: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PoolWorker]:
    """One worker for all tests but those of its end: what one leaves broken fails the next."""
    folder = tmp_path_factory.mktemp("hostile")
    options = (f"--concurrency={SLOTS}",)
    with PoolWorker(
        "asyncio", emptied(valkey_server.url), folder, *options, tasks="pool_hostile"
    ) as worker:
        yield worker


def is_whole(worker: PoolWorker) -> bool:
    """Tell whether nothing runs, and as many tasks as there are slots then run at once."""
    assert wait_until(lambda: worker.inspect("stats")["pool"]["running"] == 0, timeout=SOON)
    gate = f"gate:{time.monotonic()}"
    sent = [worker.send("waits_at", gate) for _ in range(SLOTS + 1)]
    assert wait_until(lambda: worker.running(gate) == SLOTS, timeout=SOON)
    worker.notes.set(f"{gate}:open", 1)
    for one in sent:
        one.get()
    # The result of the last one is there a moment before the worker has ended it.
    is_idle = wait_until(lambda: worker.inspect("active") == [], timeout=SOON)
    return is_idle and worker.peak(gate) == SLOTS


def outcome(sent: Sent) -> str:
    """Return how a task has ended: the name of a state, never one that is not final."""
    assert wait_until(lambda: sent.state in {"SUCCESS", "FAILURE", "REVOKED"}, timeout=2 * SOON), (
        sent.state
    )
    return sent.state


# What a task raises


@pytest.mark.parametrize("task", ["raises", "raises_at_once", "sync_raises", "child_raises"])
def test_whatever_a_task_raises_it_fails_alone(worker: PoolWorker, task: str) -> None:
    sent = {kind: worker.send(task, kind) for kind in RAISED}
    assert {kind: outcome(one) for kind, one in sent.items()} == dict.fromkeys(RAISED, "FAILURE")
    assert is_whole(worker)


def test_whatever_a_callback_on_the_loop_raises_the_loop_goes_on(worker: PoolWorker) -> None:
    sent = [worker.send("callback_raises", kind) for kind in RAISED]
    assert [one.get() for one in sent] == ["went on"] * len(sent)
    assert is_whole(worker)


def test_a_hook_that_raises_keeps_no_slot(worker: PoolWorker) -> None:
    hooks = ["before_start", "on_success", "on_failure", "after_return"]
    for hook in hooks:
        worker.send("bad_hook", hook)
        worker.send("bad_hook_at_the_limit", hook)
    assert is_whole(worker)


# What belongs to all tasks


@pytest.mark.parametrize("task", ["stops_the_loop", "takes_the_loop_over"])
def test_a_task_that_meddles_with_the_loop_leaves_it_running(worker: PoolWorker, task: str) -> None:
    try:
        assert worker.send(task).get() == "went on"
        assert is_whole(worker)
    finally:
        worker.send("gives_the_loop_back").get()


def test_a_task_cannot_close_the_loop(worker: PoolWorker) -> None:
    with pytest.raises(RuntimeError, match="running event loop"):
        worker.send("closes_the_loop").get()
    assert is_whole(worker)


def test_tasks_that_another_one_cancels_fail_and_keep_no_slot(worker: PoolWorker) -> None:
    naps = [worker.send_other("pool_app.nap", 60.0, "cancelled") for _ in range(3)]
    assert wait_until(lambda: worker.running("cancelled") == 3, timeout=SOON)
    worker.send("cancels_all_others").get()
    assert [outcome(nap) for nap in naps] == ["FAILURE"] * 3
    assert is_whole(worker)


def test_a_generator_that_a_task_leaves_open_is_closed(worker: PoolWorker) -> None:
    assert worker.send("leaves_a_generator_open").get() == 1
    assert wait_until(partial(worker.noted, "generators closed"), timeout=SOON)
    assert is_whole(worker)


# What does not end


@pytest.mark.long
def test_a_task_that_ignores_its_revocation_is_ended(worker: PoolWorker) -> None:
    for task in ("ignores", "hangs_in_a_thread", "spins"):
        sent = worker.send(f"{task}_without_end")
        assert wait_until(partial(worker.noted, task), timeout=SOON)
        worker.app.control.revoke(sent.id, terminate=True)
        with pytest.raises(TaskRevokedError):
            sent.get()
    assert is_whole(worker)


def test_what_a_revoked_task_returns_is_not_stored(worker: PoolWorker) -> None:
    sent = worker.send("is_revoked_and_succeeds")
    assert wait_until(partial(worker.noted, "succeeds"), timeout=SOON)
    worker.app.control.revoke(sent.id, terminate=True)
    assert wait_until(partial(worker.noted, "has succeeded"), timeout=SOON)
    assert is_whole(worker)
    assert sent.state == "REVOKED"


@pytest.mark.long
def test_a_task_that_ignores_its_hard_limit_is_ended_and_no_warm_shutdown_waits_for_it(
    worker: PoolWorker,
) -> None:
    sent = {task: worker.send(task) for task in STUBBORN}
    for one in sent.values():
        with pytest.raises(TimeLimitExceeded):
            one.get()
    assert is_whole(worker)
    lines = [line for line in worker.logged().splitlines() if "ERROR" in line]
    for task in STUBBORN:
        ended = [line for line in lines if f".{task} " in line]
        assert len(ended) == 1, task
    assert worker.inspect("stats")["pool"]["threads-left"] >= 1
    worker.signal(signal.SIGTERM)
    assert worker.gone() == 0
