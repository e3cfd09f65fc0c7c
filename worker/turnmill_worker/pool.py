"""The asyncio pool: thousands of Celery tasks at once in one process, on one event loop.

Celery's consumer keeps the main thread and its hub; the event loop has a thread of its own. The
two meet at two doors only: the inbox (`call_soon_threadsafe`) and the outbox (`Hub.call_soon`),
each crossed once for all that has piled up. So Celery's state and the broker's connection are
touched by the main thread alone.
"""

import asyncio
import functools
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import SoftTimeLimitExceeded, Terminated
from celery.concurrency.base import BasePool
from celery.utils.log import get_logger

from turnmill_worker.bridge import Driven
from turnmill_worker.loop_watch import LoopWatch

logger = get_logger("turnmill.pool")

_SYNC_THREADS = 8
_SOFT, _HARD = "soft time limit", "hard time limit"
_TERMINATE_SECONDS = 5.0


@dataclass(slots=True, eq=False, weakref_slot=True)
class Job:
    """One task in the pool; what Celery keeps as the result of `apply_async`."""

    pool: "TaskPool"
    name: str
    run: Callable[[], Any]
    callback: Callable[..., Any] | None
    accept_callback: Callable[..., Any] | None
    error_callback: Callable[..., Any] | None
    timeout_callback: Callable[..., Any] | None
    soft: float | None
    hard: float | None
    number: int = 0
    stopped_by: str | int | None = None
    task: "asyncio.Task[Any] | None" = None
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def terminate(self, signal: int | None = None) -> None:
        """Cancel the coroutine. From any thread; Celery's `revoke(terminate=True)` comes here."""
        self.pool.loop.call_soon_threadsafe(self.pool.cancel, self, signal or 15)

    def on_cancel(self, error: BaseException) -> BaseException:
        """Return what the task's code sees when it is interrupted."""
        if self.stopped_by == _SOFT:
            self.stopped_by = None
            assert self.task is not None
            self.task.uncancel()
            return SoftTimeLimitExceeded(self.soft)  # type: ignore[no-any-return]
        return error


