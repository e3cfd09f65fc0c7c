"""Accepting a message: the moment from which Turnmill owes an answer."""

from sqlalchemy import Connection, update

from turnmill.domain.ids import SessionId
from turnmill.store.engine import engine_of
from turnmill.store.records import Accepted, NewTurn
from turnmill.store.refusals import translated
from turnmill.store.rules.accepting import accepted
from turnmill.store.schema.tables import turns
from turnmill.wire import WAKE_CHANNEL


def accept(conn: Connection, session_id: SessionId, turn: NewTurn) -> Accepted:
    """Write the turn and its user message, or return the turn that the idempotency key stands for.

    In a transaction of the caller's, nothing counts before the caller commits. Raises
    SessionNotFound, SessionArchived, or IdempotencyConflict when the key stands for other content;
    after an error nothing was written. A turn with `reply_as` takes two statements: give it
    a transaction.
    """
    written = engine_of(conn).accept(conn, session_id, turn)
    made = accepted(conn, session_id, turn, written)
    if turn.reply_as is not None and made.created:
        # A statement of its own: nearly all turns are answered as their sessions say.
        conn.execute(update(turns).where(turns.c.id == turn.id).values(reply_as=turn.reply_as))
    return made


def accept_within(conn: Connection, session_id: SessionId, turn: NewTurn) -> Accepted:
    """Accept in the caller's transaction; a worker is told by Postgres when the caller commits.

    Raises WrongIsolation unless the transaction is READ COMMITTED: a frozen snapshot cannot see
    the keys that others have used meanwhile. Raises SessionBusy when the caller's lock timeout
    ends the wait for the session; the caller then rolls back.
    """
    engine = engine_of(conn)
    with translated():
        engine.require_fresh_reads(conn)
        made = accept(conn, session_id, turn)
        if made.announce:
            engine.notify(conn, WAKE_CHANNEL, [made.turn_id])
    return made
