"""Find out what stops an event loop: calls that wait, and loops that stand still."""

import _socket
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any

_TICK = 0.01  #: seconds
_STANDSTILL = 1.0  #: seconds: a busy machine may stop a loop for less

#: Functions that wait, whoever calls them.
_WAITING = (time.sleep, _socket.getaddrinfo, _socket.gethostbyname)


@contextmanager
def waiting_calls() -> Iterator[list[str]]:
    """Yield a list to which every call of this thread that waits is added, by its name."""
    found: list[str] = []

    def hear(_: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and _waits(called):
            found.append(called.__name__)

    before = sys.getprofile()
    sys.setprofile(hear)
    try:
        yield found
    finally:
        sys.setprofile(before)


def _waits(called: Any) -> bool:
    if called in _WAITING:
        return True
    # A socket with a timeout of 0 does not wait: those of an event loop have it.
    owner = getattr(called, "__self__", None)
    if not isinstance(owner, _socket.socket) or not called.__name__.startswith(_MOVES):
        return False
    return owner.gettimeout() != 0


_MOVES = ("accept", "connect", "recv", "send")


@asynccontextmanager
async def standstills() -> AsyncIterator[list[float]]:
    """Yield a list to which each time is added, in seconds, that the loop stood still."""
    found: list[float] = []
    ticking = asyncio.create_task(_tick(found))
    await asyncio.sleep(0)
    try:
        yield found
        await asyncio.sleep(_TICK)  # so that one at the end is seen
    finally:
        ticking.cancel()


async def _tick(found: list[float]) -> None:
    before = time.monotonic()
    while True:
        await asyncio.sleep(_TICK)
        now = time.monotonic()
        if now - before > _STANDSTILL:
            found.append(now - before)
        before = now
