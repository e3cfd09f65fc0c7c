"""What is due: the dispatcher's look at the heads of all lines."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, select, update

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, SessionStatus, TurnState
from turnmill.store.kept import give_up_all, is_due
from turnmill.store.line.head import lock_sessions, move_lines, skipping_busy
from turnmill.store.records import Head, Moved
from turnmill.store.schema.tables import announcements, sessions, turns
from turnmill.store.schema_name import execute
from turnmill.store.types import db_asof, db_now

# Every head that was announced and is still due stands for one hint on its way. Looked for among
# the oldest: those that dispatchers announce first.
_UNANSWERED = """
SELECT count(*) FROM (
    SELECT FROM (
        SELECT DISTINCT provider FROM unnest(%(providers)s::text[]) AS p (provider)
    ) AS open CROSS JOIN LATERAL (
        SELECT s.id, s.head_due_at FROM turnmill.sessions s
        WHERE s.head_lane = %(lane)s AND s.provider = open.provider AND s.status = 'active'
            AND s.head_due_at <= statement_timestamp()
        ORDER BY s.head_due_at LIMIT %(among)s
    ) AS head JOIN turnmill.announcements a ON a.session_id = head.id
    WHERE a.at >= head.head_due_at
        AND a.at < statement_timestamp() - %(drained_quiet)s::interval
    LIMIT %(hints)s + 1
) AS unanswered
"""

# The hints of a broker that was emptied are lost: it fills up again, but not with them.
_ANNOUNCE = f"""
WITH queue AS MATERIALIZED (
    SELECT CASE WHEN %(hints)s = 0 THEN true ELSE ({_UNANSWERED}) > %(hints)s END AS drained
), wait AS MATERIALIZED (
    SELECT CASE WHEN drained THEN %(drained_grace)s::interval ELSE %(grace)s::interval END AS grace,
        CASE WHEN drained THEN %(drained_quiet)s::interval ELSE %(quiet)s::interval END AS quiet
    FROM queue
), due AS (
    SELECT head.id, head.head_turn_id FROM (
        SELECT DISTINCT provider FROM unnest(%(providers)s::text[]) AS p (provider)
    ) AS open CROSS JOIN LATERAL (
        SELECT s.id, s.head_turn_id, s.head_due_at
        FROM turnmill.sessions s LEFT JOIN turnmill.announcements a ON a.session_id = s.id
        WHERE s.head_lane = %(lane)s AND s.provider = open.provider AND s.status = 'active'
            AND s.head_due_at <= statement_timestamp() - (SELECT grace FROM wait)
            AND (a.at IS NULL OR a.at < s.head_due_at
                OR a.at < statement_timestamp() - (SELECT quiet FROM wait))
        ORDER BY s.head_due_at LIMIT %(limit)s
    ) AS head ORDER BY head.head_due_at LIMIT %(limit)s
), noted AS (
    INSERT INTO turnmill.announcements (session_id, at)
    SELECT id, clock_timestamp() FROM due ORDER BY id
    ON CONFLICT (session_id) DO UPDATE SET at = excluded.at
)
SELECT id, head_turn_id FROM due
"""

_COUNT = """
SELECT count(*) FROM (
    SELECT 1 FROM turnmill.sessions WHERE head_lane = %(lane)s AND provider = ANY(%(providers)s)
        AND status = 'active' AND head_due_at <= statement_timestamp() LIMIT %(limit)s
) AS due
"""

# Every dispatcher hears of it; the one whose note is written publishes.
_NOTE = """
INSERT INTO turnmill.announcements (session_id, at)
SELECT s.id, clock_timestamp()
FROM turnmill.turns t JOIN turnmill.sessions s ON s.id = t.session_id AND s.head_turn_id = t.id
WHERE t.id = ANY(%(ids)s::uuid[]) AND s.status = 'active'
    AND s.head_due_at <= statement_timestamp()
