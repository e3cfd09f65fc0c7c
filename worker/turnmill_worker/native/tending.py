"""Tending a shard: one step after the other, each noted before it is done and after."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

from turnmill.domain.batches import NOT_DELETED, UNREAD, BatchState, ShardState
from turnmill.domain.errors import MaybeSent, NotSent, ProviderError, Rejected, StoreError
from turnmill.store.database import Database
from turnmill.store.nouns.shards import REFUSED_FOR_WINDOW, Native, Shard
from turnmill.store.types import db_now
from turnmill_worker.native.doors import Doors, Shut
from turnmill_worker.native.making import Making
from turnmill_worker.native.pace import MOST_TRIES, Pace
from turnmill_worker.native.reading import GONE, Reading, is_missing
from turnmill_worker.native.reserving import Reserving, ShardLines
from turnmill_worker.native.saying import Saying
from turnmill_worker.native.shard_rows import Outrun, ShardRows
from turnmill_worker.native.taking import Taking
from turnmill_worker.providers.batch_port import UNSUPPORTED, Batches, Line, VendorBatch

logger = logging.getLogger("turnmill.native")

#: The vendor knows of nothing that costs.
_UNBEGUN = frozenset({ShardState.READY, ShardState.STORED})


class _Refusal(Exception):
    """The vendor wants none of a shard, whose batch stops: all has been done about it."""

    def __init__(self, error: ProviderError) -> None:
        super().__init__(error.error_code)
        self.error = error


class _Unasked(Exception):
    """There is no money for any line of a shard: it is gone, and its vendor was asked nothing."""


class Tending:
    """Sees to shards. Any number of processes do; a shard has one of them at a time."""

    def __init__(
        self,
        database: Database,
        saying: Saying,
        making: Making,
        taking: Taking,
        reserving: Reserving,
        *,
        doors: Doors,
        pace: Pace,
    ) -> None:
        self._doors = doors
        self._rows = ShardRows(database, lease=pace.lease)
        self._saying = saying
        self._making = making
        self._taking = taking
        self._reserving = reserving
        self._reading = Reading(self._rows, taking, pace)
        self._pace = pace
        #: of shards that were made here, until they are sent
        self.asked: dict[UUID, ShardLines] = {}

    async def see_to(self, shard: Shard) -> None:
        """Do what is to be done about a shard that was taken, until there is something to wait for.

        What fails is tried again, by whoever comes next.
        """
        try:
            async with self._held(shard):
                step: Shard | None = shard
                while step is not None:
                    step = await self._through(step)
        except Outrun:
            logger.warning("a shard is somebody else's by now", extra={"shard": str(shard.id)})
        except Shut as shut:
            with suppress(Outrun):
                # It may be opened at any time: to look for that costs no call.
                await self._note(shard, due_in=min(shut.left, self._pace.poll))
        except ProviderError as error:
            await self._failed(shard, error)
        finally:
            self.asked.pop(shard.id, None)

    async def _through(self, shard: Shard) -> Shard | None:
        """Do the next thing that is wanted, unless its account is closed."""
        if shard.state in _UNBEGUN:
            batch = await asyncio.to_thread(self._rows.batch, shard)
            if batch.is_over:
                return await self._dissolved(shard, None)
            if batch.state is BatchState.PAUSED:
                if not await asyncio.to_thread(self._rows.let_wait, shard, self._pace.poll):
                    raise Outrun
                return None
        tried = await self._doors.enter(shard)
        try:
            step = await self._step(shard)
        except _Unasked:
            await self._doors.unasked(tried)
            return None
        except _Refusal as refusal:
            await self._doors.refused(shard, refusal.error, tried)
            return None
        except ProviderError as error:
            await self._doors.refused(shard, error, tried)
            raise
        await self._doors.answered(tried)
        return step

    async def _step(self, shard: Shard) -> Shard | None:
        """Do the next thing, and return the shard where another one follows at once."""
        if shard.state is ShardState.TAKEN:
            return await self._clear(shard)
        batches = self._saying.batches_of(shard.provider)
        if shard.state is ShardState.READY:
            return await self._ask(shard, batches)
        return await self._STEPS[shard.state](self, shard, batches)

    async def _ask(self, shard: Shard, batches: Batches) -> Shard | None:
        """Bring the lines to their vendor that there is money for."""
        batch = await asyncio.to_thread(self._rows.batch, shard)
        asked = await self._lines(shard)
        lines = await self._reserving.reserve(batch, shard, asked)
        if not lines:
            await asyncio.to_thread(self._rows.discard, shard)
            raise _Unasked
        if len(lines) < len(asked.lines):
            shard = await self._noted(shard, **asked.sizes_of(lines, batch))
        return await (self._store if batches.stores else self._begin)(shard, batches, lines)

    async def _store(self, shard: Shard, batches: Batches, lines: list[Line]) -> Shard | None:
        noted = await self._noted(
            shard, state=ShardState.STORING, asked_at=db_now(), lines=len(lines)
        )
        try:
            stored = await batches.store(_name_of(noted), lines)
        except Rejected as error:
            return await self._refused(noted, error)
        return await self._noted(noted, state=ShardState.STORED, stored=stored, tries=0)

    async def _find_stored(self, shard: Shard, batches: Batches) -> Shard | None:
        """Go on where somebody has stopped while the lines were stored, perhaps."""
        found = await batches.stored(_name_of(shard), within=shard.asked_ago)
        if not found:
            return await self._noted(shard, state=ShardState.READY)
        for twice in found[1:]:
            await batches.clear(None, stored=[twice])
        return await self._noted(shard, state=ShardState.STORED, stored=found[0])

    async def _begin(
        self, shard: Shard, batches: Batches, lines: Sequence[Line] = ()
    ) -> Shard | None:
        """Let the vendor begin. From here on it costs money: what is noted is never forgotten."""
        # Where a batch has no name, how many lines it has is one of the things it is known by.
        count = {} if batches.stores else {"lines": len(lines)}
        noted = await self._noted(shard, state=ShardState.BEGINNING, asked_at=db_now(), **count)
        began = time.monotonic()
        await self._still_ours(noted, began)
        try:
            begun = await batches.begin(
                str(shard.id), endpoint=shard.endpoint, stored=shard.stored, lines=lines
            )
        except MaybeSent:
            return await self._note(noted, due_in=self._pace.unseen)
        except NotSent as error:
            await self._noted(noted, state=shard.state)
            raise error from None
        except Rejected as error:
            return await self._refused(noted, error)
        return await self._begun(noted, begun)

    async def _find_begun(self, shard: Shard, batches: Batches) -> Shard | None:
        """Find out whether the vendor has begun, and go on: nothing is begun twice."""
        found = await batches.find(str(shard.id), stored=shard.stored, within=shard.asked_ago)
        known = await asyncio.to_thread(self._rows.known, [one.ref for one in found])
        found = [one for one in found if one.ref not in known]
        if batches.knows_marks:
            if found:
                for twice in found[:-1]:  # of a worker that had slept: the oldest one is kept
                    await self._reserving.note_twin(shard, twice.ref)
                    await batches.cancel(twice.ref)
                return await self._begun(shard, found[-1])
        else:
            candidates = [one for one in found if one.total in (None, shard.lines)]
            for one in candidates:
                if one.is_over and await self._reading.is_of(shard, batches, one):
                    return await self._begun(shard, one)
            if any(not one.is_over for one in candidates):
                # It may be ours: its results say so, and nothing is sent until they are there.
                return await self._note(shard, due_in=self._pace.poll)
        if shard.asked_ago < self._pace.unseen:
            return await self._note(shard, due_in=self._pace.unseen)
        back = ShardState.STORED if batches.stores else ShardState.READY
        return await self._noted(shard, state=back)

    async def _look(self, shard: Shard, batches: Batches) -> Shard | None:
        batch = await asyncio.to_thread(self._rows.batch, shard)
        is_unwanted = batch.is_over or shard.is_twin
        if is_unwanted and shard.status != "cancelling":
            await batches.cancel(shard.ref)
            shard = await self._noted(shard, status="cancelling")
        ended = {} if shard.ended_at else {"ended_at": db_now()}
        try:
            found = await batches.look(shard.ref)
        except Rejected as error:
            if error.error_code not in GONE:
                raise
            # It may run on, and be paid for: not seen yet, or not with this key. Or it was deleted.
            shard = await self._noted(shard, status="gone", **ended)
            if shard.ended_ago < self._pace.unread:
                raise
            found = VendorBatch(ref=shard.ref, status="gone", is_over=True)
        if not found.is_over:
            status = "cancelling" if is_unwanted else found.status
            pause = self._pace.until_next_look(shard.begun_ago)
            return await self._note(shard, due_in=pause, status=status, tries=0, ended_at=None)
        if found.error_code and not found.outputs:
            return await self._failed_whole(shard, batch, found)
        shard = await self._noted(shard, status=found.status, outputs=list(found.outputs), **ended)
        return await self._take(shard, batches, batch, found)

    async def _take(
        self, shard: Shard, batches: Batches, batch: Native, found: VendorBatch
    ) -> Shard | None:
        is_wanted = not (batch.is_over or shard.is_twin)
        try:
            await self._reading.take(batch, shard, batches, found)
        except (NotSent, Rejected) as error:
            # What was taken stays; what is missing would be paid twice if it were asked again now.
            if not is_missing(error) or shard.ended_ago < self._reading.patience(
                found, is_wanted=is_wanted
            ):
                raise
            await self._give_up(shard, batch, found)
            return await self._note(
                shard, due_in=self._pace.unread, state=ShardState.TAKEN, status=UNREAD, tries=0
            )
        await self._taking.left(batch, shard, _unrun(found))
        return await self._noted(shard, state=ShardState.TAKEN, tries=0)

    async def _give_up(self, shard: Shard, batch: Native, found: VendorBatch) -> None:
        """Let lines go on of which nothing was told; what comes of them after all is paid for."""
        logger.warning(
            "results of a shard have not come: what is left of its lines goes on",
            extra={"action": "results_given_up", "shard": str(shard.id)},
        )
        await self._taking.left(batch, shard, _unrun(found), may_come=True)

    async def _failed_whole(self, shard: Shard, batch: Native, found: VendorBatch) -> Shard | None:
        """See to a shard of which nothing was run: the vendor says why."""
        if shard.is_twin:
            return await self._dissolved(shard, shard.error_code)
        if found.error_code == REFUSED_FOR_WINDOW:
            return await self._dissolved(shard, found.error_code)
        if found.bad_lines:
            await self._taking.refused(batch, shard, found.bad_lines)
            return await self._dissolved(shard, found.error_code)
        return await self._refused(shard, Rejected(found.error_code))

    async def _refused(self, shard: Shard, error: Rejected) -> Shard | None:
        """Let the batch stop where its vendor wants none of it: what it lacks, somebody gives it.

        Where it is the server that knows no batches, its turns run by themselves.
        """
        logger.warning("a shard was refused: %s", error.error_code, extra={"shard": str(shard.id)})
        if error.error_code == UNSUPPORTED:
            batch = await asyncio.to_thread(self._rows.batch, shard)
            await asyncio.to_thread(self._rows.run_alone, shard)
            await self._taking.let_go_all(batch, shard)
            return await self._noted(shard, state=ShardState.TAKEN, error_code=error.error_code)
        await asyncio.to_thread(self._rows.pause, shard, error.error_code)
        await self._dissolved(shard, error.error_code)
        raise _Refusal(error)

    async def _clear(self, shard: Shard) -> Shard | None:
        """Delete what the vendor keeps; after many tries in vain it is left to its own time."""
        if shard.status == UNREAD:
            batches = self._saying.batches_of(shard.provider)
            batch = await asyncio.to_thread(self._rows.batch, shard)
            found = await self._reading.late(batch, shard, batches)
            if found is None:
                return await self._note(shard, due_in=self._pace.unread, tries=0)
            told = {"status": found.status, "outputs": list(found.outputs)}
            shard = await self._noted(shard, **told, tries=0)
        if shard.tries < MOST_TRIES and (shard.stored or shard.ref or shard.outputs):
            batches = self._saying.batches_of(shard.provider)
            kept = VendorBatch(
                ref=shard.ref, status=shard.status, is_over=True, outputs=shard.outputs
            )
            # A worker that was killed may have stored the lines, and another one once more.
            stored = await batches.stored(_name_of(shard), within=shard.made_ago)
            stored = [*dict.fromkeys([shard.stored, *stored])] if shard.stored else stored
            await batches.clear(kept if shard.ref else None, stored=stored)
        left = {"error_code": NOT_DELETED} if shard.tries >= MOST_TRIES else {}
        return await self._note(shard, due_in=None, state=ShardState.DONE, **left)

    async def _begun(self, shard: Shard, begun: VendorBatch) -> Shard | None:
        """Note the vendor's name of it. It is looked at at once: some fail while they begin."""
        return await self._noted(
            shard,
            state=ShardState.BEGUN,
            ref=begun.ref,
            stored=begun.stored or shard.stored,
            status=begun.status,
            begun_at=db_now(),
            tries=0,
        )

    async def _dissolved(self, shard: Shard, code: str | None) -> Shard | None:
        """Park its turns again; what the vendor has stored of it is deleted."""
        if not await asyncio.to_thread(self._rows.dissolve, shard, code):
            raise Outrun
        if shard.stored:
            with suppress(ProviderError):
                await self._saying.batches_of(shard.provider).clear(None, stored=[shard.stored])
        return None

    async def _failed(self, shard: Shard, error: ProviderError) -> None:
        logger.warning(
            "cannot see to a shard: %s", error.error_code, extra={"shard": str(shard.id)}
        )
        pause = self._pace.after_failure(shard.tries)  # what a vendor asks for holds its account
        with suppress(Outrun):
            await self._note(shard, due_in=pause, tries=shard.tries + 1)

    async def _lines(self, shard: Shard) -> ShardLines:
        asked = self.asked.pop(shard.id, None)
        if asked is not None and asked.lines:
            return asked
        return await asyncio.to_thread(self._making.lines_of, shard.batch_id, str(shard.id))

    async def _still_ours(self, shard: Shard, began: float) -> None:
        """Raise where we may have slept for so long that somebody else goes on with it."""
        held = await asyncio.to_thread(self._rows.holds, shard)
        if not held or time.monotonic() - began > self._pace.lease.total_seconds() / 2:
            raise Outrun

    async def _noted(self, shard: Shard, **values: Any) -> Shard:
        """Note it, and go on."""
        found = await asyncio.to_thread(self._rows.write, shard, self._pace.lease, values)
        if found is None:
            raise Outrun
        return found

    async def _note(self, shard: Shard, *, due_in: timedelta | None, **values: Any) -> Shard | None:
        """Note it, and leave it until then: no step follows."""
        if await asyncio.to_thread(self._rows.write, shard, due_in, values) is None:
            raise Outrun
        return None

    @asynccontextmanager
    async def _held(self, shard: Shard) -> AsyncIterator[None]:
        """Keep the shard while it is seen to, however long the vendor takes."""
        keeping = asyncio.ensure_future(self._keep(shard))
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    async def _keep(self, shard: Shard) -> None:
        while True:
            await asyncio.sleep(self._pace.lease.total_seconds() / 3)
            with suppress(StoreError):
                await asyncio.to_thread(self._rows.holds, shard)

    _STEPS: Mapping[ShardState, Callable[..., Awaitable[Shard | None]]] = MappingProxyType(
        {
            ShardState.STORING: _find_stored,
            ShardState.STORED: _begin,
            ShardState.BEGINNING: _find_begun,
            ShardState.BEGUN: _look,
        }
    )


def _unrun(found: VendorBatch) -> NotSent:
    return NotSent(f"batch_{found.status if found.is_cut_short else 'line_missing'}")


def _name_of(shard: Shard) -> str:
    """Return under which name its lines are stored: by it they are found again."""
    return f"turnmill-{shard.id}.jsonl"
