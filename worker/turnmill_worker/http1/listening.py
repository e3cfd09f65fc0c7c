"""A time limit for what the other side is to do, while our own loop listens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: Parts of the time. A loop is at rest for some of them, or has looked so often at least.
LISTENINGS = 10


@asynccontextmanager
async def listening(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError after so long; a part of it that ends late counts as one.

    A handshake takes a few rounds of the loop. Where thousands of answers come in at once, or the
    machine is busy, a round takes seconds: `asyncio.timeout` would call that the server's silence.
    """
    loop = asyncio.get_running_loop()
    left = LISTENINGS
    timer: asyncio.TimerHandle

    def listened() -> None:
        nonlocal left, timer
        left -= 1
        if left:
            timer = loop.call_later(seconds / LISTENINGS, listened)
        else:
            limit.reschedule(loop.time())

    async with asyncio.timeout(None) as limit:
        timer = loop.call_later(seconds / LISTENINGS, listened)
        try:
            yield
        finally:
            timer.cancel()
