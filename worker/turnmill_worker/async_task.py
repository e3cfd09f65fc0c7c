"""Tasks whose body is `async def`, under every pool that Celery has."""

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery._state import _task_stack, get_current_task

from turnmill.forking import in_child, leave_to_parent
from turnmill_worker.bridge import Driven, await_here, can_await_here

_Body = Callable[..., Coroutine[Any, Any, Any]]


class AsyncTask(Task):
    """A task that may be `async def`; give it as `Celery(task_cls=…)` or `@app.task(base=…)`.

    Such a body runs on the asyncio pool's loop. Under other pools it runs on a loop beside them,
    while the pool's thread or process waits for it as for any other task. Called from a coroutine,
    the task gives a coroutine to await; called from anywhere else, the result.
    """

    abstract = True

    #: The body is a coroutine: set by the class itself.
    is_coroutine = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let Celery see a plain function: its tracer and `autoretry_for` know no other."""
        super().__init_subclass__(**kwargs)
        run = cls.__dict__.get("run")
        body = run.__func__ if isinstance(run, staticmethod) else run
        if not inspect.iscoroutinefunction(body):
            return
        plain = _as_function(body)
        cls.run = staticmethod(plain) if isinstance(run, staticmethod) else plain
        cls.is_coroutine = True


def background_loop() -> asyncio.AbstractEventLoop:
    """Return the loop that coroutines run on where the pool has none; one in each process."""
    return _background.loop()


def _as_function(body: _Body) -> Callable[..., Any]:
    @functools.wraps(body)
    def function(*args: Any, **kwargs: Any) -> Any:
        coroutine = body(*args, **kwargs)
        if can_await_here():
            return await_here(coroutine)
        if _loop_runs_here():
            return coroutine
        return _Beside(coroutine).result()

    return function


def _loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _Background:
    """The loop beside the pool: started on first use, and anew in a forked child."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.start_afresh()
        in_child(self)

    def start_afresh(self) -> None:
        leave_to_parent(self._loop)  # its selector is one with the parent's
        self._loop = None
        self._lock = threading.Lock()

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name="turnmill-loop", daemon=True
                ).start()
            return self._loop


_background = _Background()


class _Beside:
    """A coroutine on the background loop that sees the Celery request of the waiting thread."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._celery_task = get_current_task()  # None outside of a worker
        self._request = self._celery_task.request_stack.top if self._celery_task else None
        self._limit: Exception | None = None
        self._exit: BaseException | None = None
        self._asyncio_task: asyncio.Task[Any] | None = None
        self._loop = background_loop()
        self._future: Future[Any] = asyncio.run_coroutine_threadsafe(self._run(), self._loop)

    def result(self) -> Any:
        """Wait for the coroutine. Prefork's soft time limit, raised here, is raised in there."""
        while True:
            try:
                result = self._future.result()
                break
            except SoftTimeLimitExceeded as limit:
                if self._future.done():
                    raise
                self._loop.call_soon_threadsafe(self._interrupt, limit)
            except BaseException:
                self._future.cancel()
                raise
        if self._exit is not None:
            raise self._exit
        return result

    async def _run(self) -> Any:
        self._asyncio_task = asyncio.current_task()
        try:
            return await Driven(self._with_request, self._interruption)
        except (SystemExit, KeyboardInterrupt) as error:
            # They would end the loop, and with it every other task.
            self._exit = error

    def _with_request(self) -> Any:
        if self._celery_task is None:
            return await_here(self._coroutine)
        _task_stack.push(self._celery_task)
        self._celery_task.request_stack.push(self._request)
        try:
            return await_here(self._coroutine)
        finally:
            self._celery_task.request_stack.pop()
            _task_stack.pop()

    def _interrupt(self, limit: Exception) -> None:
        if self._asyncio_task is not None and not self._asyncio_task.done():
            self._limit = limit
            self._asyncio_task.cancel()

    def _interruption(self) -> Exception | None:
        limit, self._limit = self._limit, None
        if limit is not None and self._asyncio_task is not None:
            self._asyncio_task.uncancel()
        return limit
