"""The asyncio pool held to what Celery's users know, item by item, beside the `threads` pool.

Where the two differ, the name of the test says so, and a table beside it says how.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import chain, chord
from celery.exceptions import TaskRevokedError

from tests.integration.pool_worker import SOON, PoolWorker, Sent, emptied
from turnmill_worker.stack.process import wait_until
from turnmill_worker.stack.valkey import EmbeddedValkey

SLOTS = 4
PATIENCE = SOON.total_seconds()


@pytest.fixture(scope="module", params=["asyncio", "threads"])
def worker(
    request: pytest.FixtureRequest,
    valkey_server: EmbeddedValkey,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PoolWorker]:
    """One worker for all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("pool")
    options = (f"--concurrency={SLOTS}", "--task-events")
    with PoolWorker(request.param, emptied(valkey_server.url), folder, *options) as worker:
        worker.listen()
        yield worker


@pytest.fixture
def gauge(worker: PoolWorker, request: pytest.FixtureRequest) -> str:
    """A name under which the tasks of this test are counted."""
    return f"{worker.pool}:{request.node.originalname}"


def settled(worker: PoolWorker, task_id: str, event: str) -> list[str]:
    """Wait for the last event of a task; return them all in order, without that of the sender."""
    assert wait_until(lambda: event in worker.events_of(task_id), timeout=SOON)
    return [kind for kind in worker.events_of(task_id) if kind != "task-sent"]


