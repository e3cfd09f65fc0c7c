"""Who waits for which turns: pure, with no clock and no thread, the same for all who listen."""

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from math import inf
from typing import Generic, Protocol, TypeVar

from turnmill.domain.ids import TurnId

#: At most so many turns are asked about in one statement.
ASKED_AT_ONCE = 1000
#: A connection that listens is kept for this long after the last who waited.
IDLE_SECONDS = 30.0
#: Nobody waits longer at a stretch: what a lock or a loop takes for a time has a bound.
_LONGEST_SECONDS = 3600.0
#: Until somebody listens, for whoever has so long.
LISTENING_SECONDS = 2.0


class Event(Protocol):
    """Of a thread, or of an event loop."""

    def set(self) -> None:
        """Wake who waits for it."""
        ...


E = TypeVar("E", bound=Event)


class Deadline:
    """How long somebody is willing to wait, on a clock that nobody sets."""

    def __init__(self, timeout: float | timedelta | None) -> None:
        """`timeout` is in seconds or a timedelta; None is without end, what is below 0 is 0."""
        self.seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        self._at = inf if self.seconds is None else time.monotonic() + self.seconds

    @property
    def left(self) -> float:
        """Return the seconds that are left, at most an hour: ask again then."""
        return max(0.0, min(self._at - time.monotonic(), _LONGEST_SECONDS))

    @property
    def passed(self) -> bool:
        """Tell whether nothing is left."""
        return self.left <= 0


class Watchlist(Generic[E]):
    """The turns that are waited for, when to ask about them, and when nobody waits any more.

    Its caller has the clock, and a lock where there are several threads.
    """

    def __init__(self) -> None:
        self._events: dict[TurnId, list[E]] = {}
        self._asked_at = -inf
        self._waited_at = inf

    def add(self, turn_id: TurnId, event: E) -> None:
        """Have the event set whenever the turn may have ended."""
        self._events.setdefault(turn_id, []).append(event)

    def remove(self, turn_id: TurnId, event: E) -> None:
        """Forget the event."""
        events = self._events[turn_id]
        events.remove(event)
        if not events:
            del self._events[turn_id]

    def wake(self, turn_ids: Iterable[TurnId]) -> None:
        """Set the events of these turns; those that nobody waits for cost a look."""
        for turn_id in turn_ids:
            for event in self._events.get(turn_id, ()):
                event.set()

    def began(self, now: float) -> None:
        """Note that somebody listens from now on; all turns are to be asked about once."""
        self._waited_at = now
        self._asked_at = -inf

    def to_ask(self, now: float, *, every: float) -> Iterator[list[TurnId]]:
        """Yield the turns that the store is to be asked about, in chunks, when it is time."""
        if now - self._asked_at < every:
            return
        self._asked_at = now
        waiting = list(self._events)
        for start in range(0, len(waiting), ASKED_AT_ONCE):
            yield waiting[start : start + ASKED_AT_ONCE]

    def is_idle(self, now: float) -> bool:
        """Tell whether nobody has waited for a while."""
        if self._events:
            self._waited_at = now
        return now - self._waited_at >= IDLE_SECONDS
