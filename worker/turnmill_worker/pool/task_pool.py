"""The asyncio pool: thousands of Celery tasks at once in one process, on one event loop.

Celery's consumer keeps the main thread and its hub; the event loop has a thread of its own. The
two meet at two mailboxes only, each crossed once for all that has piled up, so that Celery's state
and the broker's connection are touched by the main thread alone. Celery's own semaphore bounds how
many tasks are in here, and with them the mailboxes.
"""

import asyncio
import functools
import itertools
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from celery import signals
from celery.concurrency.base import BasePool
from celery.exceptions import ImproperlyConfigured, WorkerShutdown, WorkerTerminate
from celery.platforms import EX_FAILURE
from celery.utils.log import get_logger
from celery.worker import state

from turnmill_worker.pool.async_task import AsyncTask, gives_async_generator, gives_coroutine
from turnmill_worker.pool.crossing import Bell, Mailbox
from turnmill_worker.pool.lasting import bound_exit
from turnmill_worker.pool.loop import CLEANUP, Callback, Job, LoopThread, where
from turnmill_worker.pool.task_threads import TaskThreads
from turnmill_worker.pool.transport import take_at_once

logger = get_logger("turnmill.pool")

#: Ordinary tasks that run at once, each in a thread.
SYNC_THREADS = 8
#: How long the end of the pool waits for cancelled tasks: so long that one that does not end by
#: itself is ended by the loop. What is left then holds the loop, and is left behind.
_LEAVE = CLEANUP + timedelta(seconds=1)
#: How long the process then waits for threads of other people's executors.
_EXIT = timedelta(seconds=3)
_LOOK_AGAIN = timedelta(seconds=0.2)


