"""Tasks that do what no task should, on the app of the pool's tests."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

from celery import Task
from celery.exceptions import WorkerShutdown, WorkerTerminate
from greenlet import GreenletExit

from tests.integration.pool_app import app, enter, leave, notes


class Rude(BaseException):
    """Passes every `except Exception`."""


class Unshowable(Exception):
    """Fails wherever it is shown or stored."""

    def __repr__(self) -> str:
        raise Rude

    def __str__(self) -> str:
        raise Rude

    def __reduce__(self) -> NoReturn:
        raise Rude


class Unreadable(BaseException):
    """Fails where its traceback is formatted."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__notes__":
            raise Rude
        return super().__getattribute__(name)


def _holds_a_lock() -> BaseException:
    return ValueError(threading.Lock())


def _its_own_cause() -> BaseException:
    error = ValueError("again")
    error.__cause__ = KeyError("first")
    error.__cause__.__cause__ = error
    return error


def _deep() -> BaseException:
    try:
        return _deep()
    except RecursionError as error:
        return error


RAISED: dict[str, Callable[[], BaseException]] = {
    "rude": Rude,
    "generator exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "greenlet exit": GreenletExit,
    "worker shutdown": lambda: WorkerShutdown(0),
    "worker terminate": lambda: WorkerTerminate(0),
    "stop iteration": StopIteration,
    "stop async iteration": StopAsyncIteration,
    "memory": MemoryError,
    "recursion": _deep,
    "group": lambda: ExceptionGroup("two", [ValueError(), KeyError()]),
    "base group": lambda: BaseExceptionGroup("two", [SystemExit(3), Rude()]),
    "unshowable": Unshowable,
    "unreadable": Unreadable,
    "lock": _holds_a_lock,
    "own cause": _its_own_cause,
}


def _raise(kind: str) -> NoReturn:
    raise RAISED[kind]()


async def _raise_soon(kind: str) -> NoReturn:
    await asyncio.sleep(0)
    _raise(kind)


@app.task
async def raises_at_once(kind: str) -> None:
    _raise(kind)


@app.task
async def raises(kind: str) -> None:
    await _raise_soon(kind)


@app.task
def sync_raises(kind: str) -> None:
    _raise(kind)


@app.task
async def child_raises(kind: str) -> None:
    await asyncio.create_task(_raise_soon(kind))


@app.task
async def callback_raises(kind: str) -> str:
    asyncio.get_running_loop().call_soon(_raise, kind)
    await asyncio.sleep(0.01)
    return "went on"


@app.task
async def waits_at(gate: str) -> None:
    """Run until the gate is open."""
    enter(gate)
    while not notes.exists(f"{gate}:open"):  # noqa: ASYNC110 - opened from elsewhere
        await asyncio.sleep(0.02)
    leave(gate)


# Hooks


class BadHooks(Task):
    abstract = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self._hook("before_start", args[0])

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self._hook("on_success", args[0])

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self._hook("on_failure", args[0])

    def after_return(self, *args: Any) -> None:
        self._hook("after_return", args[3][0])

    def _hook(self, name: str, chosen: str) -> None:
        if name == chosen:
            raise Rude


@app.task(base=type("AsyncBadHooks", (BadHooks, app.Task), {"abstract": True}))
async def bad_hook(name: str) -> None:
    await asyncio.sleep(0)
    if name == "on_failure":
        raise ValueError


@app.task(base=type("TimedBadHooks", (BadHooks, app.Task), {"abstract": True}), time_limit=0.2)
async def bad_hook_at_the_limit(name: str) -> None:
    await asyncio.sleep(60)


# What belongs to all tasks


@app.task
async def stops_the_loop() -> str:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    return "went on"


@app.task
async def closes_the_loop() -> None:
    asyncio.get_running_loop().close()


@app.task
async def takes_the_loop_over() -> str:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: _raise("exit"))
    loop.set_task_factory(lambda *_, **__: _raise("rude"))
    loop.call_soon(_raise, "rude")
    await asyncio.sleep(0.01)
    return "went on"


@app.task
async def gives_the_loop_back() -> None:
    asyncio.get_running_loop().set_exception_handler(None)
    asyncio.get_running_loop().set_task_factory(None)


@app.task
async def cancels_all_others() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def _numbers() -> AsyncIterator[int]:
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0.01)
        notes.incr("generators closed")


@app.task
async def leaves_a_generator_open() -> int:
    async for number in _numbers():
        return number
    return 0


# What does not end


async def _ignore(*kinds: type[BaseException]) -> NoReturn:
    while True:
        with contextlib.suppress(*kinds):
            await asyncio.sleep(60)


@app.task(time_limit=0.2)
async def ignores_cancellation() -> None:
    await _ignore(asyncio.CancelledError)


@app.task(time_limit=0.2)
async def ignores_everything() -> None:
    await _ignore(BaseException)


@app.task(soft_time_limit=0.1, time_limit=0.2)
async def ignores_both_limits() -> None:
    await _ignore(Exception, asyncio.CancelledError)


@app.task(time_limit=0.2)
async def waits_for_one_that_ignores_it() -> None:
    await asyncio.create_task(_ignore(asyncio.CancelledError))


@app.task
async def ignores_without_end() -> None:
    notes.incr("ignores")
    await _ignore(asyncio.CancelledError)


@app.task
async def is_revoked_and_succeeds() -> str:
    notes.incr("succeeds")
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    notes.incr("has succeeded")
    return "all the same"


@app.task(time_limit=0.2)
def hangs_in_its_thread() -> None:
    time.sleep(60)


@app.task
def hangs_in_a_thread_without_end() -> None:
    notes.incr("hangs_in_a_thread")
    time.sleep(60)


@app.task
async def hangs_elsewhere_without_end() -> None:
    notes.incr("hangs_elsewhere")
    await asyncio.to_thread(time.sleep, 60)


@app.task(time_limit=0.2)
async def spins() -> None:
    while True:
        with contextlib.suppress(Exception):
            sum(range(1000))


@app.task
async def spins_without_end() -> None:
    notes.incr("spins")
    while True:
        sum(range(1000))


#: Tasks with a hard time limit, which they ignore.
STUBBORN = [
    "ignores_cancellation",
    "ignores_everything",
    "ignores_both_limits",
    "waits_for_one_that_ignores_it",
    "hangs_in_its_thread",
    "spins",
]
