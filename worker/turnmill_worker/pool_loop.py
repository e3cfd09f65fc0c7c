"""The pool's event loop, on a thread of its own: coroutine tasks start, time out and end here."""

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import SoftTimeLimitExceeded

from turnmill_worker.bridge import Driven
from turnmill_worker.crossing import Mailbox
from turnmill_worker.loop_watch import LoopWatch

Callback = Callable[..., Any]

_START_PATIENCE = timedelta(seconds=10)
_STOP_PATIENCE = timedelta(seconds=2)


@dataclass(slots=True, eq=False, weakref_slot=True, kw_only=True)
class Job:
    """One task in the pool; what Celery keeps as the result of `apply_async`."""

    number: int
    name: str
    run: Callable[[], Any]
    stop: Callable[[int], None]
    callback: Callback | None
    accept_callback: Callback | None
    error_callback: Callback | None
    timeout_callback: Callback | None
    soft_limit: float | None  #: seconds, as Celery gives them
    hard_limit: float | None
    given_up: bool = False  #: Celery has been told how it ended, whatever it does now
    interrupted: bool = False  #: the soft time limit has passed; the code is yet to see it
    asyncio_task: "asyncio.Task[Any] | None" = None
    future: "Future[None] | None" = None  #: of an ordinary task, which runs in a thread
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def terminate(self, signal: int | None = None) -> None:
        """Cancel it. Celery's `revoke(terminate=True)` and cold shutdown come here."""
        self.stop(self.number)

    def accept(self) -> None:
        """Tell Celery that it starts: the message is acknowledged, the event is sent."""
        if self.accept_callback is not None:
            self.accept_callback(self.number, time.monotonic())

    def run_to_end(self) -> tuple[Callback | None, Any]:
        """Run Celery's tracer; return the callback that takes the outcome, and the outcome."""
        try:
            return self.callback, self.run()
        except BaseException as error:  # noqa: BLE001
            # The edge to other people's code. Whatever it raises is the end of this task only:
            # a `SystemExit`, too, which would end the loop, and with it every other task.
            return self.error_callback, _info(error)

    def interruption(self) -> Exception | None:
        """Return what the task's code sees instead of its cancellation."""
        if not self.interrupted or self.asyncio_task is None:
            return None
        self.interrupted = False
        self.asyncio_task.uncancel()
        return SoftTimeLimitExceeded(self.soft_limit)  # type: ignore[no-any-return]


#: A job, the callback that takes the outcome, and the outcome.
Ended = Callable[[Job, Callback | None, Any], None]


class LoopThread:
    """Runs jobs on `loop`, which stands from `start` to `stop`.

    What Celery is to be told goes into `outbox`, as functions for the main thread to call.
    """

    loop: asyncio.AbstractEventLoop
    watch: LoopWatch

    def __init__(self, outbox: Mailbox[Callable[[], None]], ended: Ended) -> None:
        self._outbox = outbox
        self._ended = ended
        self._inbox: Mailbox[Job] = Mailbox(self._wake)
        self._thread: threading.Thread | None = None

    # From the main thread.

    def start(self) -> None:
        """Return when the loop runs."""
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="turnmill-pool", daemon=True
        )
        self._thread.start()
        self.loop = started.result(timeout=_START_PATIENCE.total_seconds())
        self.watch = LoopWatch(self.loop)
        self.watch.start(self._thread)

    def stop(self) -> None:
        """Cancel what is left and end the loop; a second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self.watch.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        thread.join(timeout=_STOP_PATIENCE.total_seconds())

    def launch(self, job: Job) -> None:
        """Start the job soon."""
        self._inbox.put(job)

    def cancel(self, job: Job) -> None:
        """Cancel a job that was launched."""
        self.loop.call_soon_threadsafe(self._cancel, job)

    # On the loop's thread.

    def _run(self, started: "Future[asyncio.AbstractEventLoop]") -> None:
        with asyncio.Runner() as runner:  # at its end it cancels what is left
            loop = runner.get_loop()
            started.set_result(loop)
            loop.run_forever()

    def _wake(self) -> None:
        self.loop.call_soon_threadsafe(self._take_in)

    def _take_in(self) -> None:
        for job in self._inbox.take():
            self._launch(job)

    def _launch(self, job: Job) -> None:
        job.asyncio_task = self.loop.create_task(_drive(job))
        job.asyncio_task.add_done_callback(functools.partial(self._report, job))
        if job.soft_limit:
            job.timers.append(self.loop.call_later(job.soft_limit, self._pass_soft_limit, job))
        if job.hard_limit:
            job.timers.append(self.loop.call_later(job.hard_limit, self._pass_hard_limit, job))

    def _cancel(self, job: Job) -> None:
        if job.asyncio_task is not None:
            job.interrupted = False
            job.asyncio_task.cancel()

    def _pass_soft_limit(self, job: Job) -> None:
        if job.asyncio_task is None or job.given_up:
            return
        self._tell_timeout(job, soft=True, seconds=job.soft_limit)
        job.interrupted = True
        job.asyncio_task.cancel()

    def _pass_hard_limit(self, job: Job) -> None:
        if job.given_up:
            return
        job.given_up = True
        self._tell_timeout(job, soft=False, seconds=job.hard_limit)
        self._cancel(job)

    def _tell_timeout(self, job: Job, *, soft: bool, seconds: float | None) -> None:
        if job.timeout_callback is not None:
            self._outbox.put(functools.partial(job.timeout_callback, soft, seconds))

    def _report(self, job: Job, asyncio_task: "asyncio.Task[tuple[Callback | None, Any]]") -> None:
        for timer in job.timers:
            timer.cancel()
        if asyncio_task.cancelled():
            callback, outcome = job.error_callback, _info(asyncio.CancelledError())
        else:
            callback, outcome = asyncio_task.result()
        self._outbox.put(functools.partial(self._ended, job, callback, outcome))


async def _drive(job: Job) -> tuple[Callback | None, Any]:
    ended: tuple[Callback | None, Any] = await Driven(job.run_to_end, job.interruption)
    return ended


def _info(error: BaseException) -> Any:
    return ExceptionInfo((type(error), error, error.__traceback__))
