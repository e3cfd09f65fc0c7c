"""Polling: what is to be done about batches at vendors, by whoever is asked to, for a while."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from turnmill.domain.batches import BatchMode, BatchState
from turnmill.domain.errors import StoreError
from turnmill.domain.ids import BatchId
from turnmill.store.database import Database
from turnmill.store.nouns import shards as rows
from turnmill.store.nouns.batch_feeding import AT_ONCE, park_next
from turnmill.store.nouns.shards import Native, Shard
from turnmill_worker.native.doors import Doors
from turnmill_worker.native.making import Making
from turnmill_worker.native.pace import Pace
from turnmill_worker.native.reserving import Reserving
from turnmill_worker.native.saying import Saying
from turnmill_worker.native.taking import Prices, Taking
from turnmill_worker.native.tending import Tending
from turnmill_worker.providers.port import Provider

logger = logging.getLogger("turnmill.native")

#: Turns that are parked ahead, of lines that are not asked yet.
_PARKED = 40_000
#: ... beside those that no budget has room for: later lines, of others, do not wait behind so many.
_PUT_OFF = 160_000
#: While a shard is made, what stands at vendors is looked for this often.
_GLANCE_SECONDS = 0.2


class Polling:
    """Feeds, makes and tends shards. Any number of processes may, at any time."""

    def __init__(
        self,
        database: Database,
        provider: Callable[[str], Provider],
        prices: Prices,
        *,
        owner: str,
        pace: Pace,
        tags: tuple[str, ...] = (),
        saying: Saying | None = None,
    ) -> None:
        self._database = database
        self._pace = pace
        self._saying = saying = saying or Saying(provider)
        self._taking = Taking(database, prices, owner=owner, tags=tags)
        self._making = Making(database, saying, self._taking, price=prices.price, lease=pace.lease)
        self._tending = Tending(
            database,
            saying,
            self._making,
            self._taking,
            Reserving(database, self._taking, tags=tags, pace=pace),
            doors=Doors(database, saying.account_of, owner=owner),
            pace=pace,
        )

    async def run(self, *, within: timedelta) -> Mapping[str, int]:
        """Do what is due, and what becomes due within that time; return what was done."""
        ends = time.monotonic() + within.total_seconds()
        done = {"shards_made": 0, "shards_seen_to": 0}
        while True:
            made, seen = await self._round(ends)
            done["shards_made"] += made
            done["shards_seen_to"] += seen
            if made or seen:
                if time.monotonic() >= ends:
                    return done
                continue
            due = await asyncio.to_thread(self._next_due)
            if due is None or time.monotonic() + due.total_seconds() >= ends:
                return done
            await asyncio.sleep(max(due.total_seconds(), 0.02))

    async def _round(self, ends: float) -> tuple[int, int]:
        """Make what there is room for; meanwhile see to what stands at vendors, as it is due."""
        making = asyncio.create_task(self._make_some())
        seen = 0
        try:
            while not making.done():
                seen += await self._see_to_due(ends)
                await asyncio.wait({making}, timeout=_GLANCE_SECONDS)
            seen += await self._see_to_due(ends, at_least=0 if seen else 1)
            return await making, seen
        finally:
            await _ended(making)

    async def _make_some(self) -> int:
        made = 0
        for batch in await asyncio.to_thread(self._natives):
            try:
                made += await self._see_to(batch)
            except (
                StoreError
            ) as error:  # the others, and what stands at vendors, do not wait for it
                logger.warning("cannot see to batch %s: %s", batch.id, error.code)
        return made

    async def _see_to_due(self, ends: float, *, at_least: int = 0) -> int:
        """See to shards that are due until none is, or the time is over; return how many."""
        seen = 0
        while time.monotonic() < ends or seen < at_least:
            shard = await asyncio.to_thread(self._take_due)
            if shard is None:
                break
            try:
                await self._tending.see_to(shard)
            except StoreError as error:  # whoever takes it after its lease goes on with it
                logger.warning("cannot see to a shard: %s", error.code)
            seen += 1
        return seen

    async def _see_to(self, batch: Native) -> int:
        """Make a shard of a batch, and bring it to its vendor; return how many were made."""
        if batch.is_over:
            await self._taking.end_parked(batch)
            return 0
        if batch.mode is not BatchMode.NATIVE:
            await self._taking.let_go_all(batch, None)
            return 0
        if batch.state is not BatchState.RUNNING:
            return 0
        if self._saying.is_layered:
            await asyncio.to_thread(self._run_alone, batch.id)
            return 0
        await asyncio.to_thread(self._fill, batch)
        made = await self._making.make(batch)
        if made is None:
            return 0
        shard, asked = made
        self._tending.asked[shard.id] = asked
        await self._tending.see_to(shard)
        return 1

    def _fill(self, batch: Native) -> None:
        """Let lines become turns, so that there is something to make a shard of."""
        with self._database.single() as conn:
            parked, put_off = rows.parked(conn, batch.id, most=_PARKED + _PUT_OFF)
        if put_off >= _PUT_OFF:
            logger.warning(
                "%d lines of batch %s wait for a budget: later ones wait behind them",
                put_off,
                batch.id,
                extra={"action": "lines_wait_for_budget", "batch": str(batch.id)},
            )
            return
        while parked < _PARKED and (more := self._park_next(batch.id, most=_PARKED - parked)):
            parked += more

    def _park_next(self, batch_id: BatchId, *, most: int) -> int:
        return self._database.run(park_next, batch_id, limit=min(most, AT_ONCE))

    def _run_alone(self, batch_id: BatchId) -> None:
        with self._database.begin() as conn:
            rows.run_alone(conn, batch_id, because="calls go through layers of the operator's")

    def _natives(self) -> list[Native]:
        with self._database.single() as conn:
            return rows.natives(conn)

    def _take_due(self) -> Shard | None:
        with self._database.begin() as conn:
            return rows.take_due(conn, lease=self._pace.lease)

    def _next_due(self) -> timedelta | None:
        with self._database.single() as conn:
            return rows.next_due(conn)


async def _ended(work: asyncio.Task[int]) -> None:
    """Let a task go no further; what it raised is for those who await it, or is lost by now."""
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
