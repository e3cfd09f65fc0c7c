"""Accepting a message: the moment from which Turnmill owes an answer."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from turnmill.domain.errors import (
    IdempotencyConflict,
    SessionArchived,
    SessionNotFound,
    WrongIsolation,
)
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import SessionStatus
from turnmill.store.records import Accepted, NewTurn
from turnmill.store.refusals import translated
from turnmill.store.schema.tables import messages, sessions, turns
from turnmill.store.schema_name import execute
from turnmill.store.types import db_now
from turnmill.wire import WAKE_CHANNEL

_OPEN = (SessionStatus.ACTIVE, SessionStatus.PAUSED)

# One statement. All that decides (seq, head) stands in the session's row, which the UPDATE locks
# and reads in its newest version; other tables are seen as they were before the lock.
_ACCEPT = """
WITH known AS (
    SELECT id, session_id, idempotency_hash FROM turnmill.turns
    WHERE session_id = %(session_id)s AND idempotency_key = %(idempotency_key)s
), session AS (
    UPDATE turnmill.sessions SET
        next_seq = next_seq + 1,
        unfinished = unfinished + 1,
        last_active_at = clock_timestamp(),
        head_lane = CASE WHEN head_turn_id IS NULL THEN %(lane)s ELSE head_lane END,
        head_due_at = CASE WHEN head_turn_id IS NULL
            THEN COALESCE(%(deliver_at)s::timestamptz, clock_timestamp()) ELSE head_due_at END,
        head_turn_id = COALESCE(head_turn_id, %(turn_id)s)
    WHERE id = %(session_id)s AND status IN ('active', 'paused')
        AND NOT EXISTS (SELECT FROM known)
    RETURNING id, next_seq - 1 AS seq, max_attempts,
        status = 'active' AND head_turn_id = %(turn_id)s
            AND head_due_at <= clock_timestamp() AS announce
), turn AS (
    INSERT INTO turnmill.turns (id, session_id, seq, lane, max_attempts, available_at, expires_at,
        idempotency_key, idempotency_hash, batch_id, batch_line, custom_id, retry_of, metadata)
    SELECT %(turn_id)s, id, seq, %(lane)s, COALESCE(%(max_attempts)s::int, max_attempts),
        COALESCE(%(deliver_at)s::timestamptz, clock_timestamp()), %(expires_at)s::timestamptz,
        %(idempotency_key)s, %(hash)s, %(batch_id)s, %(batch_line)s, %(custom_id)s,
        %(retry_of)s, %(metadata)s::jsonb
    FROM session
), message AS (
    INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content)
    SELECT %(message_id)s, id, %(turn_id)s, 0, 'user', %(content)s::jsonb FROM session
)
SELECT session.announce, known.id AS known_id, known.idempotency_hash AS known_hash
FROM (SELECT) AS one LEFT JOIN session ON true LEFT JOIN known ON true
"""


def accept(conn: Connection, session_id: SessionId, turn: NewTurn) -> Accepted:
    """Write the turn and its user message, or return the turn that the idempotency key stands for.

    In a transaction of the caller's, nothing counts before the caller commits. Raises
    SessionNotFound, SessionArchived, or IdempotencyConflict when the key stands for other content;
    after an error nothing was written.
    """
    if conn.dialect.name == "postgresql":
        if turn.idempotency_key is not None:
            lock_session(conn, session_id)
        row = execute(conn, _ACCEPT, _parameters(session_id, turn)).one()
        created, announce, known_id, known_hash = row[0] is not None, row[0], row[1], row[2]
    else:
        created, announce, known_id, known_hash = _accept_stepwise(conn, session_id, turn)
    if created:
        return Accepted(
            turn_id=turn.id, session_id=session_id, created=True, announce=bool(announce)
        )
    if known_id is None or _is_gone(conn, session_id):
        raise why_closed(conn, session_id)
    if bytes(known_hash) != content_hash(turn.text):
        raise IdempotencyConflict()
    return Accepted(turn_id=TurnId(known_id), session_id=session_id, created=False, announce=False)


def accept_within(conn: Connection, session_id: SessionId, turn: NewTurn) -> Accepted:
    """Accept in the caller's transaction; a worker is told by Postgres when the caller commits.

    Raises WrongIsolation unless the transaction is READ COMMITTED: a frozen snapshot cannot see
    the keys that others have used meanwhile. Raises SessionBusy when the caller's lock timeout
    ends the wait for the session; the caller then rolls back.
    """
    if conn.dialect.name != "postgresql":
        with translated():
            return accept(conn, session_id, turn)
    with translated():
        level = execute(conn, "SHOW transaction_isolation").scalar_one()
        if level != "read committed":
            raise WrongIsolation(f"the transaction given is {str(level).upper()}")
        accepted = accept(conn, session_id, turn)
        if accepted.announce:
            execute(
                conn,
                "SELECT pg_notify(%(channel)s, %(id)s)",
                {"channel": WAKE_CHANNEL, "id": str(accepted.turn_id)},
            )
    return accepted


def lock_session(conn: Connection, session_id: SessionId) -> None:
    """Wait for the session's row. What the next statement reads is newer than the lock."""
    execute(
        conn,
        "SELECT 1 FROM turnmill.sessions WHERE id = %(id)s FOR NO KEY UPDATE",
        {"id": session_id},
    )


