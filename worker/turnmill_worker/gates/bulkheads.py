"""Bulkheads: so many calls at once and no more, of all workers or of this one."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from turnmill.domain.errors import StoreError
from turnmill.domain.states import FOR_LIMIT
from turnmill.store.nouns.limits import LimitKey, share
from turnmill_worker.gates.put_off import PutOff
from turnmill_worker.gates.recalling import Recalling
from turnmill_worker.gates.rows import Rows

logger = logging.getLogger("turnmill.gates")

#: Permits are held for so long; a process that lives says so again about once a second.
LEASE = 5.0
#: Between two times that others are asked for theirs.
_AGAIN = 0.25
#: What has become free is given to those who wait after this, for many at once.
_GATHERED = 0.02
#: Who is put off is recalled as soon as there is room; this is for when nobody recalls him.
_LEAST, _MOST = 5.0, 300.0


@dataclass(slots=True, eq=False)
class Bulkhead:
    """The calls of this process that count together. Used on one event loop."""

    key: LimitKey
    recalling: Recalling
    most: int  #: at once; where it is shared, of all workers
    rows: Rows | None = None  #: None: it is for this process alone
    clock: Callable[[], float] = time.monotonic
    begun: dict[int, float] = field(
        default_factory=dict, repr=False
    )  #: calls in flight, since when
    held: int = 0  #: permits
    _wanting: int = 0  #: calls that are about to be counted
    _is_full: bool = False  #: all permits were held when we last asked
    _put_off: int = 0
    _usual: float = 0.0  #: seconds that a call takes, on the average
    _calls: int = 0
    _asked_at: float = -_AGAIN
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _freeing: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """How many calls of this process count."""
        return len(self.begun)

    @property
    def room(self) -> int:
        """How many calls more may begin now."""
        return (self.most if self.rows is None else self.held) - self.in_flight

    async def enter(self) -> PutOff | int:
        """Count a call and return its number; or return when its turn is to come again."""
        if self.room < 1 and self.rows is not None:
            self._wanting += 1
            try:
                await self._ask()
            finally:
                self._wanting -= 1
        if self.room < 1:
            self._put_off += 1
            return PutOff(self._wait())
        self._calls += 1
        self.begun[self._calls] = self.clock()
        return self._calls

    def leave(self, number: int) -> None:
        """Count it no more, and have one of those come who wait."""
        took = self.clock() - self.begun.pop(number)
        self._usual += (took - self._usual) / 8
        if (self._put_off or self.rows is not None) and (
            self._freeing is None or self._freeing.done()
        ):
            self._freeing = asyncio.get_running_loop().create_task(self._free())

    def _wait(self) -> float:
        """Return how long a turn waits that comes behind all that were put off so far."""
        oldest = next(iter(self.begun.values()), self.clock())
        takes = max(self._usual, self.clock() - oldest, _LEAST)
        return min(takes * (1 + self._put_off / max(1, self.most)), _MOST)

    async def tick(self) -> None:
        """Hold what is in flight, and give back the rest; about once a second."""
        if self.rows is not None and (self.held or self.in_flight):
            await self._hold()

    async def stop(self) -> None:
        """Give all back."""
        if self.rows is not None and self.held:
            await self._hold()

    async def _free(self) -> None:
        await asyncio.sleep(_GATHERED)
        was_full, room = self._is_full, self.room
        try:
            if self.rows is not None and room > 0:
                await self._hold()
        except StoreError as error:
            logger.warning("cannot give permits back: %s", error.code)
        if room > 0 and (self._put_off or was_full):
            came = await self.recalling.some(
                (FOR_LIMIT,), provider=self.key.provider, model=self.key.model, limit=room
            )
            self._put_off = max(0, self._put_off - came) if came == room else 0

    async def _ask(self) -> None:
        if self.clock() - self._asked_at < _AGAIN:
            return
        try:
            await self._hold()
        except StoreError as error:
            logger.warning("cannot take permits: %s", error.code)
        if self.room < 1:
            self._asked_at = self.clock()

    async def _hold(self) -> None:
        """Hold as many as are in flight, or about to be; one after the other, each in a write."""
        assert self.rows is not None
        async with self._asking:
            wanted = self.in_flight + self._wanting
            if self.room > 0 and self._wanting and self.held >= wanted:
                return  # somebody before us has asked for all
            self.held = min(self.held, wanted)  # what is about to be another's is not ours any more
            found = await self.rows.write(
                share, self.key, owner=self.rows.owner, wanted=wanted, for_seconds=LEASE
            )
            if found is None:  # the limit is gone, and nobody counts any more
                self.held, self._is_full = self.in_flight + wanted, False
            else:
                self.held, self._is_full = found.held, found.is_full
