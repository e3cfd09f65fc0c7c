"""Upkeep of sessions, in chunks that hold few locks for a short time."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, select, update

from turnmill.domain.bounds import LONGEST_IDLE
from turnmill.domain.idle import ARCHIVABLE
from turnmill.domain.ids import SessionId
from turnmill.domain.states import SessionStatus
from turnmill.store.kept import give_up_all
from turnmill.store.line.head import lock_sessions
from turnmill.store.schema.tables import announcements, sessions, sql_list
from turnmill.store.schema_name import execute
from turnmill.store.types import db_after, db_now

# An older row may hold what no timestamp can be moved by: nothing is idle for so long anyway.
_LONGEST = int(LONGEST_IDLE.total_seconds())
_RESTING = f"status IN {sql_list(ARCHIVABLE)} AND unfinished = 0"

# One probe of the index for each idle time that is in use, and one for the default, whatever the
# number of sessions that are not idle.
_IDLE = f"""
WITH RECURSIVE own (seconds) AS (
    SELECT min(idle_seconds) FROM turnmill.sessions WHERE {_RESTING}
    UNION ALL
    SELECT (SELECT min(idle_seconds) FROM turnmill.sessions
            WHERE {_RESTING} AND idle_seconds > own.seconds)
    FROM own WHERE own.seconds IS NOT NULL
)
(SELECT idle.id FROM own CROSS JOIN LATERAL (
    SELECT id FROM turnmill.sessions
    WHERE {_RESTING} AND idle_seconds = own.seconds
        AND last_active_at < statement_timestamp()
            - make_interval(secs => GREATEST(0, LEAST(own.seconds, {_LONGEST})))
    ORDER BY last_active_at LIMIT %(limit)s
) AS idle)
UNION ALL
(SELECT id FROM turnmill.sessions
WHERE {_RESTING} AND idle_seconds IS NULL
    AND last_active_at < statement_timestamp() - %(default_ttl)s::interval
ORDER BY last_active_at LIMIT %(limit)s)
LIMIT %(limit)s
"""


def archive_idle(conn: Connection, *, default_ttl: timedelta | None, limit: int = 200) -> int:
    """Archive up to `limit` idle sessions and return how many; the longest idle ones first.

    A session with an unfinished turn is never idle, and one that somebody works with at this
    moment is left out. `default_ttl` is for sessions without an idle time of their own.
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
    give_up_all(conn, [SessionId(one) for one in archived])
    return len(archived)


def purge_archived(conn: Connection, *, older_than: timedelta, limit: int = 50) -> int:
    """Remove sessions that were archived longer ago than that, with every row; return how many.

    What vendors still keep of them stays known until it was deleted there.
    """
    over = and_(
        sessions.c.status == SessionStatus.ARCHIVED,
        sessions.c.archived_at < db_after(-older_than.total_seconds()),
    )
    found = conn.scalars(
        select(sessions.c.id).where(over).order_by(sessions.c.archived_at).limit(limit)
    ).all()
    if not found:
        return 0
    mine = lock_sessions(conn, [SessionId(one) for one in found], wait=False)
    conn.execute(delete(announcements).where(announcements.c.session_id.in_(mine)))
    give_up_all(conn, mine)
    return conn.execute(delete(sessions).where(sessions.c.id.in_(mine), over)).rowcount


def purge_announcements(conn: Connection, *, older_than: timedelta, limit: int = 5000) -> int:
    """Forget up to `limit` notes about hints older than that; return how many."""
    old = (
        select(announcements.c.session_id)
        .where(announcements.c.at < db_after(-older_than.total_seconds()))
        .limit(limit)
        .with_for_update(skip_locked=True)  # a dispatcher that is writing one is not waited for
    )
    return conn.execute(delete(announcements).where(announcements.c.session_id.in_(old))).rowcount


def _idle(conn: Connection, *, default_ttl: timedelta | None, limit: int) -> Sequence[SessionId]:
    if conn.dialect.name == "postgresql":
        # Compared with NULL, no session is idle by default.
        parameters = {"default_ttl": default_ttl, "limit": limit}
        return [SessionId(row[0]) for row in execute(conn, _IDLE, parameters)]
    query = select(sessions.c.id).where(_is_idle(default_ttl))
    rows = conn.scalars(query.order_by(sessions.c.last_active_at).limit(limit))
    return [SessionId(one) for one in rows]


def _is_idle(default_ttl: timedelta | None) -> ColumnElement[bool]:
    """Return `turnmill.domain.idle.is_idle` as a condition on the database's clock."""
    own: ColumnElement[Any] = sessions.c.idle_seconds
    seconds = own if default_ttl is None else func.coalesce(own, default_ttl.total_seconds())
    resting = and_(sessions.c.status.in_(ARCHIVABLE), sessions.c.unfinished == 0)
    seconds = case((seconds > _LONGEST, _LONGEST), (seconds < 0, 0), else_=seconds)
    return and_(resting, sessions.c.last_active_at < db_after(-seconds))
