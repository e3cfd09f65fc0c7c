"""Reserving: what lines may cost is held before a vendor is asked, and who has no room waits."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from turnmill.domain.ids import TurnId
from turnmill.store.budget_records import Found, Reserved
from turnmill.store.database import Database
from turnmill.store.line.reserving import begin_periods
from turnmill.store.nouns import shard_money, shards
from turnmill.store.nouns.batch_pauses import pause
from turnmill.store.nouns.batch_tending import BEYOND_ITS_COST
from turnmill.store.nouns.shard_twins import note_twin
from turnmill.store.nouns.shards import Native, Shard
from turnmill_worker.layers.budget import exceeded
from turnmill_worker.native.pace import Pace
from turnmill_worker.native.saying import Wrong, tokens_of
from turnmill_worker.native.shard_rows import Outrun
from turnmill_worker.native.taking import Taking
from turnmill_worker.providers.batch_port import Line

if TYPE_CHECKING:
    from sqlalchemy import Connection

_GROUP = 200
#: Each time that one does not fit behind others of its group, one of these at the least did.
_MOST_TRIES = 2 * _GROUP
#: Who waits for a budget looks again after so long at the latest: a limit may be raised any time.
_LONGEST_WAIT = timedelta(minutes=1)
#: ... unless they are many: no more than so many are looked at in that time.
_LOOKED_AT = 2_000
_STAYS = frozenset({Found.RESERVED, Found.FREE})


@dataclass(slots=True)
class ShardLines:
    """The lines of a shard, and what those may cost that a budget may bound."""

    lines: list[Line] = field(default_factory=list, repr=False)
    most: dict[TurnId, Decimal | None] = field(default_factory=dict, repr=False)

    def sizes_of(self, left: Sequence[Line], batch: Native) -> dict[str, Any]:
        """Return what those come to that are left, as their shard says it."""
        costs = [self.most.get(_turn_of(one)) or Decimal(0) for one in left]
        return {
            "lines": len(left),
            "bytes": sum(len(one.body) + 1 for one in left),
            "tokens": sum(map(tokens_of, left)),
            "bound_usd": None if batch.max_cost_usd is None else sum(costs, Decimal(0)),
        }


class Reserving:
    """Reserves for shards. Each group of lines is a transaction of its own."""

    def __init__(
        self, database: Database, taking: Taking, *, tags: Sequence[str], pace: Pace
    ) -> None:
        """`tags` are the keys of metadata that budgets go by."""
        self._database = database
        self._taking = taking
        self._tags = tags
        self._pace = pace

    async def reserve(self, batch: Native, shard: Shard, asked: ShardLines) -> list[Line]:
        """Reserve for the lines of a shard, and return those that may be sent.

        Of the others, those that no budget lets wait fail; those whose price nobody knows are let
        go, and what is wrong is said where they run by themselves. All others are parked again.
        Raises Outrun where somebody else has the shard by now: he may have sent them.
        """
        told: dict[TurnId, Reserved] = {}
        ids = list(asked.most)
        for start in range(0, len(ids), _GROUP):
            some = {one: asked.most[one] for one in ids[start : start + _GROUP]}
            told |= await asyncio.to_thread(self._hold, shard, some)
        left = {one: found for one, found in told.items() if found.found not in _STAYS}
        if not left:
            return asked.lines
        await asyncio.to_thread(self._still_ours, shard)
        by = {found: [one for one in left if left[one].found is found] for found in Found}
        wrong = [(one, Wrong(exceeded())) for one in by[Found.EXCEEDED]]
        await self._taking.fail(batch, wrong, shard=shard)
        await self._taking.let_go(by[Found.UNPRICED], shard=shard)
        if later := by[Found.LATER] + by[Found.AGAIN]:
            await asyncio.to_thread(self._put_off, shard, later, self._wait(left, later))
            # What is only reserved may come back: that is waited for.
            stuck = [one for one in by[Found.LATER] if left[one].wait is None]
            if len(stuck) == len(asked.lines) and batch.max_cost_usd is not None:
                await asyncio.to_thread(self._stop_if_its_own, batch, stuck[0])
        return [one for one in asked.lines if _turn_of(one) not in left]

    async def note_twin(self, shard: Shard, ref: str) -> None:
        """Write down that the vendor has begun it twice: what this one costs is to be booked."""

        def note(conn: "Connection") -> None:
            self._keep(conn, shard)
            note_twin(conn, shard, ref, tags=self._tags)

        await asyncio.to_thread(self._database.run, note)

    def _wait(self, told: Mapping[TurnId, Reserved], later: Sequence[TurnId]) -> timedelta:
        waits = [told[one].wait or _LONGEST_WAIT for one in later]
        # A look writes each of them twice, whether or not anything has come back.
        soonest = min(max(min(waits), self._pace.poll), _LONGEST_WAIT)
        return max(soonest, _LONGEST_WAIT * (len(later) / _LOOKED_AT - 1))

    def _hold(self, shard: Shard, most: Mapping[TurnId, Decimal | None]) -> dict[TurnId, Reserved]:
        told: dict[TurnId, Reserved] = {}
        for _ in range(_MOST_TRIES):
            found = self._database.run(self._held, shard, most)
            told |= found
            again = {one: most[one] for one in found if found[one].found is Found.AGAIN}
            if not again:
                break
            most = again
            if over := {budget for one in again for budget in found[one].over}:
                self._database.run(begin_periods, over)
        return told

    def _held(
        self, conn: "Connection", shard: Shard, most: Mapping[TurnId, Decimal | None]
    ) -> dict[TurnId, Reserved]:
        self._keep(conn, shard)  # who ends a shard locks what it holds before budgets
        return shard_money.hold(conn, shard, most, tags=self._tags)

    def _put_off(self, shard: Shard, turn_ids: Sequence[TurnId], wait: timedelta) -> None:
        with self._database.begin() as conn:
            self._keep(conn, shard)
            shard_money.put_off(conn, shard, turn_ids, wait=wait)

    def _still_ours(self, shard: Shard) -> None:
        with self._database.begin() as conn:
            self._keep(conn, shard)

    def _keep(self, conn: "Connection", shard: Shard) -> None:
        if not shards.holds(conn, shard, lease=self._pace.lease):
            raise Outrun

    def _stop_if_its_own(self, batch: Native, turn_id: TurnId) -> None:
        def stop(conn: "Connection") -> None:
            if shard_money.waits_for_its_own(conn, turn_id):
                pause(conn, batch.id, BEYOND_ITS_COST)

        self._database.run(stop)


def _turn_of(line: Line) -> TurnId:
    return TurnId(UUID(line.custom_id))
