"""Waiting for a condition: it comes true in time, or its test fails. Nobody sleeps and hopes."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from turnmill_worker.stack.process import wait_until

#: Other programs may need the machine: how long something may take that takes a second alone.
PATIENCE = timedelta(seconds=60)

_LOOK_EVERY_SECONDS = 0.005


def until(condition: Callable[[], object], *, within: timedelta = PATIENCE) -> None:
    """Wait for a condition, and fail when it does not come true."""
    assert wait_until(lambda: bool(condition()), timeout=within), "it did not come true in time"


async def async_until(condition: Callable[[], object], *, within: timedelta = PATIENCE) -> None:
    """Do the same while the event loop goes on."""
    async with asyncio.timeout(within.total_seconds()):
        while not condition():  # noqa: ASYNC110 - it is anything at all, and no event
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
