"""What stands for all turns where they are too many to be looked at one by one.

Sessions by chance, with all their turns, for what conversations are like; and whole hours, those
that went worst and some others, for what happens to everybody at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, zip_longest
from math import ceil
from typing import NamedTuple

from sqlalchemy import Connection, select

from turnmill.domain.analytics.suggesting.waiting import LATE_SECONDS
from turnmill.domain.analytics.windows import Window
from turnmill.domain.states import Lane, SessionStatus
from turnmill.store.analytics.ended_turns import Scope
from turnmill.store.analytics.figures import Dimension, Latency, Totals, counted_above, slots_of
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


def draw(conn: Connection, window: Window, slots: Mapping[datetime, Totals]) -> Drawn | None:
    """Return what stands for the turns of a window; None where they are few enough themselves.

    Its slots say how many there are, and which hours went worst.
    """
    hours = _hours_of(slots, window)
    turns = sum(one.turns for one in hours.values())
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
        **_hours(conn, window, hours),
    )


def draw_of(conn: Connection, window: Window) -> Drawn | None:
    """Do the same, with slots as figures have them."""
    return draw(conn, window, slots_of(conn, window))


class _Hour(NamedTuple):
    turns: int
    lost: int  #: of calls and of turns


def _hours_of(slots: Mapping[datetime, Totals], window: Window) -> dict[datetime, _Hour]:
    found: dict[datetime, _Hour] = {}
    for slot, one in slots.items():
        if window.since <= slot < window.until:
            at = slot.replace(minute=0)
            turns, lost = found.get(at, _Hour(0, 0))
            found[at] = _Hour(turns + one.turns, lost + one.retries + one.failed + one.dead)
    return found


def _hours(conn: Connection, window: Window, found: Mapping[datetime, _Hour]) -> dict[str, Scope]:
    late = counted_above(
        conn, window, of=Latency.QUEUED, ms=LATE_SECONDS * 1000, by=Dimension.HOUR, only=_ONLY
    )
    by_loss = sorted(found, key=lambda at: (-found[at].lost, at))
    by_delay = sorted(late, key=lambda at: (-late[at], at))
    ways = chain.from_iterable(zip_longest(by_loss, _spread(sorted(found))))
    calls = _as_many(dict.fromkeys(at for at in ways if at in found), found, _OF_CALLS)
    queues = _as_many(by_delay, found, _AIMED_AT)
    return {
        "calls": Scope(window=window, hours=list(calls)),
        "queues": Scope(window=window, hours=list(queues)),
    }


def _as_many(
    hours: Iterable[datetime], found: Mapping[datetime, _Hour], room: int
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
