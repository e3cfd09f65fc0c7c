"""How much is unfinished: sums over the sessions that have anything open."""

from sqlalchemy import Connection, bindparam, func, select

from turnmill.domain.ids import SessionId
from turnmill.store.schema.tables import sessions
from turnmill.store.types import ZERO

_OPEN = sessions.alias("o")
_IN_ALL = select(func.coalesce(func.sum(_OPEN.c.unfinished), 0)).where(_OPEN.c.unfinished > ZERO)
_OF_USER = select(
    sessions.c.user_id,
    _IN_ALL.where(_OPEN.c.user_id == sessions.c.user_id).correlate(sessions).scalar_subquery(),
).where(sessions.c.id == bindparam("session_id"))


def of_user(conn: Connection, session_id: SessionId) -> tuple[str, int] | None:
    """Return whose session it is and how many turns of that user are not final, or None."""
    row = conn.execute(_OF_USER, {"session_id": session_id}).one_or_none()
    return None if row is None else (row[0], int(row[1]))


def in_all(conn: Connection) -> int:
    """Return how many turns of everybody are not final."""
    return int(conn.execute(_IN_ALL).scalar_one())