ORDER BY s.id
ON CONFLICT (session_id) DO UPDATE SET at = excluded.at
WHERE announcements.at < excluded.at - interval '1 second'
RETURNING session_id
"""


class Overdue(NamedTuple):
    """Whether there is anything to be done about what has had its time."""

    lost: bool
    expired: bool
    deleted: bool
    kept: bool  #: by a vendor, though nobody needs it any more


class Waits(NamedTuple):
    """How long hints are given before another one is published."""

    grace: timedelta  #: who makes a head due publishes it: time for that hint to be used
    quiet: timedelta  #: time for a hint of a dispatcher's to be used


def overdue(conn: Connection) -> Overdue:
    """Look, in one round trip, for what is rarely there; four indexes that are mostly empty."""
    lost = select(turns.c.id).where(
        turns.c.state == TurnState.RUNNING, turns.c.lease_until < db_asof()
    )
    expired = select(turns.c.id).where(*_expired())
    deleted = select(sessions.c.id).where(sessions.c.status == SessionStatus.DELETED)
    row = conn.execute(select(lost.exists(), expired.exists(), deleted.exists(), is_due())).one()
    return Overdue(*map(bool, row))


def announce_due(
    conn: Connection,
    lane: Lane,
    *,
    providers: Collection[str],
    limit: int,
    hints: int,
    waits: Waits,
    drained: Waits,
    among: int = 1000,
) -> list[Head]:
    """Choose up to `limit` due heads to publish, oldest first, and note that they were announced.

    `hints` is how many wait in the queue. `waits` says which heads are left alone, and `drained`
    says it where no hints wait, or fewer than were given to the `among` oldest due heads: some were
    lost. A note that outlives a lost hint costs one `quiet`.
    """
    rows = execute(
        conn,
        _ANNOUNCE,
        {
            "lane": lane.value,
            "providers": list(providers),
            "limit": limit,
            "hints": hints,
            "among": among,
            "grace": waits.grace,
            "quiet": waits.quiet,
            "drained_grace": drained.grace,
            "drained_quiet": drained.quiet,
        },
    )
    return [
        Head(turn_id=TurnId(turn_id), session_id=SessionId(session_id), lane=lane)
        for session_id, turn_id in rows
    ]


def note_announced(conn: Connection, turn_ids: Sequence[TurnId]) -> list[Head]:
    """Return those of the heads, due now, that this caller is to publish and nobody else."""
    mine = {row[0] for row in execute(conn, _NOTE, {"ids": list(turn_ids)})}
    rows = conn.execute(
        select(sessions.c.id, sessions.c.head_turn_id, sessions.c.head_lane).where(
            sessions.c.id.in_(mine), sessions.c.head_turn_id.is_not(None)
        )
    )
    return [
        Head(turn_id=TurnId(turn_id), session_id=SessionId(session_id), lane=Lane(lane))
        for session_id, turn_id, lane in rows
    ]


def forget_announced(conn: Connection, heads: Sequence[Head]) -> None:
    """Take back the notes of heads that could not be published after all."""
    conn.execute(
        delete(announcements).where(
            announcements.c.session_id.in_([head.session_id for head in heads])
        )
    )


def count_due(conn: Connection, lane: Lane, *, providers: Collection[str], limit: int) -> int:
    """Count the due heads of a lane, up to `limit`."""
    count: int = execute(
        conn, _COUNT, {"lane": lane.value, "providers": list(providers), "limit": limit}
    ).scalar_one()
    return count


def expire_overdue(conn: Connection, *, limit: int = 500) -> Moved:
    """End up to `limit` queued and retrying turns whose `expires_at` has passed."""
    condition = _expired()
    query = (
        select(turns.c.id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(*condition)
        .order_by(turns.c.expires_at)
        .limit(limit)
    )
    found = conn.scalars(skipping_busy(query)).all()
    if not found:
        return Moved(0, [])
    moved = conn.execute(
        update(turns)
        .where(turns.c.id.in_(found), *condition)
        .values(state=TurnState.EXPIRED, error_code="expired", finished_at=db_now())
        .returning(turns.c.session_id)
    ).scalars()
    ended: dict[SessionId, int] = {}
    for session_id in moved:
        ended[SessionId(session_id)] = ended.get(SessionId(session_id), 0) + 1
    return Moved(sum(ended.values()), move_lines(conn, ended))


def _expired() -> tuple[ColumnElement[bool], ...]:
    return (
        turns.c.state.in_((TurnState.QUEUED, TurnState.RETRYING)),
        turns.c.expires_at <= db_asof(),
    )


def purge_deleted(conn: Connection, *, limit: int = 100) -> int:
    """Remove the rows of deleted sessions that nothing runs in any more; return how many."""
    running = select(turns.c.id).where(
        turns.c.session_id == sessions.c.id, turns.c.state == TurnState.RUNNING
    )
    ids = conn.scalars(
        select(sessions.c.id)
        .where(sessions.c.status == SessionStatus.DELETED, ~running.exists())
        .limit(limit)
    ).all()
    mine = lock_sessions(conn, [SessionId(one) for one in ids], wait=False) if ids else set()
    if not mine:
        return 0
    conn.execute(delete(announcements).where(announcements.c.session_id.in_(mine)))
    give_up_all(conn, mine)
    gone = conn.execute(
        delete(sessions).where(
            sessions.c.id.in_(mine),
            sessions.c.status == SessionStatus.DELETED,
            ~running.exists(),
        )
    )
    return gone.rowcount
