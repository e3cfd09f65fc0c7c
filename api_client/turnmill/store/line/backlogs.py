"""Which lanes of which providers have anything waiting, and for how long."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from turnmill.domain.states import Lane, SessionStatus
from turnmill.store.line.pauses import NOT_PAUSED
from turnmill.store.readable import readable
from turnmill.store.schema.tables import sessions
from turnmill.store.schema_name import execute

_OPEN = "head_due_at IS NOT NULL AND status = 'active'"

# A loose index scan: one probe for each pair of lane and provider, whatever the backlog.
BACKLOGS = f"""
WITH RECURSIVE backlog AS (
    (SELECT head_lane, provider FROM turnmill.sessions WHERE {_OPEN}
     ORDER BY head_lane, provider LIMIT 1)
    UNION ALL
    SELECT further.head_lane, further.provider FROM backlog CROSS JOIN LATERAL (
        SELECT s.head_lane, s.provider FROM turnmill.sessions s
        WHERE {_OPEN} AND (s.head_lane, s.provider) > (backlog.head_lane, backlog.provider)
        ORDER BY s.head_lane, s.provider LIMIT 1
    ) AS further
)
SELECT head_lane, provider FROM backlog
"""
_OLDEST = f"""
SELECT head_due_at FROM turnmill.sessions o
WHERE {_OPEN} AND o.head_lane = s.head_lane AND o.provider = s.provider
ORDER BY o.head_due_at LIMIT 1
"""
_DUE = f"""
SELECT s.head_lane, s.provider, ({_OLDEST}) <= statement_timestamp() FROM ({BACKLOGS}) AS s
"""
_WAITS = f"""
SELECT s.head_lane, max(statement_timestamp() - oldest.head_due_at)
FROM ({BACKLOGS}) AS s CROSS JOIN LATERAL ({_OLDEST}) AS oldest
WHERE {NOT_PAUSED} AND oldest.head_due_at <= statement_timestamp()
GROUP BY s.head_lane
"""


class Backlog(NamedTuple):
    """Turns of one lane and provider that wait."""

    lane: Lane
    provider: str
    due: bool  #: at least one of them is due now


def backlogs(conn: Connection) -> list[Backlog]:
    """Return what has a head waiting, due or not."""
    if conn.dialect.name == "postgresql":
        rows: Sequence[Any] = execute(conn, _DUE).all()
    else:
        rows = conn.execute(
            select(
                sessions.c.head_lane,
                sessions.c.provider,
                func.min(sessions.c.head_due_at) <= datetime.now(UTC),
            )
            .where(
                sessions.c.head_due_at.is_not(None),
                sessions.c.status == SessionStatus.ACTIVE,
            )
            .group_by(sessions.c.head_lane, sessions.c.provider)
        ).all()
    return list(readable(rows, lambda row: Backlog(Lane(row[0]), str(row[1]), bool(row[2]))))


def longest_waits(conn: Connection) -> dict[Lane, timedelta]:
    """Return how long the first in each lane has been due: nobody has taken it, nor is it paused.

    On Postgres only. What a dispatcher is about to expire counts too.
    """
    return {Lane(lane): waited for lane, waited in execute(conn, _WAITS)}
