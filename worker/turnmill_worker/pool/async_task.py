"""Tasks whose body is `async def`, under every pool that Celery has."""

import asyncio
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery._state import _task_stack, get_current_task
from celery.exceptions import ImproperlyConfigured

from turnmill.forking import in_child, leave_to_parent
from turnmill_worker.pool.bridge import Driven, await_here, can_await_here
from turnmill_worker.pool.lasting import run_for_good

#: Celery calls these as functions, some of them on a worker's main thread.
_HOOKS = ("before_start", "on_success", "on_failure", "on_retry", "after_return")


class AsyncTask(Task):
    """A task that may be `async def`; give it as `Celery(task_cls=…)` or `@app.task(base=…)`.

    Such a body runs on the asyncio pool's loop. Under other pools it runs on a loop beside them,
    while the pool's thread or process waits for it as for any other task; so does a coroutine that
    an ordinary function returns. Called from a coroutine, the task gives a coroutine to await;
    called from anywhere else, or by `apply`, the result.

    ImproperlyConfigured is raised for what would be `async` in vain.
    """

    abstract = True

    #: The body is a coroutine: set by the class itself.
    is_coroutine = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let Celery see plain functions: its tracer and `autoretry_for` know no others."""
        super().__init_subclass__(**kwargs)
        _refuse_hooks(cls)
        functions = [_as_method(cls, name) for name in ("run", "__call__")]
        cls.is_coroutine = any(getattr(function, "is_coroutine", False) for function in functions)


def gives_coroutine(body: Any) -> bool:
    """Tell whether this function, or object that is called as one, is `async def`."""
    return inspect.iscoroutinefunction(body) or inspect.iscoroutinefunction(type(body).__call__)


def gives_async_generator(body: Any) -> bool:
    """Tell whether it is `async def` with a `yield`: that has no result for Celery to keep."""
    return inspect.isasyncgenfunction(body) or inspect.isasyncgenfunction(type(body).__call__)


def background_loop() -> asyncio.AbstractEventLoop:
    """Return the loop that coroutines run on where the pool has none; one in each process."""
    return _background.loop()


def _refuse_hooks(cls: type[Task]) -> None:
    hooks = [name for name in _HOOKS if gives_coroutine(getattr(cls, name))]
    if hooks:
        raise ImproperlyConfigured(
            f"{cls.name or cls.__name__}: {', '.join(hooks)} may not be async def,"
            " since Celery calls it as a function"
        )


def _as_method(cls: type[Task], name: str) -> Any:
    """Put a function in the place of what the class has under this name; return it."""
    found = inspect.getattr_static(cls, name)
    body = found.__func__ if isinstance(found, staticmethod) else found
    if hasattr(body, "is_coroutine") or body is inspect.getattr_static(Task, name):
        return body
    validates = name == "run" and getattr(cls, "_dump_pydantic_arguments", None) is not None
    if gives_async_generator(inspect.unwrap(body) if validates else body):
        raise ImproperlyConfigured(
            f"{cls.name or cls.__name__} is an async generator; a task returns one result"
        )
    function = _with_models(body) if validates else _as_function(body)
    setattr(cls, name, staticmethod(function) if isinstance(found, staticmethod) else function)
    return function


def _as_function(body: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(body)
    def function(*args: Any, **kwargs: Any) -> Any:
        result = body(*args, **kwargs)
        return _wait_for(result) if inspect.isawaitable(result) else result

    function.is_coroutine = gives_coroutine(body)  # type: ignore[attr-defined]
    return function


def _with_models(wrapper: Any) -> Callable[..., Any]:
    """Return Celery's pydantic wrapper around a function: it would take a coroutine for a result.

    Celery keeps what the wrapper calls, and all that it does with the models, in its closure.
    """
    names = wrapper.__code__.co_freevars
    if "task_fun" not in names:
        raise ImproperlyConfigured("pydantic=True is unknown in the form that this Celery gives it")
    cell = wrapper.__closure__[names.index("task_fun")]
    body = cell.cell_contents = _as_function(cell.cell_contents)

    @functools.wraps(wrapper)
    def function(*args: Any, **kwargs: Any) -> Any:
        call = functools.partial(wrapper, *args, **kwargs)
        return _drive(call) if body.is_coroutine and _is_for_await() else call()  # type: ignore[attr-defined]

    function.is_coroutine = body.is_coroutine  # type: ignore[attr-defined]
    return function


async def _drive(function: Callable[[], Any]) -> Any:
    return await Driven(function)


def _wait_for(awaitable: Awaitable[Any]) -> Any:
    if _is_for_await():
        return awaitable
    coroutine = awaitable if inspect.iscoroutine(awaitable) else _await(awaitable)
    if can_await_here(nested=True):
        return await_here(coroutine)
    return _Beside(coroutine).result()


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _is_for_await() -> bool:
    """Tell whether a coroutine calls the task, which will await what it gets."""
    if can_await_here() or not _loop_runs_here():
        return False
    task = get_current_task()
    request = task.request_stack.top if task else None
    # `apply`, and with it `delay` of an eager app, is Celery's tracer, and takes no coroutine.
    return request is None or not request.is_eager


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
                    target=run_for_good, args=(self._loop,), name="turnmill-loop", daemon=True
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
        if self._loop is asyncio._get_running_loop():
            coroutine.close()
            raise RuntimeError("a coroutine cannot wait here for a task; await it")
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
