"""How conversations of a window are likely to have been liked, of a sample, by times alone."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, and_, select

from turnmill.domain.analytics.conversing import Exchange
from turnmill.domain.analytics.satisfaction import estimate
from turnmill.domain.analytics.windows import Window
from turnmill.domain.states import FINAL, SessionStatus, TurnState
from turnmill.store.line.copies import is_copy
from turnmill.store.schema.feedback_tables import feedback
from turnmill.store.schema.tables import sessions, turns

#: Moments of the window from which on sessions are looked at, and how many from each.
_MOMENTS = 40
_AT_EACH = 5
#: Turns of all of them together.
_MOST_TURNS = 10_000


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
    chosen: set[UUID] = set()
    for n in range(_MOMENTS):
        at = window.since + n * step
        rated = select(feedback.c.id).where(
            feedback.c.session_id == sessions.c.id, feedback.c.score.is_not(None)
        )
        from_there = (
            select(sessions.c.id)
            .where(
                sessions.c.last_active_at >= at,
                sessions.c.last_active_at < at + step,
                sessions.c.status != SessionStatus.DELETED,
                ~rated.exists(),
                ~is_copy(sessions.c.id),
            )
            .order_by(sessions.c.last_active_at, sessions.c.id)
            .limit(_AT_EACH)
        )
        chosen.update(conn.scalars(from_there))
    return sorted(chosen)


def _exchange(row: Any) -> Exchange:
    return Exchange(
        asked_at=row.created_at,
        ended_at=row.finished_at,
        answered=row.state == TurnState.SUCCEEDED,
        said=None,
        heard=None,
    )
