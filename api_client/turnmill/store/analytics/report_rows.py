"""What a report takes from rows: why turns came to nothing, and sessions that stand out.

By index, and in bounded numbers, however many turns there are.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, and_, case, func, or_, select

from turnmill.domain.analytics.report_data import Reason, SessionLine
from turnmill.domain.analytics.windows import SLOT, Window
from turnmill.domain.states import Lane, SessionStatus, TurnState
from turnmill.store.analytics.figures import Dimension, Latency
from turnmill.store.analytics.figures import longest as slots_with_longest
from turnmill.store.rules.used import unpriced
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import seconds_between

#: Lines of each list.
_SHOWN = 10
#: Turns that failed, the newest of which are looked at.
MOST_FAILED = 50_000
#: Sessions that are looked at for the dearest, so many at once.
_DEAREST, _AT_ONCE = 500, 50
#: Slots that are looked at for the slowest; first so few of them, then twice as many, and so on.
_SLOTS, _SLOTS_FIRST = 372, 12
_A_DAY = timedelta(days=1)
_LOST = (TurnState.FAILED.value, TurnState.DEAD.value)


def reasons(conn: Connection, window: Window) -> tuple[list[Reason], bool]:
    """Return why turns came to nothing, the most frequent first, and whether all were looked at."""
    t = turns.c
    before = window.previous()
    newest = (
        select(t.error_code, t.state, t.session_id, t.finished_at)
        .where(t.state.in_(_LOST))
        .order_by(t.id.desc())
        .limit(MOST_FAILED)
        .subquery()
        .c
    )
    is_now = and_(newest.finished_at >= window.since, newest.finished_at < window.until)
    is_then = and_(newest.finished_at >= before.since, newest.finished_at < before.until)
    of_now = case((is_now, newest.session_id), else_=None)
    rows = conn.execute(
        select(
            newest.error_code,
            func.count().filter(is_now).label("turns"),
            func.count().filter(is_now, newest.state == TurnState.DEAD.value).label("dead"),
            func.count(of_now.distinct()).label("sessions"),
            func.count().filter(is_then).label("before"),
            func.count().label("all"),
        )
        .group_by(newest.error_code)
        .order_by(func.count().filter(is_now).desc(), newest.error_code)
    ).all()
    is_cut = sum(row.all for row in rows) >= MOST_FAILED
    found = [_reason(row, is_cut=is_cut) for row in rows if row.turns]
    return found[:_SHOWN], not is_cut


def _reason(row: Any, *, is_cut: bool) -> Reason:
    return Reason(
        code=row.error_code or "unknown",
        turns=row.turns,
        dead=row.dead,
        sessions=row.sessions,
        before=None if is_cut else row.before,
    )


class _Spent(NamedTuple):
    turns: int
    cost_usd: Decimal
    unpriced: int


def dearest(conn: Connection, window: Window) -> list[SessionLine]:
    """Return the sessions that cost the most in the window, of those whose rows are there.

    A session has cost no more in it than in all. So those that have cost the most in all are added
    up first, until no other one can have cost as much as the last that is shown.
    """
    s = sessions.c
    candidates = conn.execute(
        select(s.id, s.provider, s.model, s.cost_usd)
        .where(
            s.last_active_at >= window.since - _A_DAY,
            s.created_at < window.until,
            s.cost_usd > 0,
            s.status != SessionStatus.DELETED.value,
        )
        .order_by(s.cost_usd.desc(), s.id)
        .limit(_DEAREST)
    ).all()
    found: list[SessionLine] = []
    for start in range(0, len(candidates), _AT_ONCE):
        some = candidates[start : start + _AT_ONCE]
        if len(found) == _SHOWN and some[0].cost_usd <= found[-1].cost_usd:
            break
        spent = _spent(conn, [one.id for one in some], window)
        dear = [one for one in some if one.id in spent and spent[one.id].cost_usd]
        found += [_line(one, spent[one.id]) for one in dear]
        found = sorted(found, key=lambda one: (-one.cost_usd, one.session_id))[:_SHOWN]
    return found


def _spent(conn: Connection, ids: Sequence[UUID], window: Window) -> dict[UUID, _Spent]:
    t = turns.c
    rows = conn.execute(
        select(t.session_id, func.count(), func.sum(t.cost_usd), func.count().filter(unpriced(t)))
        .where(
            t.session_id.in_(ids),
            t.finished_at >= window.since,
            t.finished_at < window.until,
        )
        .group_by(t.session_id)
    )
    return {one: _Spent(count, Decimal(cost or 0), odd) for one, count, cost, odd in rows}


def _line(session: Any, spent: _Spent, longest_ms: float | None = None) -> SessionLine:
    return SessionLine(
        session_id=session.id,
        provider=session.provider,
        model=session.model,
        turns=spent.turns,
        cost_usd=spent.cost_usd,
        longest_ms=longest_ms,
        unpriced_turns=spent.unpriced,
    )


def slowest(conn: Connection, window: Window) -> list[SessionLine]:
    """Return the sessions in which an interactive turn took the longest, of those that are there.

    Figures say in which quarters of an hour the slowest ended: turns of those alone are looked at,
    until nothing in the next ones took longer. Of many quarters, one session has all that is slow,
    or the rows are gone.
    """
    only = {Dimension.LANE: Lane.INTERACTIVE.value}
    slots = slots_with_longest(conn, window, of=Latency.TOTAL, only=only, most=_SLOTS)
    longest: dict[UUID, float] = {}
    start, size = 0, _SLOTS_FIRST
    while start < len(slots):
        if len(longest) == _SHOWN and min(longest.values()) >= slots[start][1]:
            break
        some = [at for at, _ in slots[start : start + size]]
        longest = _slower(longest, _longest_in(conn, some))
        start, size = start + size, size * 2
    spent = _spent(conn, list(longest), window)
    s = sessions.c
    rows = conn.execute(select(s.id, s.provider, s.model).where(s.id.in_(list(longest)))).all()
    lines = [_line(row, spent[row.id], longest[row.id]) for row in rows]
    return sorted(lines, key=lambda one: (-(one.longest_ms or 0), one.session_id))


def _slower(some: Mapping[UUID, float], more: Mapping[UUID, float]) -> dict[UUID, float]:
    """Return the slowest of both."""
    found = {one: max(some.get(one, 0.0), more.get(one, 0.0)) for one in {*some, *more}}
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0]))[:_SHOWN])


def _longest_in(conn: Connection, slots: Sequence[datetime]) -> dict[UUID, float]:
    """Return the sessions whose turns took the longest of those that ended in these slots."""
    t = turns.c
    when = or_(*(and_(t.finished_at >= at, t.finished_at < at + SLOT) for at in slots))
    longest = func.max(seconds_between(t.finished_at, t.created_at))
    rows = conn.execute(
        select(t.session_id, longest)
        .join(sessions, sessions.c.id == t.session_id)
        .where(
            when,
            t.lane == Lane.INTERACTIVE.value,
            sessions.c.status != SessionStatus.DELETED.value,
        )
        .group_by(t.session_id)
        .order_by(longest.desc(), t.session_id)
        .limit(_SHOWN)
    )
    return {session_id: seconds * 1000 for session_id, seconds in rows}
