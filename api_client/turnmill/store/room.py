"""How much is unfinished: sums over the sessions that have anything open."""

from sqlalchemy import Connection, func, select

from turnmill.domain.ids import SessionId
from turnmill.store.tables import sessions


def unfinished(conn: Connection, *, user_id: str | None) -> int:
    """Return how many turns of the user, or of everybody, are not final."""
    query = select(func.coalesce(func.sum(sessions.c.unfinished), 0)).where(
        sessions.c.unfinished > 0
    )
    if user_id is not None:
        query = query.where(sessions.c.user_id == user_id)
    return int(conn.execute(query).scalar_one())


def user_of(conn: Connection, session_id: SessionId) -> str | None:
    """Return whose session it is, or None when there is none."""
    return conn.scalar(select(sessions.c.user_id).where(sessions.c.id == session_id))