class TaskPool(BasePool):  # type: ignore[misc]
    """Celery's pool interface over an event loop. `limit` counts tasks."""

    body_can_be_buffer = True
    signal_safe = False
    task_join_will_block = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limit: int = kwargs.get("limit") or (args[0] if args else None) or 1
        self.loop = asyncio.new_event_loop()
        self._hub: Any = None
        self._thread = threading.Thread(target=self._run_loop, name="turnmill-pool", daemon=True)
        self._threads = ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="turnmill-sync")
        self._watch = LoopWatch(self.loop)
        self._inbox: deque[Job] = deque()
        self._inbox_armed = False
        self._outbox: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._outbox_armed = False
        self._waiting: deque[Job] = deque()
        self._jobs: dict[int, Job] = {}
        self._numbers = 0

    # What Celery calls, on the main thread.

    def on_start(self) -> None:
        """Start the loop."""
        for option in ("max_tasks_per_child", "maxtasksperchild", "max_memory_per_child"):
            if self.options.get(option):
                logger.warning("%s has no meaning: the asyncio pool has no children", option)
        self._thread.start()
        self._watch.start(self._thread)

    def register_with_event_loop(self, hub: Any) -> None:
        """Remember the hub that callbacks go to."""
        self._hub = hub
        if self._outbox:
            hub.call_soon(self.flush_outbox)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        error_callback: Callable[..., Any] | None = None,
        timeout_callback: Callable[..., Any] | None = None,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Job:
        """Take a task in. It starts as soon as fewer than `limit` run."""
        job = Job(
            pool=self,
            name=args[0] if args and isinstance(args[0], str) else "",
            run=functools.partial(target, *args, **(kwargs or {})),
            callback=callback,
            accept_callback=accept_callback,
            error_callback=error_callback,
            timeout_callback=timeout_callback,
            soft=soft_timeout or self.options.get("soft_timeout"),
            hard=timeout or self.options.get("timeout"),
        )
        self._inbox.append(job)
        if not self._inbox_armed:
            self._inbox_armed = True
            self.loop.call_soon_threadsafe(self._take_in)
        return job

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Cancel the job that Celery knows by this number."""
        job = self._jobs.get(pid)
        if job is not None:
            job.terminate(signal)

    def on_stop(self) -> None:
        """Warm shutdown: wait for what runs. The hub has stopped, so its callbacks run here."""
        while self._jobs or self._waiting or self._inbox or self._outbox:
            self.flush_outbox()
            time.sleep(0.005)
        self._end()

    def on_terminate(self) -> None:
        """Cold shutdown: cancel everything, and leave after a few seconds whatever happens."""
        self._waiting.clear()
        for job in list(self._jobs.values()):
            job.terminate()
        deadline = time.monotonic() + _TERMINATE_SECONDS
        while (self._jobs or self._outbox) and time.monotonic() < deadline:
            self.flush_outbox()
            time.sleep(0.005)
        self._end()

    def grow(self, n: int = 1) -> None:
        """Run `n` more tasks at once."""
        self.limit += n
        self.loop.call_soon_threadsafe(self._take_in)

    def shrink(self, n: int = 1) -> None:
        """Run `n` tasks fewer at once, from the next one on."""
        self.limit = max(1, self.limit - n)

    @property
    def num_processes(self) -> int:
        """Return how many tasks run at once; Celery's name for it."""
        return int(self.limit)

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        return info | {
            "running": len(self._jobs),
            "waiting": len(self._waiting) + len(self._inbox),
            "longest-block-seconds": round(self._watch.longest, 3),
        }

    def flush_outbox(self) -> None:
        """Call back into Celery, on the main thread."""
        self._outbox_armed = False
        while self._outbox:
            function, args = self._outbox.popleft()
            try:
                function(*args)
            except Exception:
                # The edge to Celery's callbacks: one that fails must not lose the others.
                logger.exception("a callback of the pool failed")

    # What happens on the loop's thread.

    def cancel(self, job: Job, reason: str | int) -> None:
        """Interrupt a job that runs, or forget one that waits."""
        if job.task is not None and not job.task.done():
            job.stopped_by = reason
            job.task.cancel()
        elif job in self._waiting:
            self._waiting.remove(job)
            self._fail(job, Terminated(reason))

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def _take_in(self) -> None:
        self._inbox_armed = False
        while self._inbox:
            self._waiting.append(self._inbox.popleft())
        while self._waiting and len(self._jobs) < self.limit:
            self._launch(self._waiting.popleft())

    def _launch(self, job: Job) -> None:
        self._numbers += 1
        job.number = self._numbers
        self._jobs[job.number] = job
        if job.accept_callback is not None:
            self._post(job.accept_callback, job.number, time.monotonic())
        body = self._drive(job) if self._is_async(job.name) else self._in_thread(job)
        job.task = self.loop.create_task(body)
        job.task.add_done_callback(functools.partial(self._finish, job))
        if job.soft:
            job.timers.append(self.loop.call_later(job.soft, self._time_out, job, _SOFT))
        if job.hard:
            job.timers.append(self.loop.call_later(job.hard, self._time_out, job, _HARD))

    async def _drive(self, job: Job) -> Any:
        return await Driven(job.run, job.on_cancel)

    async def _in_thread(self, job: Job) -> Any:
        return await self.loop.run_in_executor(self._threads, job.run)

    def _is_async(self, name: str) -> bool:
        task = self.app.tasks.get(name) if self.app is not None else None
        return inspect.iscoroutinefunction(getattr(task, "run", None))

    def _time_out(self, job: Job, limit: str) -> None:
        if job.task is None or job.task.done():
            return
        if job.timeout_callback is not None:
            seconds = job.soft if limit == _SOFT else job.hard
            self._post(functools.partial(job.timeout_callback, limit == _SOFT, seconds))
        self.cancel(job, limit)

    def _finish(self, job: Job, task: "asyncio.Task[Any]") -> None:
        for timer in job.timers:
            timer.cancel()
        del self._jobs[job.number]
        if task.cancelled():
            self._fail(job, Terminated(job.stopped_by or 15))
        elif (error := task.exception()) is not None:
            self._fail(job, error)
        elif job.callback is not None:
            self._post(job.callback, task.result())
        if self._waiting:
            self._take_in()

    def _fail(self, job: Job, error: BaseException) -> None:
        if job.error_callback is None or job.stopped_by == _HARD:
            return  # the time-out's callback has told Celery everything
        try:
            raise error
        except BaseException:  # noqa: BLE001
            self._post(job.error_callback, ExceptionInfo())

    def _post(self, function: Callable[..., Any], *args: Any) -> None:
        self._outbox.append((function, args))
        if not self._outbox_armed and self._hub is not None:
            self._outbox_armed = True
            self._hub.call_soon(self.flush_outbox)

    def _end(self) -> None:
        self._watch.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=5.0)
        self._threads.shutdown(wait=False, cancel_futures=True)
