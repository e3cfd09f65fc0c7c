"""Waiting for turns to end, for asyncio: thousands of waiters on one connection."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

from turnmill.domain.errors import StoreError
from turnmill.domain.ids import TurnId
from turnmill.listening.thread import (
    FAST_POLL_SECONDS,
    IDLE_SECONDS,
    LISTENING_SECONDS,
    POLL_CHUNK,
    POLL_SECONDS,
    Deadline,
    settled_ids,
)
from turnmill.per_loop import PerLoop
from turnmill.store.async_database import AsyncDatabase, ThreadedDatabase
from turnmill.store.nouns import turns
from turnmill.wire import SETTLED_CHANNEL

logger = logging.getLogger("turnmill.listening.thread")


class AsyncWaiter:
    """Waits for turns on whatever event loop it is asked."""

    def __init__(self, database: AsyncDatabase | ThreadedDatabase) -> None:
        self._watches = PerLoop(lambda: _Watch(database), close=_Watch.close, drop=lambda _: None)

    def expecting(
        self, turn_id: TurnId, deadline: Deadline
    ) -> AbstractAsyncContextManager[asyncio.Event]:
        """Give an event that is set whenever the turn may have ended. See `Waiter.expecting`."""
        return self._watches.here().expecting(turn_id, deadline)

    async def close(self) -> None:
        """Stop waiting; those who still wait run into their timeouts."""
        await self._watches.close()


class _Watch:
    """One task and one connection for all turns that are waited for on an event loop."""

    def __init__(self, database: AsyncDatabase | ThreadedDatabase) -> None:
        self._database = database
        self._events: dict[TurnId, list[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    @asynccontextmanager
    async def expecting(self, turn_id: TurnId, deadline: Deadline) -> AsyncIterator[asyncio.Event]:
        """See `AsyncWaiter.expecting`."""
        event = asyncio.Event()
        if deadline.passed:
            yield event  # one look needs nobody who listens
            return
        self._events.setdefault(turn_id, []).append(event)
        if self._task is None or self._task.done():
            self._listening.clear()
            self._task = asyncio.create_task(self._run())
        try:
            await happens(self._listening, min(LISTENING_SECONDS, deadline.left))
            yield event
        finally:
            self._events[turn_id].remove(event)
            if not self._events[turn_id]:
                del self._events[turn_id]

    async def close(self) -> None:
        """Stop the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None  # with it goes a connection that was yet to be made

    async def _run(self) -> None:
        """Wake waiters, through outages, until nobody has waited for a while."""
        while self._events:
            try:
                if isinstance(self._database, AsyncDatabase):
                    await self._listen(self._database)
                else:
                    await self._poll_only()
            except Exception as error:  # noqa: BLE001
                # The edge of this task: whoever waits must be able to go on after an outage.
                logger.warning("cannot listen for results: %s", type(error).__name__)
                self._listening.set()
                with suppress(StoreError):  # as in `Waiter`: who is told nothing still asks
                    await self._poll()
                await asyncio.sleep(POLL_SECONDS)

    async def _listen(self, database: AsyncDatabase) -> None:
        async with database.apart() as conn:
            await conn.exec_driver_sql(f"LISTEN {SETTLED_CHANNEL}")
            driver: Any = (await conn.get_raw_connection()).driver_connection
            await self._follow(driver)

    async def _follow(self, driver: Any) -> None:
        loop = asyncio.get_running_loop()
        await self._poll()
        self._listening.set()
        polled_at = waited_at = loop.time()
        while loop.time() - waited_at < IDLE_SECONDS:
            async for notice in driver.notifies(timeout=POLL_SECONDS, stop_after=1):
                self._wake(settled_ids(notice.payload))
            if loop.time() - polled_at >= POLL_SECONDS:
                await self._poll()
                polled_at = loop.time()
            if self._events:
                waited_at = loop.time()

    async def _poll_only(self) -> None:
        self._listening.set()
        while self._events:
            await self._poll()
            await asyncio.sleep(FAST_POLL_SECONDS)

    async def _poll(self) -> None:
        waiting = list(self._events)
        for start in range(0, len(waiting), POLL_CHUNK):
            chunk = waiting[start : start + POLL_CHUNK]
            self._wake(await self._database.run_single(turns.finished, chunk))

    def _wake(self, turn_ids: Iterable[TurnId]) -> None:
        for turn_id in turn_ids:
            for event in self._events.get(turn_id, ()):
                event.set()


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event, and tell whether it came in time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
