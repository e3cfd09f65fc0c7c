"""A time limit for what the other side is to do, while our own loop listens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: Parts of the time. A loop is at rest for some of them, or has looked so often at least.
LISTENINGS = 10


class _Parts:
    """What is left of the time. A function that calls itself later would be left to the collector.

    And with it the task, and all that came of the call.
    """

    __slots__ = ("_left", "_limit", "_loop", "_seconds", "_timer")

    def __init__(self, limit: asyncio.Timeout, seconds: float) -> None:
        self._left = LISTENINGS
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds / LISTENINGS
        self._timer = self._loop.call_later(self._seconds, self._listened)

    def cancel(self) -> None:
        self._timer.cancel()

    def _listened(self) -> None:
        self._left -= 1
        if self._left:
            self._timer = self._loop.call_later(self._seconds, self._listened)
        else:
            self._limit.reschedule(self._loop.time())


@asynccontextmanager
async def listening(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError after so long; a part of it that ends late counts as one.

    A handshake takes a few rounds of the loop. Where thousands of answers come in at once, or the
    machine is busy, a round takes seconds: `asyncio.timeout` would call that the server's silence.
    """
    async with asyncio.timeout(None) as limit:
        parts = _Parts(limit, seconds)
        try:
            yield
        finally:
            parts.cancel()
