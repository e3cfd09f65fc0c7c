"""The pool's event loop, on a thread of its own: coroutine tasks start, time out and end here."""

import asyncio
import contextlib
import functools
import logging
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import SoftTimeLimitExceeded

from turnmill_worker.pool.breaker import Breaker, Steps
from turnmill_worker.pool.bridge import Driven
from turnmill_worker.pool.crossing import Mailbox
from turnmill_worker.pool.lasting import run_for_good
from turnmill_worker.pool.watch import LoopWatch

logger = logging.getLogger("turnmill.pool")

Callback = Callable[..., Any]

#: How long a cancelled task may take to clean up.
CLEANUP = timedelta(seconds=5)
_PLACES = 8
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
    in_thread: bool  #: an ordinary task, not a coroutine
    given_up: bool = False  #: Celery has been told how it ended, whatever it does now
    interrupted: bool = False  #: the soft time limit has passed; the code is yet to see it
    struck: bool = False  #: it held the loop when it might not go on
    overdue_at: float | None = None  #: the clock's reading at which the hard time limit passes
    driven: Driven | None = None
    asyncio_task: "asyncio.Task[Any] | None" = None
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
            return self.error_callback, describe(error)

    def interruption(self) -> Exception | None:
        """Return what the task's code sees instead of its cancellation."""
        if not self.interrupted or self.asyncio_task is None:
            return None
        self.interrupted = False
        self.asyncio_task.uncancel()
        return SoftTimeLimitExceeded(self.soft_limit)  # type: ignore[no-any-return]

    def is_over(self) -> bool:
        """Tell whether it may not go on: given up, or past its hard time limit."""
        return self.given_up or (self.overdue_at is not None and time.monotonic() > self.overdue_at)


#: A job, the callback that takes the outcome, and the outcome.
Ended = Callable[[Job, Callback | None, Any], None]


