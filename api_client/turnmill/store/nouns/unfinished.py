"""How much is unfinished: sums over the sessions that have anything open."""

from sqlalchemy import Connection, func, select

from turnmill.domain.ids import SessionId
from turnmill.store.schema.tables import sessions
from turnmill.store.schema_name import execute

_OF_USER = """
SELECT s.user_id, (
    SELECT COALESCE(sum(o.unfinished), 0) FROM turnmill.sessions o
    WHERE o.user_id = s.user_id AND o.unfinished > 0
) FROM turnmill.sessions s WHERE s.id = %(session_id)s
"""


def of_user(conn: Connection, session_id: SessionId) -> tuple[str, int] | None:
    """Return whose session it is and how many turns of that user are not final, or None."""
    if conn.dialect.name == "postgresql":
        row = execute(conn, _OF_USER, {"session_id": session_id}).one_or_none()
        return None if row is None else (row[0], int(row[1]))
    user_id = conn.scalar(select(sessions.c.user_id).where(sessions.c.id == session_id))
    if user_id is None:
        return None
    return user_id, _sum(conn, user_id)


def in_all(conn: Connection) -> int:
    """Return how many turns of everybody are not final."""
    return _sum(conn, None)


def _sum(conn: Connection, user_id: str | None) -> int:
    query = select(func.coalesce(func.sum(sessions.c.unfinished), 0)).where(
        sessions.c.unfinished > 0
    )
    if user_id is not None:
        query = query.where(sessions.c.user_id == user_id)
    return int(conn.execute(query).scalar_one())
