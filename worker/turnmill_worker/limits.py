"""Slots: how many turns a process holds at once, and what bulk must leave to interactive."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from turnmill.domain.states import Lane

_LEAST_RESERVE = 16


class Slots:
    """Counts turns, not tasks. A slot is taken before the claim. Used on one event loop."""

    def __init__(self, total: int) -> None:
        self.in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._patient: deque[asyncio.Future[None]] = deque()
        self.resize(total)

    def resize(self, total: int) -> None:
        """Hold up to `total` turns from now on. Those beyond it run on to their ends."""
        self.total = total
        #: Bulk and quarantine never take these, so that an interactive turn starts at once.
        self.reserve = min(max(total // 10, _LEAST_RESERVE), total - 1) if total > 1 else 0
        self._let_in()

    def free(self, lane: Lane) -> int:
        """Return how many turns of the lane could start now."""
        reserve = 0 if lane is Lane.INTERACTIVE else self.reserve
        return max(0, self.total - reserve - self.in_use)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Take a slot for an interactive turn; first come, first served."""
        if self.in_use >= self.total:
            await self._turn_in_line()
        else:
            self.in_use += 1
        try:
            yield
        finally:
            self.give_back()

    async def some(self, lane: Lane, *, most: int) -> int:
        """Take up to `most` slots, at least one; waits until a worthwhile number is free."""
        while self.free(lane) < self._worthwhile(most):
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._patient.append(place)
            await place
        taken = min(most, self.free(lane))
        self.in_use += taken
        return taken

    def give_back(self, count: int = 1) -> None:
        """Give slots back; those who wait get them first."""
        self.in_use -= count
        self._let_in()

    def _worthwhile(self, most: int) -> int:
        """Return how many free slots are worth a claim of their own, at most one in twenty."""
        return max(1, min(most, (self.total - self.reserve) // 20))

    def _let_in(self) -> None:
        while self._waiting and self.in_use < self.total:
            place = self._waiting.popleft()
            if not place.done():
                self.in_use += 1
                place.set_result(None)
        while self._patient and self.free(Lane.BULK) > 0:
            place = self._patient.popleft()
            if not place.done():
                place.set_result(None)
                return

    async def _turn_in_line(self) -> None:
        """Wait for a slot that somebody hands over, already counted."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.give_back()
            raise