def content_hash(text: str) -> bytes:
    """Return what two messages under one idempotency key are compared by: content only."""
    return hashlib.sha256(text.encode()).digest()


def why_closed(conn: Connection, session_id: SessionId) -> SessionNotFound | SessionArchived:
    """Return the error that explains why the session takes no message."""
    status = conn.scalar(select(sessions.c.status).where(sessions.c.id == session_id))
    if status == SessionStatus.ARCHIVED:
        return SessionArchived()
    return SessionNotFound()


def _is_gone(conn: Connection, session_id: SessionId) -> bool:
    status = conn.scalar(select(sessions.c.status).where(sessions.c.id == session_id))
    return status in (None, SessionStatus.DELETED)


def text_parts(text: str) -> list[dict[str, str]]:
    """Return the content of a message that is text only."""
    return [{"type": "text", "text": text}]


def _parameters(session_id: SessionId, turn: NewTurn) -> dict[str, Any]:
    return {
        "session_id": session_id,
        "turn_id": turn.id,
        "message_id": turn.message_id,
        "lane": turn.lane.value,
        "max_attempts": turn.max_attempts,
        "deliver_at": turn.deliver_at,
        "expires_at": turn.expires_at,
        "idempotency_key": turn.idempotency_key,
        "hash": content_hash(turn.text) if turn.idempotency_key is not None else None,
        "batch_id": turn.batch_id,
        "batch_line": turn.batch_line,
        "custom_id": turn.custom_id,
        "retry_of": turn.retry_of,
        "metadata": json.dumps(dict(turn.metadata)),
        "content": json.dumps(text_parts(turn.text)),
    }


def _accept_stepwise(
    conn: Connection, session_id: SessionId, turn: NewTurn
) -> tuple[bool, bool, Any, Any]:
    """Do the same in single steps; SQLite's write lock stands for the session's."""
    if turn.idempotency_key is not None:
        known = conn.execute(
            select(turns.c.id, turns.c.idempotency_hash).where(
                turns.c.session_id == session_id,
                turns.c.idempotency_key == turn.idempotency_key,
            )
        ).one_or_none()
        if known is not None:
            return False, False, known.id, known.idempotency_hash
    row = conn.execute(
        select(sessions).where(sessions.c.id == session_id, sessions.c.status.in_(_OPEN))
    ).one_or_none()
    if row is None:
        return False, False, None, None
    is_head = row.head_turn_id is None
    due_at = turn.deliver_at or datetime.now(UTC)
    line: dict[str, Any] = {"next_seq": row.next_seq + 1, "unfinished": row.unfinished + 1}
    if is_head:
        line |= {"head_turn_id": turn.id, "head_lane": turn.lane, "head_due_at": due_at}
    conn.execute(
        update(sessions).where(sessions.c.id == session_id).values(last_active_at=db_now(), **line)
    )
    _insert_stepwise(conn, session_id, turn, seq=row.next_seq, row=row, due_at=due_at)
    announce = is_head and row.status == SessionStatus.ACTIVE and due_at <= datetime.now(UTC)
    return True, announce, None, None


def _insert_stepwise(
    conn: Connection, session_id: SessionId, turn: NewTurn, *, seq: int, row: Any, due_at: datetime
) -> None:
    columns = _parameters(session_id, turn)
    conn.execute(
        insert(turns).values(
            id=turn.id,
            session_id=session_id,
            seq=seq,
            lane=turn.lane,
            max_attempts=turn.max_attempts or row.max_attempts,
            available_at=due_at,
            expires_at=turn.expires_at,
            idempotency_key=turn.idempotency_key,
            idempotency_hash=columns["hash"],
            batch_id=turn.batch_id,
            batch_line=turn.batch_line,
            custom_id=turn.custom_id,
            retry_of=turn.retry_of,
            metadata=dict(turn.metadata),
        )
    )
    conn.execute(
        insert(messages).values(
            id=turn.message_id,
            session_id=session_id,
            turn_id=turn.id,
            position=0,
            role="user",
            content=text_parts(turn.text),
        )
    )
