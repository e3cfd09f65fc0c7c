"""Work of other people's code: how long it is waited for, and who ends it."""

import asyncio
from datetime import timedelta

import pytest

from tests.waiting import async_until
from turnmill_worker.providers.calls import Call

pytestmark = pytest.mark.anyio

LONG, AT_ONCE = timedelta(minutes=1), timedelta(0)


class Work:
    """Goes on until it is told to end, or closed."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.begun = self.closed = False

    async def run(self) -> str:
        self.begun = True
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.closed = True
            raise
        return "done"


async def test_what_ends_in_its_time_is_returned() -> None:
    work = Work()
    work.end.set()
    assert await Call(work.run()).within(LONG) == "done"


async def test_an_error_of_the_work_is_raised() -> None:
    async def broken() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await Call(broken()).within(LONG)


async def test_what_takes_longer_is_closed() -> None:
    work = Work()
    call = Call(work.run())
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await call.within(AT_ONCE)
    assert work.closed


async def test_who_is_cancelled_while_he_waits_takes_the_work_along() -> None:
    work = Work()
    waiting = asyncio.create_task(Call(work.run()).within(LONG))
    await async_until(lambda: work.begun)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    await async_until(lambda: work.closed)
