"""Accepting in single steps: the write lock of SQLite stands for the session's."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from turnmill.domain.errors import TurnmillError
from turnmill.domain.ids import SessionId
from turnmill.domain.states import EventKind, SessionStatus
from turnmill.store.codec import rows_of
from turnmill.store.records import Accepted, Item, NewTurn, Start, Written
from turnmill.store.rules.accepting import (
    TAKES_MESSAGES,
    accepted,
    at_message,
    require_open,
    sealer_of_new,
    session_values,
    turn_values,
)
from turnmill.store.rules.happenings import observe_new, write_session_events, write_turn_events
from turnmill.store.rules.sealing import sealer_for
from turnmill.store.schema.tables import messages, sessions, turns
from turnmill.store.types import db_now

# Statements are made once in a process: making one takes longer than all that SQLite does with it.
_OPEN = select(sessions).where(
    sessions.c.id == bindparam("of_session"), sessions.c.status.in_(TAKES_MESSAGES)
)
_STATUS = select(sessions.c.status).where(sessions.c.id == bindparam("of_session"))
_KNOWN = select(turns.c.id, turns.c.idempotency_hash).where(
    turns.c.session_id == bindparam("of_session"), turns.c.idempotency_key == bindparam("key")
)
_IN_LINE = (
    update(sessions).where(sessions.c.id == bindparam("of_session")).values(last_active_at=db_now())
)
_MESSAGE = insert(messages)


def accept(conn: Connection, session_id: SessionId, turn: NewTurn) -> Written:
    """Write a turn and its message, unless its key is known or its session is closed."""
    if turn.idempotency_key is not None:
        given = {"of_session": session_id, "key": turn.idempotency_key}
        known = conn.execute(_KNOWN, given).one_or_none()
        if known is not None:
            return Written(False, False, known.id, known.idempotency_hash)
    row = conn.execute(_OPEN, {"of_session": session_id}).one_or_none()
    if row is None:
        return Written(False, False, None, None)
    is_head = row.head_turn_id is None
    due_at = turn.deliver_at or datetime.now(UTC)
    line: dict[str, Any] = {"next_seq": row.next_seq + 1, "unfinished": row.unfinished + 1}
    if is_head:
        line |= {"head_turn_id": turn.id, "head_lane": turn.lane, "head_due_at": due_at}
    conn.execute(_IN_LINE, line | {"of_session": session_id})
    _insert(conn, row, turn, due_at=due_at)
    write_turn_events(conn, [(session_id, turn.id)], EventKind.ACCEPTED)
    announce = is_head and row.status == SessionStatus.ACTIVE and due_at <= datetime.now(UTC)
    return Written(True, announce, None, None)


def accept_many(conn: Connection, items: Sequence[Item]) -> list[Accepted]:
    """Accept messages one by one; the caller rolls back where one of them cannot be."""
    done = []
    for index, (session_id, turn) in enumerate(items):
        try:
            done.append(accepted(conn, session_id, turn, accept(conn, session_id, turn)))
        except TurnmillError as error:
            raise at_message(index, error) from None
    return done


def accept_new(
    conn: Connection, session_ids: Sequence[SessionId], new_turns: Iterator[NewTurn]
) -> list[Accepted]:
    """Accept messages without keys one by one, when all sessions are seen to take them.

    What a message is made of is looked at after that, as on Postgres: the error is the same.
    """
    looked: set[SessionId] = set()
    for index, session_id in enumerate(session_ids):
        if session_id not in looked:
            require_open(index, conn.scalar(_STATUS, {"of_session": session_id}))
            looked.add(session_id)
    return accept_many(conn, list(zip(session_ids, new_turns, strict=True)))


def start_many(conn: Connection, starts: Sequence[Start]) -> list[Accepted]:
    """Create sessions that do not exist yet, then accept the first message of each."""
    sealer = sealer_of_new(conn, [session for session, _ in starts])
    rows = [{"id": session.id, **session_values(session, sealer)} for session, _ in starts]
    conn.execute(insert(sessions), rows)
    observe_new(conn, [session for session, _ in starts])
    write_session_events(conn, [session.id for session, _ in starts], EventKind.OPENED)
    return accept_many(conn, [(session.id, turn) for session, turn in starts])


def _insert(conn: Connection, session: Any, turn: NewTurn, *, due_at: datetime) -> None:
    """Write the rows; what the caller left open is the session's to say, or the table's."""
    sealer = sealer_for(conn, (session.id,))
    said = turn_values(turn, session.id, sealer)
    values = {name: value for name, value in said.items() if value is not None}
    place = {"id": turn.id, "session_id": session.id, "seq": session.next_seq}
    most = {"max_attempts": turn.max_attempts or session.max_attempts}
    conn.execute(insert(turns).values(values | place | most | {"available_at": due_at}))
    theirs = {"session_id": session.id, "turn_id": turn.id}
    rows = rows_of(turn.messages)
    if sealer is not None:
        sealer.messages(session.id, turn.id, rows)
    conn.execute(_MESSAGE, [one | theirs for one in rows])
