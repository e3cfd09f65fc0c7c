"""Making shards: of turns that wait for one, as many as their vendor takes at once."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from turnmill.domain.errors import KeyMissing, NotSent
from turnmill.domain.ids import BatchId, TurnId
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.nouns import shards as rows
from turnmill.store.nouns.batch_pauses import UNPRICED, pause
from turnmill.store.nouns.batch_tending import BEYOND_ITS_COST
from turnmill.store.nouns.shard_turns import read_parked
from turnmill.store.nouns.shards import Native, NewShard, Shard
from turnmill.store.readable import ODD
from turnmill.store.records import Claim, Taken
from turnmill_worker.native.reserving import ShardLines
from turnmill_worker.native.saying import Price, Said, Saying, Unsuited, Wrong
from turnmill_worker.native.taking import Taking
from turnmill_worker.providers.batch_port import ShardBounds

if TYPE_CHECKING:
    from sqlalchemy import Connection

logger = logging.getLogger("turnmill.native")

_PAGE = 500
#: Lines that are looked at for one shard; those of other models are passed over.
_MOST_SEEN = 200_000
#: A shard takes no more of a window than one part of so many, and is not made for less than ...
_PARTS, _LEAST_PARTS = 2, 8


@dataclass(slots=True)
class Pick:
    """Turns that may go into one shard."""

    first: Said | None = field(default=None, repr=False)  #: what the others are like
    asked: ShardLines = field(default_factory=ShardLines, repr=False)  #: all that is kept of them
    unsuited: list[TurnId] = field(default_factory=list)
    wrong: list[tuple[TurnId, Wrong]] = field(default_factory=list)
    bytes: int = 0
    tokens: int = 0
    room: int | None = None  #: tokens that may be in it; None: any number
    money: Decimal | None = None  #: that it may cost; None: any amount
    bound_usd: Decimal = Decimal(0)
    is_full: bool = False
    is_beyond_its_cost: bool = False
    stops_unpriced: bool = True
    is_unpriced: bool = False  #: nobody knows what one costs, and the batch has a limit

    def takes(self, one: Said) -> bool:
        """Tell whether it has in common with the others what it has to."""
        return self.first is None or one.group == self.first.group

    def add(self, one: Said, most: Decimal | None) -> None:
        """Take it in: it costs so much at the most."""
        self.first = self.first or one
        self.asked.lines.append(one.line)
        if one.claim.budgeted:
            self.asked.most[one.claim.turn_id] = most
        self.bytes += len(one.line.body) + 1
        self.tokens += one.tokens

    def has_room(self, one: Said, bounds: ShardBounds, *, tokens: int | None) -> bool:
        """Tell whether it fits, too."""
        return (
            len(self.asked.lines) < bounds.lines
            and self.bytes + len(one.line.body) + 1 <= bounds.bytes
            and (tokens is None or self.tokens + one.tokens <= tokens)
        )


class Making:
    """Makes shards of what is parked."""

    def __init__(
        self,
        database: Database,
        saying: Saying,
        taking: Taking,
        *,
        price: Price,
        lease: timedelta,
    ) -> None:
        """`lease`: whoever makes a shard sees to it, for as long as that at first."""
        self._database = database
        self._lease = lease
        self._price = price
        self._saying = saying
        self._taking = taking

    async def make(self, batch: Native) -> tuple[Shard, ShardLines] | None:
        """Make one shard, and take it; None where there is nothing, or no room for it.

        Turns that no batch takes are let go: they run by themselves. Those that nobody could be
        asked fail.
        """
        try:
            pick = await asyncio.to_thread(self._pick, batch)
        except KeyMissing as error:
            await asyncio.to_thread(self._pause, batch.id, error.error_code)
            return None
        except NotSent as error:
            logger.warning("cannot make a shard: %s", error.error_code)
            return None
        await self._taking.let_go(pick.unsuited)
        await self._taking.fail(batch, pick.wrong)
        if pick.first is None:
            if pick.is_unpriced:
                await asyncio.to_thread(self._pause, batch.id, UNPRICED)
            elif pick.is_beyond_its_cost:
                await asyncio.to_thread(self._pause, batch.id, BEYOND_ITS_COST)
            return None
        return await asyncio.to_thread(self._make, batch, pick, pick.first)

    def lines_of(self, batch_id: BatchId, shard: str) -> ShardLines:
        """Return the lines of a shard that another process has made, as they were made then."""
        pick = Pick()
        for page in self._pages(batch_id, shard=shard):
            said = (self._saying.say(one) for one in page if not isinstance(one, Taken))
            for one in said:
                if isinstance(one, Said):
                    pick.add(one, self._most(pick, one))
        return pick.asked

    def _pick(self, batch: Native) -> Pick:
        pick, asked = self._begun(batch)
        seen = 0
        for page in self._pages(batch.id, shard=""):
            for one in page:
                if isinstance(one, Taken):
                    pick.unsuited.append(one.turn_id)  # whoever claims it says what is wrong
                else:
                    self._look_at(pick, one)
                if pick.is_full:
                    break
            seen += len(page)
            if pick.is_full or seen >= _MOST_SEEN:
                break
        # What is asked for now may cost less than it might: then there is more.
        pick.is_beyond_its_cost = pick.is_beyond_its_cost and not asked
        return pick

    def _begun(self, batch: Native) -> tuple[Pick, bool]:
        with self._database.single() as conn:
            found = rows.unspent(conn, batch)
        if found is None:
            return Pick(), False
        return Pick(money=found[0], stops_unpriced=not batch.is_of_trial), found[1]

    def _look_at(self, pick: Pick, claim: Claim) -> None:
        one = self._saying.say(claim)
        if isinstance(one, Unsuited):
            pick.unsuited.append(claim.turn_id)
        elif isinstance(one, Wrong):
            pick.wrong.append((claim.turn_id, one))
        elif pick.takes(one):
            most = self._most(pick, one)
            if self._can_be_paid(pick, one, most):
                self._add(pick, one, most)

    def _most(self, pick: Pick, one: Said) -> Decimal | None:
        """Return what it may cost at the most, where anybody asks; None: nobody knows."""
        if pick.money is None and not one.claim.budgeted:
            return None
        return self._saying.bound_of(one, self._price)

    def _can_be_paid(self, pick: Pick, one: Said, bound: Decimal | None) -> bool:
        """Tell whether the batch has money for it; what nobody can bound runs by itself."""
        if pick.money is None:
            return True
        if bound is None and pick.stops_unpriced and not self._saying.is_priced(one, self._price):
            pick.is_full = pick.is_unpriced = True
            return False
        if bound is None:
            pick.unsuited.append(one.claim.turn_id)
            return False
        if pick.bound_usd + bound > pick.money:
            pick.is_full = pick.is_beyond_its_cost = True
            return False
        pick.bound_usd += bound
        return True

    def _add(self, pick: Pick, one: Said, most: Decimal | None) -> None:
        bounds = one.batches.bounds
        if pick.first is None:
            pick.room = self._room(one)
            if not Pick().has_room(one, bounds, tokens=bounds.window):
                pick.unsuited.append(one.claim.turn_id)  # by itself it is more than is taken
                return
        if pick.has_room(one, bounds, tokens=pick.room):
            pick.add(one, most)
        else:
            pick.is_full = True

    def _room(self, one: Said) -> int | None:
        """Return how many tokens a shard may take; None: any number."""
        window = one.batches.bounds.window
        if window is None:
            return None
        provider, model, _ = one.group
        with self._database.begin() as conn:
            waiting = rows.enqueued(conn, provider=provider, model=model)
            learned = rows.learned_window(conn, provider=provider, model=model)
        window = min(window, learned or window)
        left = window - waiting
        if waiting and left < window // _LEAST_PARTS:
            return 0  # rather a larger one a little later
        return min(left, max(window // _PARTS, one.tokens))

    def _make(self, batch: Native, pick: Pick, first: Said) -> tuple[Shard, ShardLines] | None:
        provider, model, endpoint = first.group
        shard = NewShard(
            id=UUID(str(new_id())),
            batch_id=batch.id,
            provider=provider,
            model=model,
            endpoint=endpoint,
            turn_ids=[TurnId(UUID(one.custom_id)) for one in pick.asked.lines],
            bytes=pick.bytes,
            tokens=pick.tokens,
            bound_usd=None if pick.money is None else pick.bound_usd,
        )
        with self._database.begin() as conn:
            waiting = rows.enqueued(conn, provider=provider, model=model)
            window = first.batches.bounds.window
            if window is not None and waiting and waiting + pick.tokens > window:
                return None  # somebody else was there first
            made = rows.make(conn, shard)
            taken = rows.take_due(conn, lease=self._lease, shard_id=shard.id) if made else None
        if taken is None:
            return None
        return taken, pick.asked if made == len(pick.asked.lines) else ShardLines()

    def _pages(self, batch_id: BatchId, *, shard: str) -> "Pages":
        def read(after: TurnId | None) -> Sequence[Claim | Taken]:
            def page(conn: "Connection") -> Sequence[Claim | Taken]:
                found = read_parked(conn, batch_id, shard=shard, after=after, limit=_PAGE)
                return [_read(one) for one in found]

            return self._database.run(page)

        return Pages(read)

    def _pause(self, batch_id: BatchId, code: str) -> None:
        with self._database.begin() as conn:
            pause(conn, batch_id, code)


def _read(one: Taken) -> Claim | Taken:
    """Return what a turn says, or the row where nobody can read it."""
    try:
        return one.read()
    except ODD:
        return one


class Pages:
    """Pages of parked turns, one after the other."""

    def __init__(self, read: Callable[[TurnId | None], Sequence[Claim | Taken]]) -> None:
        self._read = read
        self._after: TurnId | None = None

    def __iter__(self) -> "Pages":
        return self

    def __next__(self) -> Sequence[Claim | Taken]:
        page = self._read(self._after)
        if not page:
            raise StopIteration
        self._after = page[-1].turn_id
        return page