class TaskPool(BasePool):
    """Celery's pool interface over an event loop. All of it is called on the main thread."""

    body_can_be_buffer = True
    signal_safe = False
    uses_semaphore = True

    limit: int  #: tasks that run at once
    #: Told the limit whenever it has changed, for those who count on it.
    on_limit: Callable[[int], None] = staticmethod(lambda limit: None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._outbox: Mailbox[Callable[[], None]] = Mailbox(self._wake_hub)
        self._loop_thread = LoopThread(self._outbox, self._ended, self._lose_loop)
        self._threads = TaskThreads(SYNC_THREADS, self._run_in_thread)
        self._numbers = itertools.count(1)
        self._jobs: dict[int, Job] = {}
        self._semaphore: Any = self.options.get("semaphore")
        self._tasks: Mapping[str, Any] = {}
        self._balancing = False
        self._bell: Bell | None = None
        self._hub: Any = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that coroutine tasks run on; it stands from `start` to the end of `stop`.

        Boot steps of the worker that require Celery's `Pool` start what they need on it, and stop
        that before the pool.
        """
        return self._loop_thread.loop

    # Start, and each connection to the broker.

    def on_start(self) -> None:
        """Start the loop; raises ImproperlyConfigured for what cannot work."""
        if self._semaphore is None:
            raise ImproperlyConfigured("the asyncio pool needs a Redis or an AMQP broker")
        self._tasks = self.app.tasks
        _refuse_unknown_coroutines(self._tasks)
        _warn_of_limits(self._tasks, self.options)
        self._bell = Bell()
        self._loop_thread.start()
        if threading.current_thread() is threading.main_thread():
            bound_exit(_EXIT, code=lambda: int(_is_cold()))
        take_at_once(self._room)
        signals.worker_ready.connect(self._on_worker_ready)

    def register_with_event_loop(self, hub: Any) -> None:
        """Let the hub take what the outbox holds; again after each reconnect to the broker."""
        self._hub = hub
        hub.add_reader(self._bell, self._answer, self._bell)

    def flush(self) -> None:
        """Give up what waits for a thread: the connection that it came from is lost.

        Those that run go on, and keep their slots, which Celery's semaphore has just forgotten.
        """
        self._drop_waiting()
        self._balance()

    # Jobs.

    def on_apply(
        self,
        target: Callback,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        accept_callback: Callback | None = None,
        error_callback: Callback | None = None,
        timeout_callback: Callback | None = None,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Job | None:
        """Start a task; None when the pool is closing: its message goes back to the queue."""
        if self._state != self.RUN:
            return None
        name = str(args[0]) if args else ""
        job = Job(
            number=next(self._numbers),
            name=name,
            run=functools.partial(target, *args, **(kwargs or {})),
            stop=self.terminate_job,
            callback=callback,
            accept_callback=accept_callback,
            error_callback=error_callback,
            timeout_callback=timeout_callback,
            soft_limit=soft_timeout or self.options.get("soft_timeout"),
            hard_limit=timeout or self.options.get("timeout"),
            in_thread=not getattr(self._tasks.get(name), "is_coroutine", False),
        )
        self._jobs[job.number] = job
        if job.in_thread:
            self._threads.submit(job)
        else:
            self._call(job.accept)
            self._loop_thread.launch(job)
        return job

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Cancel the job of this number, which Celery takes for a process id."""
        job = self._jobs.get(pid)
        if job is None or job.given_up:
            return
        job.given_up = True
        if not job.in_thread:
            self._loop_thread.cancel(job)
            return
        if self._threads.withdraw(job):
            self._call(job.accept)  # so that Celery announces it as revoked now
        self._forget(job)

    def _run_in_thread(self, job: Job) -> None:
        self._outbox.put(job.accept)
        if job.hard_limit:
            self._loop_thread.arm(job)
        callback, outcome = job.run_to_end()
        self._outbox.put(functools.partial(self._ended, job, callback, outcome))

    def _wake_hub(self) -> None:
        # Not by `Hub.call_soon`: what Celery itself calls soon from there, such as late
        # acknowledgements, would wait for the hub's next poll to end, up to a second.
        if self._bell is not None:
            self._bell.ring()

    def _answer(self, bell: Bell) -> None:
        bell.hush()
        self._take_out()

    def _take_out(self, *, patience: timedelta = timedelta(0)) -> None:
        for call in self._outbox.take(patience=patience):
            self._call(call)

    def _call(self, call: Callable[[], object]) -> None:
        """Make a call that ends in Celery, and in people's hooks: it must not take others along."""
        try:
            call()
        except (WorkerShutdown, WorkerTerminate):
            raise  # from a signal handler
        except BaseException as error:  # noqa: BLE001
            logger.error("a callback of Celery's failed: %s", where(error))

    def _ended(self, job: Job, callback: Callback | None, outcome: Any) -> None:
        if job.number not in self._jobs:  # given up before
            if job.in_thread:
                self._threads.came_back()
            return
        try:
            if callback is not None and not job.given_up:
                callback(outcome)
        finally:
            self._forget(job)

    def _forget(self, job: Job) -> None:
        del self._jobs[job.number]
        if job.in_thread:
            self._threads.ended(job)
            if job.hard_limit:
                self._loop_thread.disarm(job)
        self._balance()

    def _drop_waiting(self) -> None:
        for job in self._threads.withdraw_all():
            self._forget(job)

    def _lose_loop(self) -> None:
        logger.critical("the event loop has been closed by a task; the worker ends")
        state.should_terminate = EX_FAILURE

    # Slots.

    def grow(self, n: int = 1) -> None:
        """Run `n` more tasks at once."""
        self._resize(self.limit + n)

    def shrink(self, n: int = 1) -> None:
        """Run `n` tasks fewer at once, as those that run come to their end."""
        self._resize(max(self.limit - n, 1))

    def _resize(self, limit: int) -> None:
        self.limit = limit
        self._balance()
        self.on_limit(limit)

    def _room(self) -> int:
        """Return how many messages could start at once."""
        return self.limit - len(state.reserved_requests)

    def _balance(self) -> None:
        """Let Celery's semaphore hold the slots that are free, and start what waits for them.

        Left to itself it counts wrongly when it is resized, or cleared after a lost connection. And
        it would start the next one from within each that is found revoked: a thousand that had
        expired while they waited were a RecursionError in the middle of a command to the broker.
        """
        if self._balancing:
            return
        self._balancing = True
        try:
            semaphore = self._semaphore
            semaphore.initial_value = self.limit
            semaphore.value = min(semaphore.value, max(self.limit - len(self._jobs), 0))
            while semaphore.value < self.limit - len(self._jobs):
                semaphore.release()
        finally:
            self._balancing = False

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        watch = self._loop_thread.watch
        return info | {
            "processes": [os.getpid()],
            "running": len(self._jobs),
            "threads": SYNC_THREADS,
            "threads-left": self._threads.left,
            "loop-blocks": watch.blocks,
            "loop-longest-block": round(watch.longest.total_seconds(), 3),
        }

    # Shutdown.

    def on_stop(self) -> None:
        """Warm shutdown: wait for what runs. The hub has stopped, so its callbacks run here."""
        self._drop_waiting()
        self._drain()
        if not _is_cold():
            self._end()
        # Else a signal handler calls us, and `terminate` follows: until then, others need the loop.

    def on_terminate(self) -> None:
        """Cold shutdown: cancel everything, and leave after a few seconds whatever happens."""
        self._drop_waiting()
        for number in list(self._jobs):
            self.terminate_job(number)
        self._drain(patience=_LEAVE)
        self._end()

    def _drain(self, *, patience: timedelta | None = None) -> None:
        """Wait until no job is left; not for long in a cold shutdown, or once all are given up."""
        began = time.monotonic()
        while self._jobs:
            if patience is None and (_is_cold() or all(j.given_up for j in self._jobs.values())):
                began, patience = time.monotonic(), _LEAVE
            if patience is not None and time.monotonic() - began > patience.total_seconds():
                names = sorted({job.name for job in self._jobs.values()})
                logger.error("%d tasks do not end: %s", len(self._jobs), ", ".join(names))
                self._jobs.clear()
            self._take_out(patience=_LOOK_AGAIN)
        self._take_out()

    def _end(self) -> None:
        self._loop_thread.stop()
        self._threads.stop()
        bell, self._bell = self._bell, None
        if bell is None:
            return
        if self._hub is not None:
            self._hub.remove(bell)
        bell.close()

    def _on_worker_ready(self, sender: Any, **_: Any) -> None:
        # During a soft shutdown Celery sleeps in a signal handler. Nobody would take the outbox
        # meanwhile, and tasks that have ended would be cancelled after it.
        worker = sender.controller
        if worker.pool is self:
            worker.wait_for_soft_shutdown = functools.partial(self._wait_softly, worker)
            worker._quick_release = self._balance

    def _wait_softly(self, worker: Any) -> None:
        seconds = worker.app.conf.worker_soft_shutdown_timeout
        if seconds > 0 and self._jobs:
            logger.warning("Initiating Soft Shutdown, terminating in %s seconds", seconds)
            self.close()  # what waits for a slot is better given back than started and cancelled
            deadline = time.monotonic() + seconds
            while self._jobs and time.monotonic() < deadline:
                self._take_out(patience=_LOOK_AGAIN)


def _is_cold() -> bool:
    """Tell whether Celery's cold shutdown has begun."""
    return state.should_terminate is not None and state.should_terminate is not False


def _refuse_unknown_coroutines(tasks: Mapping[str, Any]) -> None:
    names = [
        name
        for name, task in tasks.items()
        if not isinstance(task, AsyncTask) and any(map(_is_async, _bodies(task)))
    ]
    if names:
        raise ImproperlyConfigured(
            f"async def, but not of the class AsyncTask: {', '.join(sorted(names))}"
        )


def _bodies(task: Any) -> tuple[Any, ...]:
    """Return what a task may run: as it was given, and as Celery has wrapped it."""
    return (
        getattr(task, "_decorated_fun", None),
        getattr(task, "_orig_run", task.run),
        type(task).__call__,
    )


def _is_async(body: Any) -> bool:
    return gives_coroutine(body) or gives_async_generator(body)


def _warn_of_limits(tasks: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    for option in ("maxtasksperchild", "max_memory_per_child"):
        if options.get(option):
            logger.warning("%s is ignored: the asyncio pool has no child processes", option)
    names = [
        name
        for name, task in tasks.items()
        if not getattr(task, "is_coroutine", False) and (task.time_limit or task.soft_time_limit)
    ]
    if names:
        logger.warning(
            "a soft time limit does not reach a thread, and a hard one leaves it behind: %s",
            ", ".join(sorted(names)),
        )
