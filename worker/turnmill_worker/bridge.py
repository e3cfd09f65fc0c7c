"""Greenlets that let Celery's synchronous tracer wait for a coroutine on an event loop.

Celery's tracer is one synchronous function: it sets up `self.request`, sends signals, calls the
task, and deals with retries and errors. It runs unmodified inside a greenlet; where the task's body
is a coroutine, the greenlet steps through it and hands each awaited future to the asyncio task
that it belongs to.
"""

import contextvars
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import greenlet


class _Stepper(greenlet.greenlet):
    """Runs synchronous code whose awaits are served by its parent."""


class Driven:
    """Awaitable that runs `function` in a greenlet, as the body of the asyncio task around it.

    `on_cancel` says which exception the function sees when that task is cancelled.
    """

    def __init__(
        self, function: Callable[[], Any], on_cancel: Callable[[BaseException], BaseException]
    ) -> None:
        self._function = function
        self._on_cancel = on_cancel

    def __await__(self) -> Generator[Any, Any, Any]:
        """Step through the function; yield what it awaits."""
        stepper = _Stepper(self._function, greenlet.getcurrent())
        stepper.gr_context = contextvars.copy_context()
        awaited = stepper.switch()
        while not stepper.dead:
            try:
                value = yield awaited
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001
                awaited = stepper.throw(self._on_cancel(error))
            else:
                awaited = stepper.switch(value)
        return awaited


def await_here(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run the coroutine to its end from within a driven function, and return its result.

    Raises LookupError, with the coroutine untouched, when nothing drives the caller.
    """
    current = greenlet.getcurrent()
    parent = current.parent
    if not isinstance(current, _Stepper) or parent is None:
        raise LookupError("no event loop drives this code")
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            awaited = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            return stop.value
        value, error = None, None
        try:
            value = parent.switch(awaited)
        except BaseException as thrown:  # noqa: BLE001
            # A cancellation or a time limit: it belongs to the coroutine, which may handle it.
            error = thrown
