"""Work of other people's code in a task of its own: it can be closed, and left behind."""

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, Generic, TypeVar

from turnmill_worker.providers.decimals import apart

logger = logging.getLogger("turnmill.calls")

T = TypeVar("T")

#: How long a call that was cancelled may take to end: time to hang up in good order, and less than
#: the five seconds that a shutdown waits beyond the grace.
PATIENCE = timedelta(seconds=4)


class Call(Generic[T]):
    """One call, which begins at once. Used on one event loop.

    Cancelling whoever waits for it does not cancel it. One that refuses to be cancelled is left
    behind after a short patience: it may go on, and nobody waits for it or hears of its result.
    """

    __slots__ = ("_left", "_loop", "_task", "_waiting")

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = False
        self._waiting: asyncio.Future[None] | None = None
        self._task = apart().run(self._loop.create_task, work)
        self._task.add_done_callback(self._wake)

    def close(self, *, patience: timedelta = PATIENCE) -> None:
        """Cancel it."""
        self._task.cancel()
        self._loop.call_later(patience.total_seconds(), self._leave)

    @property
    def over(self) -> bool:
        """Tell whether there is nothing to wait for any more."""
        return self._left or self._task.done()

    def wait(self) -> Awaitable[None]:
        """Return what is done when it has ended or is left behind. One may wait at a time."""
        waiting = self._waiting = self._loop.create_future()
        if self.over:
            waiting.set_result(None)
        return waiting

    async def within(self, time: timedelta) -> T | None:
        """Wait for it, and return or raise what `result` does.

        Raises TimeoutError where it did not end in its time: it was closed then. It is closed, too,
        when whoever waits is cancelled.
        """
        deadline = self._loop.time() + time.total_seconds()
        timer = self._loop.call_at(deadline, self.close)
        try:
            await self.wait()
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            timer.cancel()
        if self._loop.time() >= deadline:
            raise TimeoutError
        return self.result()

    def result(self) -> T | None:
        """Return what came of it; None where it was cancelled or left behind. Raises its error."""
        if not self._task.done() or self._task.cancelled():
            return None
        return self._task.result()

    def value(self) -> T:
        """Return what came of work that nobody closes; raises its error, CancelledError too."""
        return self._task.result()

    def _leave(self) -> None:
        if not self._task.done():
            self._left = True
            logger.error("a call does not end though it was cancelled: it is left behind")
            self._wake()

    def _wake(self, _: object = None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


async def finished(work: asyncio.Future[T]) -> T:
    """Return the result, even when the task is cancelled while it waits: nobody else cancels it."""
    loop = asyncio.get_running_loop()
    while not work.done():
        waiting: asyncio.Future[None] = loop.create_future()
        work.add_done_callback(partial(_tell, waiting))
        with suppress(asyncio.CancelledError):
            await waiting
    return work.result()


def _tell(waiting: asyncio.Future[None], _: object) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """Finish the work even when the task is cancelled: a verdict in hand is not dropped."""
    return await finished(asyncio.get_running_loop().create_task(work))
