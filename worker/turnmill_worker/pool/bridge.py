"""Greenlets that let Celery's synchronous tracer wait for a coroutine on an event loop.

Celery's tracer is one synchronous function: it sets up `self.request`, sends signals, calls the
task, and deals with retries and errors. It runs unmodified inside a greenlet; where the task's body
is a coroutine, the greenlet steps through it and hands each awaited future to the asyncio task
that it belongs to.

SQLAlchemy's `greenlet_spawn` does nearly that, but it steps through the coroutine outside of the
greenlet. Celery keeps `self.request` by greenlet, so a body that ran outside would not find it.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from typing import Any

import greenlet

#: Attempts at ending a function that awaits once more each time.
_KILLS = 3


class _Stepper(greenlet.greenlet):
    """Runs a synchronous function whose awaits are served by its parent."""

    #: The code of a coroutine runs just now, not that of the function which waits for it.
    in_coroutine = False
    #: Nobody wants to know how the function ends.
    given_up = False
    result: Any = None
    error: BaseException | None = None

    def __init__(self, function: Callable[[], Any], parent: greenlet.greenlet) -> None:
        super().__init__(None, parent)
        self._function = function

    def run(self) -> None:
        # Kept here, since a greenlet takes a `GreenletExit` for a result.
        try:
            self.result = self._function()
        except BaseException as error:  # noqa: BLE001
            self.error = error


class Driven:
    """Awaitable that runs `function` in a greenlet, as the body of the asyncio task around it.

    When that task is cancelled, `interruption` says what the function sees instead; None leaves it
    at the `CancelledError`. Each step is made within `stepping`.
    """

    __slots__ = ("_function", "_interruption", "_stepper", "_stepping")

    def __init__(
        self,
        function: Callable[[], Any],
        interruption: Callable[[], Exception | None] = lambda: None,
        *,
        stepping: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._function = function
        self._interruption = interruption
        self._stepping = stepping or contextlib.nullcontext()
        self._stepper: _Stepper | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        """Step through the function; yield what it awaits."""
        owner = asyncio.current_task()
        stepper = self._stepper = _Stepper(self._function, greenlet.getcurrent())
        stepper.gr_context = contextvars.copy_context()
        awaited = self._step(stepper.switch)
        while not stepper.dead:
            try:
                value = yield awaited
            except GeneratorExit as error:
                if asyncio.current_task() is not owner:
                    raise  # the loop is gone: nobody would serve what the function awaits next
                awaited = self._step(stepper.throw, error)
            except asyncio.CancelledError as cancelled:
                awaited = self._step(stepper.throw, self._interruption() or cancelled)
            except BaseException as error:  # noqa: BLE001
                # What was awaited has failed: an error of the function's own.
                awaited = self._step(stepper.throw, error)
            else:
                awaited = self._step(stepper.switch, value)
        if stepper.error is not None:
            raise stepper.error
        return stepper.result

    def _step(self, go: Callable[..., Any], *values: Any) -> Any:
        if self._stepper is None:
            raise asyncio.CancelledError  # it was killed; nobody waits for it any more
        with self._stepping:
            return go(*values)

    def give_up(self) -> None:
        """See to it that the function does not go on with what the coroutine it waits for gives."""
        if self._stepper is not None:
            self._stepper.given_up = True

    def kill(self) -> None:
        """End the function where it waits, on the loop's thread; for one that ignores everything.

        The coroutine is closed, which it may ignore too: it is never stepped again.
        """
        for _ in range(_KILLS):
            if self._stepper is not None and not self._stepper.dead:
                self._step(self._stepper.throw)
        self._stepper = None


def can_await_here(*, nested: bool = False) -> bool:
    """Tell whether the caller is a driven function, and not a coroutine that it waits for.

    With `nested`, a function that such a coroutine has called counts too: it can wait, and holds
    up that coroutine alone.
    """
    current = greenlet.getcurrent()
    return isinstance(current, _Stepper) and (nested or not current.in_coroutine)


def await_here(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run the coroutine to its end and return its result. Only where `can_await_here`."""
    stepper = greenlet.getcurrent()
    assert isinstance(stepper, _Stepper)
    assert stepper.parent is not None
    outer, stepper.in_coroutine = stepper.in_coroutine, True
    try:
        return _step_through(coroutine, stepper.parent)
    finally:
        stepper.in_coroutine = outer
        if stepper.given_up:
            # Celery's tracer would store what a revoked task returns, and start what follows it.
            raise greenlet.GreenletExit


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
        except greenlet.GreenletExit:
            # Killed, or dropped: there is nobody left to serve what the coroutine awaits next.
            with contextlib.suppress(BaseException):  # what it says to that does not count
                coroutine.close()
            raise
        except BaseException as thrown:  # noqa: BLE001
            # A failure, a cancellation or a time limit: the coroutine may handle it.
            error = thrown
