"""Which lanes of which providers have anything waiting."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from turnmill.domain.states import Lane, SessionStatus
from turnmill.store.readable import readable
from turnmill.store.schema_name import execute
from turnmill.store.tables import sessions

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


def backlogs(conn: Connection) -> list[tuple[Lane, str]]:
    """Return the (lane, provider) pairs that have a head waiting, due or not."""
    if conn.dialect.name == "postgresql":
        rows: Sequence[Any] = execute(conn, BACKLOGS).all()
    else:
        rows = conn.execute(
            select(sessions.c.head_lane, sessions.c.provider)
            .where(
                sessions.c.head_due_at.is_not(None),
                sessions.c.status == SessionStatus.ACTIVE,
            )
            .distinct()
        ).all()
    return list(readable(rows, lambda row: (Lane(row[0]), str(row[1]))))
