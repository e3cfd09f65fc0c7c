"""How often a store is asked again that has refused: soon at first, and for long where it pays."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import ParamSpec, TypeVar

from turnmill.domain.errors import SessionBusy, StoreError, Unstorable
from turnmill.grouping import Stopped

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds after each try.
PAUSES = (0.005, 0.02, 0.08, 0.3, 1.0)
#: What may have cost somebody money is offered to the store for so long.
KEEP = timedelta(minutes=15)


async def patiently(step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a step in a thread; one that another transaction was in the way of is run again."""
    for pause in PAUSES[:-1]:
        with suppress(SessionBusy):
            return await asyncio.to_thread(step, *args, **kwargs)
        await asyncio.sleep(pause)
    return await asyncio.to_thread(step, *args, **kwargs)


async def kept_trying(once: Callable[[], Awaitable[T]]) -> T:
    """Do it until the store lets us. Raises StoreError where it never will, or not for long."""
    loop = asyncio.get_running_loop()
    deadline, tries = loop.time() + KEEP.total_seconds(), 0
    while True:
        try:
            return await once()
        except (Stopped, Unstorable):
            raise
        except StoreError:
            if loop.time() > deadline:
                raise
        await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
        tries += 1
