"""Content that is kept for its time only: which turns have lost theirs."""

from sqlalchemy import ColumnElement, Connection, false, func, select

from turnmill.domain.ids import TurnId
from turnmill.store.schema.tables import sessions, turns


def is_gone() -> ColumnElement[bool]:
    """Return whether nothing is left of what was said in a turn, as a part of a query of turns."""
    until = (
        select(sessions.c.content_gone_until)
        .where(sessions.c.id == turns.c.session_id)
        .correlate(turns)
        .scalar_subquery()
    )
    return func.coalesce(turns.c.finished_at <= until, false())


def content_is_gone(conn: Connection, turn_id: TurnId) -> bool:
    """Tell whether nothing is left of what was said in the turn: its time was over."""
    found = select(turns.c.id).where(turns.c.id == turn_id, is_gone())
    return conn.execute(found).first() is not None
