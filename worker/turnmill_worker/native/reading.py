"""Reading what came of shards: all of it, or nobody believes that it is all."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from turnmill.domain.errors import NotSent, ProviderError, Rejected
from turnmill.store.nouns.shards import Native, Shard
from turnmill_worker.native.ahead import Ahead
from turnmill_worker.native.pace import MOST_TRIES, Pace
from turnmill_worker.native.shard_rows import ShardRows
from turnmill_worker.native.taking import Taking
from turnmill_worker.providers.batch_lines import UNREADABLE
from turnmill_worker.providers.batch_port import Answered, Batches, VendorBatch

#: Codes of what a vendor does not have.
GONE = frozenset({"http_404", "http_410", "not_found", "not_found_error"})
#: Of results that are not there, or not whole: the vendor may still be writing them.
_CUT = "batch_results_cut"


class _Seen(Exception):
    """Enough of the results was read."""


def is_missing(error: ProviderError) -> bool:
    """Tell whether results may only not be there yet."""
    return error.error_code in GONE | UNREADABLE | {_CUT}


class Reading:
    """Reads results of shards, and has them taken."""

    def __init__(self, rows: ShardRows, taking: Taking, pace: Pace) -> None:
        self._rows = rows
        self._taking = taking
        self._pace = pace

    async def take(self, batch: Native, shard: Shard, batches: Batches, found: VendorBatch) -> None:
        """Take what there is. Raises ProviderError where it is less than there has to be."""
        had: set[str] = set()

        async def take(some: Sequence[Answered]) -> None:
            had.update(one.custom_id for one in some)
            await self._taking.answered(batch, shard, some)

        async with Ahead(take) as ahead:
            await batches.read(found, ahead.take)
        if not found.are_all(len(had), lines=shard.lines):
            raise NotSent(_CUT)

    def patience(self, found: VendorBatch, *, is_wanted: bool) -> timedelta:
        """Return for how long after its end a batch is asked again for what is missing.

        Where nobody wants its lines, and it counts none, nothing but what is reserved for them
        waits for it: they are not asked again.
        """
        return self._pace.unread if is_wanted or found.results else self._pace.untold

    async def late(self, batch: Native, shard: Shard, batches: Batches) -> VendorBatch | None:
        """Book what has come of a shard after it was given up; None: there may be more to come.

        Or else return what can be deleted. What still runs is run for nobody: it is cancelled.
        """
        found = None
        try:
            found = await batches.look(shard.ref)
            if not found.is_over:  # the vendor did not know it for long, and does again
                await batches.cancel(shard.ref)
                return None
            await self.take(batch, shard, batches, found)
        except (NotSent, Rejected) as error:
            is_early = shard.ended_ago < self._pace.late
            if not is_missing(error) and (is_early or shard.tries < MOST_TRIES):
                raise
            if is_early:
                return None
        return found or VendorBatch(ref=shard.ref, status="gone", is_over=True)

    async def is_of(self, shard: Shard, batches: Batches, one: VendorBatch) -> bool:
        """Tell whether the results of a batch are those of this shard."""
        mine = False

        async def take(some: Sequence[Answered]) -> None:
            nonlocal mine
            ids = [answered.custom_id for answered in some]
            mine = await asyncio.to_thread(self._rows.holds_any, shard, ids)
            raise _Seen

        with suppress(_Seen):
            await batches.read(one, take)
            # Nothing came: whose they are, nobody can tell yet, unless none are to be had.
            if one.results or shard.asked_ago < self._pace.untold:
                raise NotSent(_CUT)
        return mine
