"""What was said in a session, as a provider is sent it."""

from sqlalchemy import Connection

from turnmill.domain.ids import SessionId
from turnmill.store.codec import StoredHistory
from turnmill.store.engine import engine_of


def succeeded_history(conn: Connection, session_id: SessionId) -> StoredHistory:
    """Return all messages of succeeded turns, in order: what a provider is sent."""
    return engine_of(conn).history(conn, session_id)
