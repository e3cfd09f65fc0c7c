"""Upkeep of sessions, in chunks that hold few locks for a short time."""

from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    case,
    delete,
    func,
    literal_column,
    or_,
    select,
    update,
)

from turnmill.domain.bounds import LONGEST_IDLE
from turnmill.domain.idle import ARCHIVABLE
from turnmill.domain.ids import SessionId
from turnmill.domain.states import EventKind, SessionStatus
from turnmill.store.deletion_records import Gone
from turnmill.store.kept import give_up_all
from turnmill.store.line.head import lock_sessions
from turnmill.store.line.removing import remove_sessions
from turnmill.store.nouns.holds import not_on_hold
from turnmill.store.rules.happenings import write_session_events
from turnmill.store.schema.belongings import BELONGINGS, Goes
from turnmill.store.schema.house_tables import announcements
from turnmill.store.schema.life_tables import tombstones
from turnmill.store.schema.schedule_tables import schedules
from turnmill.store.schema.tables import sessions
from turnmill.store.types import ZERO, db_asof_after, db_now

# An older row may hold what no timestamp can be moved by: nothing is idle for so long anyway.
_LONGEST = int(LONGEST_IDLE.total_seconds())


def archive_idle(conn: Connection, *, default_ttl: timedelta | None, limit: int = 200) -> int:
    """Archive up to `limit` idle sessions and return how many; the longest idle ones first.

    A session with an unfinished turn is never idle, nor is one with a schedule that goes on; and
    one that somebody works with at this moment is left out. `default_ttl` is for sessions without
    an idle time of their own.
    """
    found = _idle(conn, default_ttl=default_ttl, limit=limit)
    if not found:
        return 0
    mine = lock_sessions(conn, found, wait=False)
    # Looked at again under the lock: a message may have come in between.
    archived = conn.scalars(
        update(sessions)
        .where(sessions.c.id.in_(mine), _is_idle(default_ttl))
        .values(status=SessionStatus.ARCHIVED, archived_at=db_now())
        .returning(sessions.c.id)
    ).all()
    write_session_events(conn, [SessionId(one) for one in archived], EventKind.ARCHIVED)
    give_up_all(conn, [SessionId(one) for one in archived])
    return len(archived)


def purge_archived(conn: Connection, *, older_than: timedelta, limit: int = 50) -> int:
    """Remove sessions that were archived longer ago than that, with every row; return how many.

    What vendors still keep of them stays known until it was deleted there.
    """
    over = and_(
        sessions.c.status == SessionStatus.ARCHIVED,
        sessions.c.archived_at < db_asof_after(-older_than.total_seconds()),
        not_on_hold(),
    )
    found = conn.scalars(
        select(sessions.c.id).where(over).order_by(sessions.c.archived_at).limit(limit)
    ).all()
    if not found:
        return 0
    mine = lock_sessions(conn, [SessionId(one) for one in found], wait=False)
    found = conn.scalars(select(sessions.c.id).where(sessions.c.id.in_(mine), over)).all()
    still = [SessionId(one) for one in found]
    write_session_events(conn, still, EventKind.PURGED)
    return remove_sessions(conn, still, how=Gone.PURGED)


def purge_announcements(conn: Connection, *, older_than: timedelta, limit: int = 5000) -> int:
    """Forget up to `limit` notes about hints older than that; return how many."""
    old = (
        select(announcements.c.session_id)
        .where(announcements.c.at < db_asof_after(-older_than.total_seconds()))
        .limit(limit)
        .with_for_update(skip_locked=True)  # a dispatcher that is writing one is not waited for
    )
    return conn.execute(delete(announcements).where(announcements.c.session_id.in_(old))).rowcount


