"""Greenlets that let Celery's synchronous tracer wait for a coroutine on an event loop.

Celery's tracer is one synchronous function: it sets up `self.request`, sends signals, calls the
task, and deals with retries and errors. It runs unmodified inside a greenlet; where the task's body
is a coroutine, the greenlet steps through it and hands each awaited future to the asyncio task
that it belongs to.

SQLAlchemy's `greenlet_spawn` does nearly that, but it steps through the coroutine outside of the
greenlet. Celery keeps `self.request` by greenlet, so a body that ran outside would not find it.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import greenlet


class _Stepper(greenlet.greenlet):
    """Runs a synchronous function whose awaits are served by its parent."""

    #: The code of a coroutine runs just now, not that of the function which waits for it.
    in_coroutine = False


class Driven:
    """Awaitable that runs `function` in a greenlet, as the body of the asyncio task around it.

    When that task is cancelled, `interruption` says what the function sees instead; None leaves it
    at the `CancelledError`.
    """

    def __init__(
        self, function: Callable[[], Any], interruption: Callable[[], Exception | None]
    ) -> None:
        self._function = function
        self._interruption = interruption

    def __await__(self) -> Generator[Any, Any, Any]:
        """Step through the function; yield what it awaits."""
        stepper = _Stepper(self._function, greenlet.getcurrent())
        stepper.gr_context = contextvars.copy_context()
        awaited = stepper.switch()
        while not stepper.dead:
            try:
                value = yield awaited
            except GeneratorExit:
                raise  # the loop is gone: nobody would serve what the function awaits next
            except asyncio.CancelledError as cancelled:
                awaited = stepper.throw(self._interruption() or cancelled)
            except BaseException as error:  # noqa: BLE001
                # What was awaited has failed: an error of the function's own.
                awaited = stepper.throw(error)
            else:
                awaited = stepper.switch(value)
        return awaited


def can_await_here() -> bool:
    """Tell whether the caller is a driven function, and not a coroutine that it waits for."""
    current = greenlet.getcurrent()
    return isinstance(current, _Stepper) and not current.in_coroutine


def await_here(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run the coroutine to its end and return its result. Only where `can_await_here`."""
    stepper = greenlet.getcurrent()
    assert isinstance(stepper, _Stepper)
    assert stepper.parent is not None
    stepper.in_coroutine = True
    try:
        return _step_through(coroutine, stepper.parent)
    finally:
        stepper.in_coroutine = False


def _step_through(coroutine: Coroutine[Any, Any, Any], parent: greenlet.greenlet) -> Any:
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
            # A failure, a cancellation or a time limit: the coroutine may handle it.
            error = thrown
