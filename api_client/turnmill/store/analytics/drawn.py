"""What stands for all turns where they are too many to be looked at one by one.

Sessions by chance, with all their turns, for what conversations are like; and whole hours, those
that went worst and some others, for what happens to everybody at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, zip_longest
from math import ceil

from sqlalchemy import Connection, select

from turnmill.domain.analytics.suggesting.waiting import LATE_SECONDS
from turnmill.domain.analytics.windows import Window
from turnmill.domain.states import Lane, SessionStatus
from turnmill.store.analytics.ended_turns import Scope
from turnmill.store.analytics.figures import Dimension, Latency, Totals, counted_above, totals
from turnmill.store.rules.buckets import LOTS, lot_of
from turnmill.store.schema.tables import sessions

#: Of more turns, not all are looked at; and about so many are.
MOST_TURNS = 30_000
_AIMED_AT = 15_000
#: Each turn of these hours is looked at with all of its calls.
_OF_CALLS = 8_000
_A_DAY = timedelta(days=1)
_ONLY = {Dimension.LANE: Lane.INTERACTIVE.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What is looked at instead of everything."""

    sessions: Scope
    calls: Scope  #: hours in which many came to nothing, and others far apart
    queues: Scope  #: hours in which many waited for long


def draw(conn: Connection, window: Window, *, turns: int) -> Drawn | None:
    """Return what stands for the turns of a window; None where they are few enough themselves."""
    if turns <= MOST_TURNS:
        return None
    lots = max(1, ceil(LOTS * _AIMED_AT / turns))
    s = sessions.c
    ids = conn.scalars(
        select(s.id)
        .where(
            lot_of(s.id) < lots,
            s.last_active_at >= window.since - _A_DAY,
            s.created_at < window.until,
            s.status != SessionStatus.DELETED.value,
        )
        .limit(2 * _AIMED_AT)
    ).all()
    return Drawn(
        sessions=Scope(window=window, drawn=ids, share=lots / LOTS),
        **_hours(conn, window),
    )


def draw_of(conn: Connection, window: Window) -> Drawn | None:
    """Do the same, of as many turns as figures say; None where there are few."""
    return draw(conn, window, turns=totals(conn, window)[0].turns)


def _hours(conn: Connection, window: Window) -> dict[str, Scope]:
    found = {_begun(one): one for one in totals(conn, window, by=(Dimension.HOUR,))}
    late = counted_above(
        conn, window, of=Latency.QUEUED, ms=LATE_SECONDS * 1000, by=Dimension.HOUR, only=_ONLY
    )
    by_loss = sorted(found, key=lambda at: (-_lost(found[at]), at))
    by_delay = sorted(late, key=lambda at: (-late[at], at))
    ways = chain.from_iterable(zip_longest(by_loss, _spread(sorted(found))))
    calls = _as_many(dict.fromkeys(at for at in ways if at in found), found, _OF_CALLS)
    queues = _as_many(by_delay, found, _AIMED_AT)
    return {
        "calls": Scope(window=window, hours=list(calls)),
        "queues": Scope(window=window, hours=list(queues)),
    }


def _as_many(
    hours: Iterable[datetime], found: Mapping[datetime, Totals], room: int
) -> Iterator[datetime]:
    """Yield the first hours, as far as they have no more turns than there is room for."""
    for at in hours:
        room -= found[at].turns
        if room < 0:
            return
        yield at


def _spread(hours: Sequence[datetime]) -> Iterator[datetime]:
    """Yield hours so that any first few of them lie far apart."""
    step = len(hours)
    while step > 1:
        yield from hours[step // 2 :: step]
        step //= 2


def _begun(one: Totals) -> datetime:
    at = one.by[Dimension.HOUR]
    assert isinstance(at, datetime)
    return at


def _lost(one: Totals) -> int:
    return one.retries + one.failed + one.dead