def purge_tombstones(conn: Connection, *, older_than: timedelta, limit: int = 1000) -> int:
    """Forget up to `limit` sessions that went longer ago, and of which nothing is left anywhere."""
    left = [
        select(one.session).where(one.session == tombstones.c.session_id).exists()
        for one in BELONGINGS
        if one.goes is Goes.ELSEWHERE and one.session is not None
    ]
    over = (
        select(tombstones.c.session_id)
        .where(
            tombstones.c.at < db_asof_after(-older_than.total_seconds()),
            tombstones.c.removed_at.is_not(None),
            ~or_(*left),
        )
        .limit(limit)
    )
    return conn.execute(delete(tombstones).where(tombstones.c.session_id.in_(over))).rowcount


def _idle(conn: Connection, *, default_ttl: timedelta | None, limit: int) -> list[SessionId]:
    """Find idle sessions by one probe of the index for each idle time that is in use.

    Whatever the number of sessions that are not idle.
    """
    found: list[SessionId] = []
    for seconds in [*conn.scalars(_idle_times()), None]:
        after = default_ttl if seconds is None else timedelta(seconds=_clamped(seconds))
        if after is None or len(found) == limit:
            break
        idle = _idle_since(sessions, seconds, after.total_seconds())
        page = (
            select(sessions.c.id).where(idle, _has_no_plans()).order_by(sessions.c.last_active_at)
        )
        found += map(SessionId, conn.scalars(page.limit(limit - len(found))))
    return found


def _idle_times() -> Select[Any]:
    """Select the idle times of their own that sessions have, if any of these is idle."""
    first = select(func.min(sessions.c.idle_seconds).label("seconds")).where(_resting(sessions))
    own = first.cte("own", recursive=True)
    s, idle = sessions.alias("s"), sessions.alias("idle")
    further = select(func.min(s.c.idle_seconds)).where(
        _resting(s), s.c.idle_seconds > own.c.seconds
    )
    own = own.union_all(
        select(further.scalar_subquery()).where(own.c.seconds.is_not(None)).correlate(None)
    )
    any_idle = select(idle.c.id).where(_idle_since(idle, own.c.seconds, _clamp(own.c.seconds)))
    return select(own.c.seconds).where(any_idle.exists())


def _idle_since(s: FromClause, seconds: Any, after: Any) -> ColumnElement[bool]:
    """Return whether sessions of this idle time have been idle for so long, for the index."""
    own = s.c.idle_seconds.is_(None) if seconds is None else s.c.idle_seconds == seconds
    return and_(_resting(s), own, s.c.last_active_at < db_asof_after(-after))


def _has_no_plans() -> ColumnElement[bool]:
    """Return whether nothing is to be said in the session at a moment that is yet to come.

    With a limit, so that it is asked of each session that is found idle, by its index: a planner
    would take it for a join, and read all idle times for that.
    """
    to_come = schedules.c.next_at.is_not(None)
    mine = select(schedules.c.id).where(schedules.c.session_id == sessions.c.id, to_come).limit(1)
    return mine.correlate(sessions).scalar_subquery().is_(None)


def _resting(s: FromClause) -> ColumnElement[bool]:
    # In words, not in parameters: or no plan that is kept could use the partial index.
    archivable: list[Any] = [literal_column(f"'{status}'") for status in sorted(ARCHIVABLE)]
    return and_(s.c.status.in_(archivable), s.c.unfinished == ZERO)


def _clamped(seconds: int) -> int:
    return max(0, min(seconds, _LONGEST))


def _clamp(seconds: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((seconds > _LONGEST, _LONGEST), (seconds < 0, 0), else_=seconds)


def _is_idle(default_ttl: timedelta | None) -> ColumnElement[bool]:
    """Return `turnmill.domain.idle.is_idle` as a condition on the database's clock."""
    own: ColumnElement[Any] = sessions.c.idle_seconds
    seconds = own if default_ttl is None else func.coalesce(own, default_ttl.total_seconds())
    resting = and_(sessions.c.status.in_(ARCHIVABLE), sessions.c.unfinished == ZERO)
    late = sessions.c.last_active_at < db_asof_after(-_clamp(seconds))
    return and_(resting, late, _has_no_plans())