class LoopThread:
    """Runs jobs on `loop`, which stands from `start` to `stop`.

    What Celery is to be told goes into `outbox`, as functions for the main thread to call.
    """

    loop: asyncio.AbstractEventLoop
    watch: LoopWatch

    def __init__(
        self, outbox: Mailbox[Callable[[], None]], ended: Ended, lost: Callable[[], None]
    ) -> None:
        self._outbox = outbox
        self._ended = ended
        self._lost = lost
        self._inbox: Mailbox[Job] = Mailbox(self._wake)
        self._breaker: Breaker[Job] = Breaker()
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
        self.watch = LoopWatch(self.loop, blocked=self._break_off)
        self.watch.start(self._thread)

    def stop(self) -> None:
        """Cancel what is left and end the loop; a second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self.watch.stop()
        with contextlib.suppress(RuntimeError):  # somebody has closed it
            self.loop.call_soon_threadsafe(self.loop.stop)
        thread.join(timeout=_STOP_PATIENCE.total_seconds())

    def launch(self, job: Job) -> None:
        """Start the job soon."""
        self._inbox.put(job)

    def cancel(self, job: Job) -> None:
        """Cancel a job that was launched; it has so long to clean up, and is ended then."""
        self._soon(self._cancel, job)

    def arm(self, job: Job) -> None:
        """Watch the hard time limit of a job that runs in a thread."""
        self._soon(self._arm, job)

    def disarm(self, job: Job) -> None:
        """Watch it no longer."""
        self._soon(self._disarm, job)

    def _soon(self, call: Callable[..., object], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is lost, and the worker about to end
            self.loop.call_soon_threadsafe(call, *args)

    # On the loop's thread.

    def _run(self, started: "Future[asyncio.AbstractEventLoop]") -> None:
        with asyncio.Runner() as runner:  # at its end it cancels what is left
            loop = runner.get_loop()
            started.set_result(loop)
            run_for_good(loop, wanted=lambda: self._thread is not None)
        if self._thread is not None:
            self._outbox.put(self._lost)

    def _wake(self) -> None:
        self._soon(self._take_in)

    def _take_in(self) -> None:
        for job in self._inbox.take():
            if job.given_up:  # before it began
                self._report(job, None, None)
            else:
                self._launch(job)

    def _launch(self, job: Job) -> None:
        steps = Steps(self._breaker, job)
        job.driven = Driven(job.run_to_end, job.interruption, stepping=steps)
        # Not by `create_task`: its factory is anybody's to replace.
        job.asyncio_task = asyncio.Task(_drive(job.driven), loop=self.loop)
        job.asyncio_task.add_done_callback(functools.partial(self._done, job))
        if job.soft_limit:
            job.timers.append(self.loop.call_later(job.soft_limit, self._pass_soft_limit, job))
        self._arm(job)

    def _arm(self, job: Job) -> None:
        if job.hard_limit:
            job.overdue_at = time.monotonic() + job.hard_limit
            job.timers.append(self.loop.call_later(job.hard_limit, self._pass_hard_limit, job))

    def _disarm(self, job: Job) -> None:
        for timer in job.timers:
            timer.cancel()
        job.timers.clear()

    def _cancel(self, job: Job) -> None:
        if job.driven is None or job.asyncio_task is None or job.asyncio_task.done():
            return
        job.interrupted = False
        job.driven.give_up()
        job.asyncio_task.cancel()
        job.timers.append(self.loop.call_later(CLEANUP.total_seconds(), self._kill, job))

    def _kill(self, job: Job) -> None:
        assert job.driven is not None
        logger.error("%s has ignored its cancellation; it is ended where it waits", job.name)
        job.driven.kill()
        self._report(job, None, None)

    def _pass_soft_limit(self, job: Job) -> None:
        if job.asyncio_task is None or job.given_up:
            return
        self._tell_timeout(job, soft=True, seconds=job.soft_limit)
        job.interrupted = True
        job.asyncio_task.cancel()

    def _pass_hard_limit(self, job: Job) -> None:
        if not job.given_up:
            self._give_up(job)
            self._cancel(job)
            if job.in_thread:
                self._report(job, None, None)

    def _give_up(self, job: Job) -> None:
        job.given_up = True
        self._tell_timeout(job, soft=False, seconds=job.hard_limit)

    def _tell_timeout(self, job: Job, *, soft: bool, seconds: float | None) -> None:
        if job.timeout_callback is not None:
            self._outbox.put(functools.partial(job.timeout_callback, soft, seconds))

    def _done(self, job: Job, asyncio_task: "asyncio.Task[tuple[Callback | None, Any]]") -> None:
        try:
            callback, outcome = asyncio_task.result()
        except BaseException as error:  # noqa: BLE001
            # Cancelled before it began; or broken off in our own code.
            callback, outcome = job.error_callback, describe(error)
            if job.driven is not None:
                job.driven.kill()
        self._report(job, callback, outcome)

    def _report(self, job: Job, callback: Callback | None, outcome: Any) -> None:
        self._disarm(job)
        job.driven = None  # which holds the job in turn
        self._outbox.put(functools.partial(self._ended, job, callback, outcome))

    # On the watch's thread.

    def _break_off(self) -> None:
        """End the job that holds the loop, if it may not go on."""
        job = self._breaker.current
        if job is None or not job.is_over():
            return
        if not job.given_up:
            self._give_up(job)
        if not job.struck:
            job.struck = True
            logger.error("%s may not go on, and holds the event loop; it is broken off", job.name)
        self._breaker.strike(job)


async def _drive(driven: Driven) -> tuple[Callback | None, Any]:
    ended: tuple[Callback | None, Any] = await driven
    return ended


def where(error: BaseException) -> str:
    """Return the class of an error and the places it came from: no text, which may quote a user."""
    places = traceback.extract_tb(error.__traceback__)[-_PLACES:]
    lines = " < ".join(f"{at.name} ({at.filename}:{at.lineno})" for at in reversed(places))
    return f"{type(error).__name__} at {lines}"


def describe(error: BaseException) -> Any:
    """Return what Celery's callbacks take for an error, of any error."""
    try:
        return ExceptionInfo((type(error), error, error.__traceback__))
    except BaseException:  # noqa: BLE001, S110 - its own code runs, to show it
        pass
    try:
        raise RuntimeError(f"{type(error).__name__}, which cannot be shown")
    except RuntimeError as substitute:
        substitute.__context__ = None  # else it would be shown after all
        return ExceptionInfo((RuntimeError, substitute, substitute.__traceback__))
