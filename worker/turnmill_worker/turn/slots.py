"""Slots: how many turns a process holds at once, and what bulk must leave to interactive."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

from turnmill.domain.states import Lane
from turnmill_worker.turn.spacing import Spacing

_LEAST_RESERVE = 16
#: When nobody has got many slots for so long, who waits for many takes what there is.
_PATIENCE = timedelta(milliseconds=250)
#: Tasks that claim many turns, at once: claims are made one by one, and another task stands by.
_MOST_CLAIMING = 2


class _Waiter(NamedTuple):
    """Somebody who waits for many slots."""

    place: asyncio.Future[None]
    wanted: int


class Slots:
    """Counts turns, not tasks. A slot is taken before the claim. Used on one event loop."""

    def __init__(self, total: int) -> None:
        self.in_use = 0
        self._in_bulk = 0  #: of those
        self._bulk_was_last = False  #: to get a slot
        self._bulk_waits = 0  #: tasks that wait for slots, or are about to take them
        self._taken_at = 0.0  #: when many slots were taken at once, on the loop's clock
        self._claiming = 0
        self._tasks = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._waiters: deque[_Waiter] = deque()
        self.spacing = Spacing()
        self.resize(total)

    def resize(self, total: int) -> None:
        """Hold up to `total` turns from now on. Those beyond it run on to their ends."""
        self.total = total
        #: Bulk and quarantine never take these, so that an interactive turn starts at once.
        self.reserve = min(max(total // 10, _LEAST_RESERVE), total - 1) if total > 1 else 0
        #: So many bulk gets though interactive turns wait; of a single slot, every other time.
        self._share = max(1, total // 10)
        bulk = total - self.reserve
        self._worthwhile = max(1, bulk // 12)  # so many free slots are worth a claim of their own
        self._most_tasks = bulk  # each has at least one turn, but for those that claim
        self._let_in()

    def free(self, lane: Lane) -> int:
        """Return how many turns of the lane could start now."""
        left = self.total - self.in_use
        if lane is Lane.INTERACTIVE:
            return max(0, left - self._kept_for_bulk())
        own = min(left, self._kept_for_bulk()) if lane is Lane.BULK else 0
        return max(0, left - self.reserve, own)

    @property
    def owes_bulk(self) -> bool:
        """Tell whether bulk gets one of the next slots, should it wait for any."""
        return self._in_bulk < self._share

    async def take_one(self, *, again: bool = False) -> None:
        """Take a slot for an interactive turn, to be given back; first come, first served.

        `again` goes before all others: it had come to the end of the line before.
        """
        if self.free(Lane.INTERACTIVE) < 1:
            await self._turn_in_line(again=again)
        else:
            self._enter(Lane.INTERACTIVE)

    def bulk_places(self) -> int:
        """Return how many more tasks of many turns each are of use. From any thread.

        Every task takes a place in the pool. Were they not bounded, they would fill it while they
        wait, and an interactive turn would find slots that are free, and no place.
        """
        return max(0, min(_MOST_CLAIMING - self._claiming, self._most_tasks - self._tasks))

    @contextmanager
    def bulk_task(self) -> Iterator[None]:
        """Count a task of many turns."""
        self._tasks += 1
        try:
            yield
        finally:
            self._tasks -= 1

    @property
    def is_claimed_for(self) -> bool:
        """Tell whether a task of many turns claims, or waits for the slots to."""
        return self._claiming > 0

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Count a task as one that claims."""
        self._claiming += 1
        try:
            yield
        finally:
            self._claiming -= 1

    def take(self, lane: Lane, *, most: int) -> int:
        """Take up to `most` slots, as many as are free now; none where somebody waits for one."""
        taken = min(most, self.free(lane))
        self._enter(lane, taken)
        return taken

    async def take_some(self, lane: Lane, *, most: int) -> int:
        """Take up to `most` slots, at least one; waits until a worthwhile number is free."""
        loop = asyncio.get_running_loop()
        self._bulk_waits += 1
        try:
            while self.free(lane) < self._wanted(most, now=loop.time()):
                await self._free_for(min(most, self._worthwhile))
            taken = min(most, self.free(lane))
            self._enter(lane, taken)
        finally:
            self._bulk_waits -= 1
            self._let_in()  # those who were kept back for us
        self._taken_at = loop.time()
        return taken

    def _wanted(self, most: int, *, now: float) -> int:
        idle = now - self._taken_at > _PATIENCE.total_seconds()
        return 1 if idle else min(most, self._worthwhile)

    def give_back(self, count: int = 1, *, lane: Lane = Lane.INTERACTIVE) -> None:
        """Give slots back; those who wait get them first."""
        self.in_use -= count
        self._in_bulk -= count if lane is Lane.BULK else 0
        self._let_in()

    def _enter(self, lane: Lane, count: int = 1) -> None:
        self.in_use += count
        self._in_bulk += count if lane is Lane.BULK else 0
        self._bulk_was_last = lane is Lane.BULK
        if lane is Lane.INTERACTIVE:
            self.spacing.talked()

    def _kept_for_bulk(self) -> int:
        """Return how many slots are kept from interactive turns, since bulk waits for its share."""
        if not self._bulk_waits or (self.total == 1 and self._bulk_was_last):
            return 0
        return max(0, self._share - self._in_bulk)

    def _let_in(self) -> None:
        while self._waiting and self.free(Lane.INTERACTIVE) > 0:
            place = self._waiting.popleft()
            if not place.done():
                self._enter(Lane.INTERACTIVE)
                place.set_result(None)
        while self._waiters and self.free(Lane.BULK) >= self._waiters[0].wanted:
            place = self._waiters.popleft().place
            if not place.done():
                place.set_result(None)
                return

    async def _free_for(self, wanted: int) -> None:
        """Wait until so many slots are free, or as long as the patience."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(place, wanted)
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                await place
        except TimeoutError:
            return
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._let_in()  # the next one in our place
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    async def _turn_in_line(self, *, again: bool) -> None:
        """Wait for a slot that somebody hands over, already counted."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if again:
            self._waiting.appendleft(place)
        else:
            self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.give_back()
            raise
