"""How conversations of a window are likely to have been liked, of a sample, by times alone."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from itertools import pairwise
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, and_, bindparam, select

from turnmill.domain.analytics.conversing import Exchange
from turnmill.domain.analytics.satisfaction import estimate
from turnmill.domain.analytics.windows import Window
from turnmill.domain.ids import uuid7
from turnmill.domain.states import FINAL, SessionStatus, TurnState
from turnmill.store.line.copies import is_copy
from turnmill.store.rules.ratings import stands
from turnmill.store.schema.feedback_tables import feedback
from turnmill.store.schema.tables import sessions, turns

#: Moments of the window from which on sessions are looked at, and how many from each.
_MOMENTS = 40
_AT_EACH = 5
#: Sessions from each moment on that are looked at for some that nobody has rated.
_LOOKED_AT = 25
#: Turns of all of them together.
_MOST_TURNS = 10_000
_SINCE, _UNTIL = "first_id", "first_id_after"


def estimates_in(conn: Connection, window: Window) -> list[float]:
    """Return an estimate of each of up to 200 sessions that nobody has rated.

    They are spread evenly over the window, so that the same rows say the same again.
    """
    chosen = _chosen(conn, window)
    ended = and_(turns.c.session_id.in_(chosen), turns.c.state.in_(FINAL))
    columns = (turns.c.session_id, turns.c.state, turns.c.created_at, turns.c.finished_at)
    rows = conn.execute(
        select(*columns).where(ended).order_by(turns.c.session_id, turns.c.seq).limit(_MOST_TURNS)
    )
    talks: defaultdict[UUID, list[Exchange]] = defaultdict(list)
    for row in rows if chosen else ():
        talks[row.session_id].append(_exchange(row))
    found = (estimate(talk, turns=len(talk)) for talk in talks.values())
    return [one.score for one in found if one is not None]


def _chosen(conn: Connection, window: Window) -> Sequence[UUID]:
    step = window.length / _MOMENTS
    ids = [_first_id(window.since + n * step) for n in range(_MOMENTS + 1)]
    unrated = _unrated()
    chosen: set[UUID] = set()
    for since, until in pairwise(ids):
        chosen.update(conn.scalars(unrated, {_SINCE: since, _UNTIL: until}))
    return sorted(chosen)


@cache
def _unrated() -> Select[Any]:
    """Select some sessions that began in a time: ids sort by it, so that a few are read."""
    since, until = (bindparam(name, type_=sessions.c.id.type) for name in (_SINCE, _UNTIL))
    first = (
        select(sessions.c.id, sessions.c.status)
        .where(sessions.c.id >= since, sessions.c.id < until)
        .order_by(sessions.c.id)
        .limit(_LOOKED_AT)
        .subquery()
        .c
    )
    rated = (
        select(feedback.c.id)
        .join(turns, turns.c.id == feedback.c.turn_id)
        .where(feedback.c.session_id == first.id, stands())
    )
    is_seen = first.status != SessionStatus.DELETED
    query = select(first.id).where(is_seen, ~rated.exists(), ~is_copy(first.id))
    return query.order_by(first.id).limit(_AT_EACH)


def _first_id(at: datetime) -> UUID:
    return uuid7(unix_ms=int(at.timestamp() * 1000), random_bits=0)


def _exchange(row: Any) -> Exchange:
    return Exchange(
        asked_at=row.created_at,
        ended_at=row.finished_at,
        answered=row.state == TurnState.SUCCEEDED,
        said=None,
        heard=None,
    )
