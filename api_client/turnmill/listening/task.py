"""Listening on an event loop: thousands who wait for turns to end, on one connection."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

from turnmill.domain.errors import StoreError
from turnmill.domain.ids import TurnId
from turnmill.listening.notices import (
    POOLED_POLL_SECONDS,
    TOLD_POLL_SECONDS,
    UNTOLD_POLL_SECONDS,
    Notice,
    notice_of,
    reason_of,
)
from turnmill.listening.watchlist import LISTENING_SECONDS, Deadline, Watchlist
from turnmill.per_loop import PerLoop
from turnmill.store.async_database import AsyncDatabase, ThreadedDatabase
from turnmill.store.dialing import KEPT_IDLE
from turnmill.store.nouns import turns
from turnmill.wire import SETTLED_CHANNEL

logger = logging.getLogger("turnmill.waiting")


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


class _Listener:
    """See `turnmill.listening.thread.Listener`."""

    poll_seconds = TOLD_POLL_SECONDS

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    async def hear(self) -> Sequence[Notice]:
        heard = self._driver.notifies(timeout=TOLD_POLL_SECONDS, stop_after=1)
        return [notice_of(one) async for one in heard]


class _Untold:
    """Where nothing is told: who listens looks often."""

    def __init__(self, poll_seconds: float) -> None:
        self.poll_seconds = poll_seconds

    async def hear(self) -> Sequence[Notice]:
        await asyncio.sleep(self.poll_seconds)
        return ()


class _Watch:
    """One task and one connection for all turns that are waited for on an event loop."""

    def __init__(self, database: AsyncDatabase | ThreadedDatabase) -> None:
        self._database = database
        self._watchlist = Watchlist[asyncio.Event]()
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    @asynccontextmanager
    async def expecting(self, turn_id: TurnId, deadline: Deadline) -> AsyncIterator[asyncio.Event]:
        """See `AsyncWaiter.expecting`."""
        event = asyncio.Event()
        if deadline.passed:
            yield event  # one look needs nobody who listens
            return
        self._watchlist.add(turn_id, event)
        if self._task is None or self._task.done():
            self._listening.clear()
            self._watchlist.began(_now())
            self._task = asyncio.create_task(self._run())
        try:
            await async_happens(self._listening, min(LISTENING_SECONDS, deadline.left))
            yield event
        finally:
            self._watchlist.remove(turn_id, event)

    async def close(self) -> None:
        """Stop the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None  # with it goes a connection that was yet to be made

    async def _run(self) -> None:
        """Wake those who wait, through outages, until nobody has waited for a while."""
        while not self._watchlist.is_idle(_now()):
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001
                # The edge of this task: whoever waits must be able to go on after an outage.
                logger.warning("cannot listen for results: %s", reason_of(error))
                self._listening.set()
                with suppress(StoreError):  # as in `Waiter`: who is told nothing still asks
                    await self._ask(every=0.0)
                await asyncio.sleep(TOLD_POLL_SECONDS)

    async def _listen(self) -> None:
        if not isinstance(self._database, AsyncDatabase):
            await self._follow(_Untold(UNTOLD_POLL_SECONDS))
            return
        async with self._database.apart() as conn:
            if self._database.tells(conn):
                await conn.exec_driver_sql(KEPT_IDLE)
                await conn.exec_driver_sql(f"LISTEN {SETTLED_CHANNEL}")
                driver: Any = (await conn.get_raw_connection()).driver_connection
                await self._follow(_Listener(driver))
                return
        await self._follow(_Untold(POOLED_POLL_SECONDS))

    async def _follow(self, listener: _Listener | _Untold) -> None:
        await self._ask(every=0.0)  # for what ended before anybody listened
        self._listening.set()
        while not self._watchlist.is_idle(_now()):
            for notice in await listener.hear():
                self._watchlist.wake(notice.turn_ids)
            await self._ask(every=listener.poll_seconds)

    async def _ask(self, *, every: float) -> None:
        for turn_ids in list(self._watchlist.to_ask(_now(), every=every)):
            self._watchlist.wake(await self._database.run_single(turns.finished, turn_ids))


def _now() -> float:
    return asyncio.get_running_loop().time()


async def async_happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event, and tell whether it came in time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
