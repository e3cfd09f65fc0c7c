"""Spacing: how far apart turns of the bulk lane begin while somebody talks to this process."""

import asyncio
import time
from collections.abc import Callable

#: Of what one thread can compute, turns of the bulk lane take so much while somebody talks: what
#: comes in between finds the loop idle nearly every other time.
_SHARE = 0.6
#: Whoever got a slot waits for an answer, and may say the next thing right after it.
_TALKS_SECONDS = 2.0
#: What a turn of the bulk lane makes us compute, until that was measured; and its bounds.
_COSTS_SECONDS = 0.0005
_LEAST_SECONDS, _MOST_SECONDS = 0.0001, 0.01
#: It is worked out anew when so long has passed and so many were run, unless that took too long.
_LOOKS_SECONDS, _LEAST_TURNS, _OLD_SECONDS = 0.5, 50, 5.0
#: An interactive turn, which is a task of its own, makes us compute as much as so many of a batch.
_AS_MANY = 2
#: What was found counts so much less with each look.
_FADES = 0.75
#: So many begin together; and where nobody talks, or the loop comes late to them.
_AT_ONCE, _AT_MOST = 4, 20
#: What it is later than this is not made up for: what begins in a hurry is a burst again.
_LATE_SECONDS = 0.02


class Spacing:
    """Says when the next turns of the bulk lane begin. Used on one event loop.

    Turns that begin together end together, and a loop that is never idle makes everybody wait for
    all others at each step. While nobody talks there is nobody to wait, and nothing is held back.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        computed: Callable[[], float] = time.process_time,
    ) -> None:
        """`computed` tells for how many seconds this process has computed so far."""
        self._clock = clock
        self._computed = computed
        self._talks_until = float("-inf")
        self._next = float("-inf")  #: when the next turn may begin
        self._costs = _COSTS_SECONDS
        #: what was computed for how many turns: the older it is, the less it counts
        self._sums = (_COSTS_SECONDS * _LEAST_TURNS, float(_LEAST_TURNS))
        self._turns = 0  #: since the last look, as many as are worth one of the bulk lane
        self._looked = (float("-inf"), 0.0)  #: when that was, and what had been computed by then

    def talked(self) -> None:
        """Note that somebody has got a slot who waits for an answer."""
        self._talks_until = self._clock() + _TALKS_SECONDS
        self._turns += _AS_MANY

    def ended(self) -> None:
        """Note that a turn of the bulk lane has ended."""
        self._turns += 1

    @property
    def every(self) -> float:
        """How many seconds lie between the beginnings of two turns."""
        return self._costs / _SHARE

    async def some(self, most: int) -> int:
        """Wait until turns may begin; return how many, at least one, and at most that.

        Where nobody talks, that is after whatever else is ready on the loop.
        """
        now = self._clock()
        if now >= self._talks_until:
            await asyncio.sleep(0)
            return min(most, _AT_MOST)
        self._look(now)
        begins = max(self._next, now - _LATE_SECONDS)
        overdue = int((now - begins) / self.every)
        count = min(most, max(overdue, _AT_ONCE), _AT_MOST)
        self._next = begins + count * self.every
        await asyncio.sleep(max(begins - now, 0.0))
        return count

    def _look(self, now: float) -> None:
        """Work out what a turn makes us compute, of what was computed and was done since."""
        looked_at, before = self._looked
        since = now - looked_at
        if since < _LOOKS_SECONDS or (since < _OLD_SECONDS and self._turns < _LEAST_TURNS):
            return
        computed = self._computed()
        if since < _OLD_SECONDS:
            seconds, turns = self._sums
            self._sums = seconds, turns = (
                seconds * _FADES + computed - before,
                turns * _FADES + self._turns,
            )
            self._costs = min(max(seconds / turns, _LEAST_SECONDS), _MOST_SECONDS)
        self._looked, self._turns = (now, computed), 0