def until_echo(entries: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return takewhile(lambda entry: not str(entry["command"]).startswith("ECHO"), entries)


# What a task sees


def test_a_task_sees_its_request_before_and_after_it_waits(worker: PoolWorker) -> None:
    sent = worker.send("identity")
    assert sent.get() == [sent.id, sent.id, sent.id, True]


def test_timeouts_and_task_groups_work_inside_a_task(worker: PoolWorker) -> None:
    assert worker.send("structured").get() == ["timed out", "child"]


def test_an_ordinary_task_runs_in_a_thread_beside_the_coroutines(worker: PoolWorker) -> None:
    thread = worker.send("sync_nap", 0.0).get()
    assert thread not in {"MainThread", "turnmill-pool"}


@pytest.mark.parametrize("task", ["add_by_another", "sync_add_by_another"])
def test_a_task_calls_another_as_a_function(worker: PoolWorker, task: str) -> None:
    assert worker.send(task, 1, 2).get() == 3


# How a task ends


def test_a_success_is_signalled_and_shown(worker: PoolWorker) -> None:
    sent = worker.send("add", 1, 2)
    assert sent.get() == 3
    events = settled(worker, sent.id, "task-succeeded")
    assert events == ["task-received", "task-started", "task-succeeded"]
    signals = worker.notes.lrange(f"signals:{sent.id}", 0, -1)
    assert signals == ["prerun", "success", "postrun"]


def test_a_failure_is_signalled_shown_and_raised_at_the_caller(worker: PoolWorker) -> None:
    sent = worker.send("boom")
    with pytest.raises(RuntimeError, match="boom"):
        sent.get()
    events = settled(worker, sent.id, "task-failed")
    assert events == ["task-received", "task-started", "task-failed"]
    signals = worker.notes.lrange(f"signals:{sent.id}", 0, -1)
    assert signals == ["prerun", "failure", "postrun"]


@pytest.mark.parametrize("task", ["flaky", "auto"])
def test_a_task_is_retried_by_hand_and_automatically(worker: PoolWorker, task: str) -> None:
    sent = worker.send(task)
    assert sent.get() == 2
    events = settled(worker, sent.id, "task-succeeded")
    assert events.count("task-retried") == 2


def test_a_retry_that_is_only_raised_is_shown_and_publishes_nothing(worker: PoolWorker) -> None:
    sent = worker.send("retried_elsewhere")
    events = settled(worker, sent.id, "task-retried")
    assert events == ["task-received", "task-started", "task-retried"]
    assert sent.state == "RETRY"
    assert worker.queued() == 0


@pytest.mark.parametrize("task", ["ignored", "rejected"])
def test_a_message_that_is_ignored_or_rejected_is_gone(worker: PoolWorker, task: str) -> None:
    sent = worker.send(task)
    settled(worker, sent.id, "task-started")
    assert wait_until(lambda: worker.unacknowledged() == 0, timeout=SOON)
    assert worker.queued() == 0
    assert "task-succeeded" not in worker.events_of(sent.id)


def test_a_late_acknowledgement_comes_as_soon_as_the_task_has_ended(worker: PoolWorker) -> None:
    worker.send("late_nap", 0.01).get()
    assert wait_until(lambda: worker.unacknowledged() == 0, timeout=SOON)


@pytest.mark.parametrize(("task", "queue", "written"), [("nap", "celery", 1), ("hint", "hints", 0)])
def test_only_what_is_to_be_acknowledged_is_written_down_as_such(
    worker: PoolWorker, gauge: str, task: str, queue: str, written: int
) -> None:
    with worker.broker.monitor() as monitor:  # type: ignore[no-untyped-call]
        assert worker.send(task, 0.0, gauge, queue=queue).get() == 0.0
        worker.broker.echo("the end")
        said = [str(entry["command"]) for entry in until_echo(monitor.listen())]
    assert [command.startswith(f"LPUSH {queue} ") for command in said].count(True) == 1
    for verb in ("ZADD unacked_index ", "ZREM unacked_index "):
        assert [command.startswith(verb) for command in said].count(True) == written


def test_chains_and_chords_pass_results_on(worker: PoolWorker) -> None:
    tasks = "tests.integration.pool_app"
    add, total = (worker.app.signature(f"{tasks}.{name}") for name in ("add", "sync_sum"))
    chained = chain(add.clone((1, 2)), add.clone((3,))).apply_async()
    assert chained.get(timeout=PATIENCE) == 6
    header = [add.clone((number, number)) for number in range(3)]
    assert chord(header, app=worker.app)(total).get(timeout=PATIENCE) == 6


def test_a_task_that_exits_fails_alone__under_threads_it_is_lost(worker: PoolWorker) -> None:
    sent = worker.send("exits")
    if worker.pool == "threads":
        settled(worker, sent.id, "task-started")
        assert sent.state == "PENDING"  # and nobody ever hears of it again
    else:
        with pytest.raises(WorkerLostError):
            sent.get()
        settled(worker, sent.id, "task-failed")
    assert worker.send("add", 1, 2).get() == 3


# When a task runs


def test_as_many_run_at_once_as_there_are_slots(worker: PoolWorker, gauge: str) -> None:
    sent = [worker.send("nap", 0.1, gauge) for _ in range(3 * SLOTS)]
    assert [one.get() for one in sent] == [0.1] * len(sent)
    assert worker.peak(gauge) == SLOTS


def test_a_countdown_is_waited_for_and_an_expired_task_never_starts(worker: PoolWorker) -> None:
    later = worker.send("add", 1, 2, countdown=0.2)
    stale = worker.send("add", 1, 2, expires=datetime.now(UTC) - timedelta(seconds=1))
    assert later.get() == 3
    with pytest.raises(TaskRevokedError):
        stale.get()
    assert "task-started" not in worker.events_of(stale.id)


SOFT_LIMIT = {"asyncio": "cleaned up", "threads": "slept"}


def test_a_soft_time_limit_is_raised_in_the_task__threads_ignore_it(worker: PoolWorker) -> None:
    sent = worker.send("softly_limited", 0.8)
    assert sent.get() == SOFT_LIMIT[worker.pool]


def test_a_hard_time_limit_cancels_the_task__threads_ignore_it(
    worker: PoolWorker, gauge: str
) -> None:
    sent = worker.send("hardly_limited", 0.8, gauge)
    if worker.pool == "threads":
        assert sent.get() == "slept"
        return
    with pytest.raises(TimeLimitExceeded):
        sent.get()
    assert wait_until(lambda: worker.done(gauge) == 1, timeout=SOON)
    events = settled(worker, sent.id, "task-failed")
    assert events == ["task-received", "task-started", "task-failed"]


# Remote control


@contextmanager
def occupied(worker: PoolWorker, gauge: str) -> Iterator[list[Sent]]:
    """Keep all slots filled for as long as it takes."""
    worker.notes.delete(f"{gauge}:over")
    sent = [worker.send("held", gauge) for _ in range(SLOTS)]
    try:
        assert wait_until(lambda: worker.running(gauge) == SLOTS, timeout=SOON)
        yield sent
    finally:
        worker.notes.set(f"{gauge}:over", 1)
    assert wait_until(lambda: worker.running(gauge) == 0, timeout=SOON)


def test_inspect_tells_what_runs_and_what_waits(worker: PoolWorker, gauge: str) -> None:
    with occupied(worker, gauge) as running:
        waiting = worker.send("add", 1, 2)
        settled(worker, waiting.id, "task-received")
        assert {one.id for one in running} <= {one["id"] for one in worker.inspect("active")}
        assert waiting.id in {one["id"] for one in worker.inspect("reserved")}
        stats = worker.inspect("stats")
    assert stats["pool"]["max-concurrency"] == SLOTS
    assert stats["pool"].get("processes") == {"asyncio": [stats["pid"]]}.get(worker.pool)
    assert waiting.get() == 3


REVOKED_WAITING = {
    "asyncio": ("REVOKED", ["task-received", "task-revoked"]),
    "threads": ("SUCCESS", ["task-received", "task-started", "task-succeeded"]),
}


def test_a_task_that_waits_can_be_revoked__under_threads_it_runs(
    worker: PoolWorker, gauge: str
) -> None:
    state, expected = REVOKED_WAITING[worker.pool]
    with occupied(worker, gauge):
        waiting = worker.send("add", 1, 2)
        settled(worker, waiting.id, "task-received")
        worker.app.control.revoke(waiting.id, destination=[worker.name], reply=True, timeout=5)
    assert wait_until(lambda: waiting.state == state, timeout=SOON)
    assert settled(worker, waiting.id, expected[-1]) == expected


def test_revoking_with_terminate_cancels_the_task__under_threads_it_runs_on(
    worker: PoolWorker, gauge: str
) -> None:
    sent = worker.send("nap", 1.0 if worker.pool == "threads" else 60.0, gauge)
    assert wait_until(lambda: worker.running(gauge) == 1, timeout=SOON)
    worker.app.control.revoke(sent.id, terminate=True)
    if worker.pool == "threads":
        assert sent.get() == 1.0
        return
    with pytest.raises(TaskRevokedError):
        sent.get()
    assert wait_until(lambda: worker.running(gauge) == 0, timeout=SOON)
    events = settled(worker, sent.id, "task-revoked")
    assert events == ["task-received", "task-started", "task-revoked"]
    assert wait_until(lambda: worker.inspect("stats")["pool"]["running"] == 0, timeout=SOON)


def test_the_pool_grows_and_shrinks_while_tasks_run__threads_cannot(
    worker: PoolWorker, gauge: str
) -> None:
    grown = worker.app.control.pool_grow(2, destination=[worker.name], reply=True, timeout=5)
    if worker.pool == "threads":
        assert "error" in grown[0][worker.name]
        return
    growing = [worker.send("nap", 0.3, gauge) for _ in range(SLOTS + 4)]
    assert wait_until(lambda: worker.running(gauge) == SLOTS + 2, timeout=SOON)
    worker.app.control.pool_shrink(2, destination=[worker.name], reply=True, timeout=5)
    assert [one.get() for one in growing] == [0.3] * len(growing)
    assert worker.peak(gauge) == SLOTS + 2
    after = [worker.send("nap", 0.1, f"{gauge}:after") for _ in range(3 * SLOTS)]
    assert [one.get() for one in after] == [0.1] * len(after)
    assert worker.peak(f"{gauge}:after") == SLOTS


# What only an event loop has


def test_code_that_blocks_the_loop_is_named_in_the_log__threads_have_none(
    worker: PoolWorker,
) -> None:
    worker.send("blocks_the_loop", 1.2).get()
    if worker.pool == "threads":
        return
    assert wait_until(lambda: "the event loop is blocked" in worker.logged(), timeout=SOON)
    line = next(line for line in worker.logged().splitlines() if "loop is blocked" in line)
    assert "blocks_the_loop (" in line
    assert "pool_app.py:" in line
    assert wait_until(lambda: worker.inspect("stats")["pool"]["loop-blocks"] == 1, timeout=SOON)
