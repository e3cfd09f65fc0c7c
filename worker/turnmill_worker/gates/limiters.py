"""Limiters: calls of this process under one limit of a minute, and those that wait for their time.

Permits are taken from the limit's row for a short while ahead, for all that ask at once, about once
a second. A call that is to begin soon waits here; any other turn is put off to a place of its own.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from turnmill.domain import pacing
from turnmill.domain.errors import StoreError
from turnmill.domain.pacing import Answer, Ask, Rates, goes_first
from turnmill.store.nouns.limits import SET, LimitKey, Wanted, take
from turnmill_worker.gates.put_off import PutOff
from turnmill_worker.gates.rows import Rows

logger = logging.getLogger("turnmill.gates")

#: Between two looks at the row; and while more turns come than it has room for.
_PACE = 1.0
_HURRY = 0.25
#: After one that failed.
_AGAIN = 0.5
#: Calls that wait here for their time; each holds a slot.
_MOST_WAITING = 200
#: A permit is of use for so long after its time.
_KEEPS = 1.0
#: Permits that are taken ahead, and places in each line that is full.
_MOST_AHEAD = 200
_MOST_PLACES = 200
_LEAST = 0.1
#: Whoever has had a place, and finds none left, comes again so soon; beyond it, in another place.
_SOON = 3.0


@dataclass(slots=True, eq=False)
class _Waiter:
    line: str
    tokens: int
    is_back: bool  #: it has had a place
    came: asyncio.Future[float | PutOff]  #: when it may begin, on our clock


@dataclass(slots=True, eq=False)
class Limiter:
    """All calls of this process under one limit. Used on one event loop."""

    key: LimitKey
    rates: Rates
    rows: Rows
    clock: Callable[[], float] = time.monotonic
    _begins: deque[float] = field(default_factory=deque)  #: given ahead, and not used
    _places: dict[str, deque[float]] = field(default_factory=dict, repr=False)
    _waiting: list[_Waiter] = field(default_factory=list)
    _asked: int = 0  #: calls since the last look
    _missed: Counter[str] = field(
        default_factory=Counter, repr=False
    )  #: turns put off since, by line
    _unused: int = 0
    _unused_tokens: int = 0
    _next_look: float = 0.0
    _soon_until: float = 0.0
    _looking: asyncio.Task[None] | None = None

    async def enter(self, line: str, *, tokens: int, is_back: bool) -> PutOff | None:
        """Wait until the call may begin, and return None; or return when its turn is to come again.

        `is_back`: it was put off before, or goes on with something that was begun.
        """
        self._asked += 1
        if not is_back and (place := self._place(line)) is not None:
            return PutOff(place)
        begins = self._begin() if not self._waiting else None
        if begins is None:
            if len(self._waiting) >= _MOST_WAITING:
                return PutOff(self._soon())
            found = await self._given(line, tokens=tokens, is_back=is_back)
            if isinstance(found, PutOff):
                return found
            begins = found
        try:
            await asyncio.sleep(max(0.0, begins - self.clock()))
        except asyncio.CancelledError:
            self.not_used(tokens=tokens)
            raise
        return None

    def change(self, rates: Rates) -> bool:
        """Go by these rates from now on; True: somebody has raised them, and who waits may come.

        What a vendor says of its own changes often.
        """
        before, self.rates = self.rates, rates
        if rates == before or self.key.account != SET:
            return False
        self._places.clear()
        self._soon_until = 0.0
        return rates.is_above(before)

    def used(self, *, asked: int, used: int | None) -> None:
        """Note how many tokens a call has used, of which it was given so many."""
        if used is not None:
            self._unused_tokens += asked - used

    def not_used(self, *, tokens: int) -> None:
        """Give back what a call was given that was not made."""
        self._unused += 1
        self._unused_tokens += tokens

    def _place(self, line: str) -> float | None:
        """Return the next place that was taken ahead in a line that is full."""
        places, now = self._places.get(line), self.clock()
        while places:
            place = places.popleft()
            if place > now + pacing.EARLY:
                self._missed[line] += 1
                return place - pacing.EARLY - now
        return None

    def _begin(self) -> float | None:
        """Return a permit that was taken ahead."""
        now = self.clock()
        while self._begins:
            begins = self._begins.popleft()
            if begins > now - _KEEPS:
                return begins
            self._unused += 1
        return None

    async def _given(self, line: str, *, tokens: int, is_back: bool) -> float | PutOff:
        came: asyncio.Future[float | PutOff] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(line, tokens, is_back, came)
        self._waiting.append(waiter)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_while_asked())
        try:
            return await came
        except asyncio.CancelledError:
            if came.done() and not came.cancelled() and isinstance(came.result(), float):
                self.not_used(tokens=tokens)
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _soon(self) -> float:
        """Return when somebody comes again for whom there was no room at his time."""
        now = self.clock()
        self._soon_until = max(self._soon_until, now + 1.0) + self._each()
        return self._soon_until - now

    def _each(self) -> float:
        return self.rates.seconds_of(0)

    async def _look_while_asked(self) -> None:
        while self._waiting:
            await asyncio.sleep(max(0.0, self._next_look - self.clock()))
            try:
                await self._look()
            except StoreError as error:
                logger.warning("cannot take permits: %s; trying again", error.code)
                self._next_look = self.clock() + _AGAIN

    async def _look(self) -> None:
        """Ask the row for all that wait, and tell them."""
        waiting = sorted(self._waiting, key=lambda one: not goes_first(one.line))
        asked_at, missed = self.clock(), self._missed
        self._next_look = asked_at + (_HURRY if missed else _PACE)
        there_is_room = self._soon_until < asked_at + _SOON
        asks = [
            Ask(tokens=one.tokens, line=None if one.is_back and there_is_room else one.line)
            for one in waiting
        ]
        if not missed and not self.rates.tokens_per_minute:
            asks += [Ask()] * min(self._asked, _MOST_AHEAD)
        wanted = Wanted(
            asks=asks,
            more={line: min(2 * n, _MOST_PLACES) for line, n in missed.items()},
            unused=self._unused + len(self._begins),
            unused_tokens=self._unused_tokens,
        )
        self._begins.clear()
        self._unused = self._unused_tokens = self._asked = 0
        self._missed = Counter()
        try:
            found = await self.rows.write(take, self.key, wanted)
        except StoreError:
            self._unused += wanted.unused
            self._unused_tokens += wanted.unused_tokens
            raise
        if found is None:  # the limit is gone
            found = Answer(begins=[0.0] * len(asks), places={})
        self._tell(waiting, asks, found, asked_at)

    def _tell(
        self, waiting: list[_Waiter], asks: list[Ask], found: Answer, asked_at: float
    ) -> None:
        places = {
            line: deque(asked_at + one for one in given) for line, given in found.places.items()
        }
        for n, (waiter, ask) in enumerate(zip(waiting, asks, strict=False)):
            if n < len(found.begins):
                self._deliver(waiter, asked_at + found.begins[n])
            elif ask.line is None or not places.get(ask.line):
                self._deliver(waiter, PutOff(self._soon()))
            else:
                self._missed[ask.line] += 1
                seconds = places[ask.line].popleft() - pacing.EARLY - self.clock()
                self._deliver(waiter, PutOff(max(seconds, _LEAST)))
        self._begins.extend(asked_at + one for one in found.begins[len(waiting) :])
        self._places |= {line: left for line, left in places.items() if left}

    def _deliver(self, waiter: _Waiter, word: float | PutOff) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        if not waiter.came.done():
            waiter.came.set_result(word)
        elif not isinstance(word, PutOff):
            self.not_used(tokens=waiter.tokens)  # it was closed meanwhile
