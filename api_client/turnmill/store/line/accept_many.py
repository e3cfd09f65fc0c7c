"""Accepting many messages in one statement: the path of batches and `send_many`."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from turnmill.domain.bounds import STATEMENT_BYTES
from turnmill.domain.errors import (
    IdempotencyConflict,
    SessionArchived,
    SessionNotFound,
    TurnmillError,
)
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import SessionStatus
from turnmill.prefetch import prefetched
from turnmill.store.line.accept import accept, content_hash, text_parts
from turnmill.store.records import Accepted, NewTurn
from turnmill.store.schema_name import execute

Item = tuple[SessionId, NewTurn]

#: Rows of one statement: bounds the memory that its JSON takes on both sides.
_CHUNK = 2000
#: Of the first one: until it is made, the server has nothing to do.
_FIRST = 500

# Every writer locks sessions in this order. A lock returns the newest version of each row.
_LOCK = """
WITH locked AS (
    SELECT status FROM turnmill.sessions WHERE id = ANY(%(ids)s::uuid[])
    ORDER BY id FOR NO KEY UPDATE
)
SELECT count(*) FROM locked WHERE status IN ('active', 'paused')
"""

_STATUS = "SELECT id, status FROM turnmill.sessions WHERE id = ANY(%(ids)s::uuid[])"

_KNOWN = """
SELECT t.session_id, t.idempotency_key, t.id, t.idempotency_hash
FROM unnest(%(session_ids)s::uuid[], %(keys)s::text[]) AS wanted (session_id, key)
JOIN turnmill.turns t ON t.session_id = wanted.session_id AND t.idempotency_key = wanted.key
"""

# Runs while the sessions are locked, so next_seq and the head are read in their newest version.
_INSERT = """
WITH item AS (
    SELECT i.*,
        row_number() OVER (PARTITION BY i.session_id ORDER BY i.n) AS place,
        count(*) OVER (PARTITION BY i.session_id) AS added
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS i (
        n integer, session_id uuid, turn_id uuid, message_id uuid, lane text, content jsonb,
        deliver_at timestamptz, expires_at timestamptz, max_attempts integer,
        idempotency_key text, hash text, batch_id uuid, batch_line bigint, custom_id text,
        retry_of uuid, metadata jsonb)
), session AS (
    UPDATE turnmill.sessions s SET
        next_seq = s.next_seq + first.added,
        unfinished = s.unfinished + first.added,
        last_active_at = clock_timestamp(),
        head_lane = CASE WHEN s.head_turn_id IS NULL THEN first.lane ELSE s.head_lane END,
        head_due_at = CASE WHEN s.head_turn_id IS NULL
            THEN COALESCE(first.deliver_at, clock_timestamp()) ELSE s.head_due_at END,
        head_turn_id = COALESCE(s.head_turn_id, first.turn_id)
    FROM item first
    WHERE first.place = 1 AND s.id = first.session_id
    RETURNING s.id, s.next_seq - first.added - 1 AS before, s.max_attempts, first.n,
        s.status = 'active' AND s.head_turn_id = first.turn_id
            AND s.head_due_at <= clock_timestamp() AS announce
), turn AS (
    INSERT INTO turnmill.turns (id, session_id, seq, lane, max_attempts, available_at, expires_at,
        idempotency_key, idempotency_hash, batch_id, batch_line, custom_id, retry_of, metadata)
    SELECT i.turn_id, i.session_id, s.before + i.place, i.lane,
        COALESCE(i.max_attempts, s.max_attempts), COALESCE(i.deliver_at, clock_timestamp()),
        i.expires_at, i.idempotency_key, decode(i.hash, 'hex'), i.batch_id, i.batch_line,
        i.custom_id, i.retry_of, COALESCE(i.metadata, '{}')
    FROM item i JOIN session s ON s.id = i.session_id
    ORDER BY i.n
), message AS (
    INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content)
    SELECT message_id, session_id, turn_id, 0, 'user', content FROM item ORDER BY n
)
SELECT n FROM session WHERE announce
"""


def accept_many(conn: Connection, items: Sequence[Item]) -> list[Accepted]:
    """Accept messages in the order given, each as `accept` would; all of them, or none.

    Messages of one session keep their order. The error for a message that cannot be accepted
    carries its `index`; the caller rolls the transaction back then. Raises what `accept` raises,
    and SessionBusy when another transaction holds a session for longer than the lock timeout.
    """
    if not items:
        return []
    if conn.dialect.name != "postgresql":
        return _one_by_one(conn, items)
    _lock_open(conn, [session_id for session_id, _ in items])
    standing = _accepted_before(conn, items)
    new = [item for item, found in zip(items, standing, strict=True) if not found]
    _, due = _insert(conn, iter(new), count=len(new))
    return [
        found
        or Accepted(turn_id=turn.id, session_id=session_id, created=True, announce=turn.id in due)
        for (session_id, turn), found in zip(items, standing, strict=True)
    ]


def accept_new(
    conn: Connection, session_ids: Sequence[SessionId], new_turns: Iterator[NewTurn]
) -> list[Accepted]:
    """Accept a message without a key for each of the sessions, as `accept_many` would.

    Each is taken from `new_turns` while the server writes those before it.
    """
    items = zip(session_ids, new_turns, strict=True)
    if conn.dialect.name != "postgresql" or not session_ids:
        return _one_by_one(conn, list(items))
    _lock_open(conn, session_ids)
    made, due = _insert(conn, items, count=len(session_ids))
    return [
        Accepted(turn_id=turn.id, session_id=session_id, created=True, announce=turn.id in due)
        for session_id, turn in made
    ]


def _one_by_one(conn: Connection, items: Sequence[Item]) -> list[Accepted]:
    accepted = []
    for index, (session_id, turn) in enumerate(items):
        try:
            accepted.append(accept(conn, session_id, turn))
        except TurnmillError as error:
            raise _at(index, error) from None
    return accepted


def _lock_open(conn: Connection, session_ids: Sequence[SessionId]) -> None:
    """Lock all sessions, and raise unless every one of them takes messages."""
    ids = list(set(session_ids))
    if execute(conn, _LOCK, {"ids": ids}).scalar_one() == len(ids):
        return
    rows = execute(conn, _STATUS, {"ids": ids})
    status: dict[SessionId, str] = {row[0]: row[1] for row in rows}
    for index, session_id in enumerate(session_ids):
        match status.get(session_id):
            case SessionStatus.ACTIVE | SessionStatus.PAUSED:
                continue
            case SessionStatus.ARCHIVED:
                raise _at(index, SessionArchived(f"the session of message {index} is archived"))
            case _:
                raise _at(index, SessionNotFound(f"message {index} names no session"))


def _at(index: int, error: TurnmillError) -> TurnmillError:
    error.index = index
    return error


def _accepted_before(conn: Connection, items: Sequence[Item]) -> list[Accepted | None]:
    """Return, for each message, the turn that its key already stands for, or None.

    A key may have been used before, or by an earlier message of the same call.
    """
    keyed = [(session_id, turn) for session_id, turn in items if turn.idempotency_key is not None]
    if not keyed:
        return [None] * len(items)
    known = _known(conn, keyed)
    standing: list[Accepted | None] = []
    for index, (session_id, turn) in enumerate(items):
        if turn.idempotency_key is None:
            standing.append(None)
            continue
        digest = content_hash(turn.text)
        found = known.setdefault((session_id, turn.idempotency_key), (turn.id, digest))
        if found[1] != digest:
            raise _at(
                index,
                IdempotencyConflict(
                    f"the idempotency key of message {index} stands for other content"
                ),
            )
        standing.append(None if found[0] == turn.id else _as_known(found[0], session_id))
    return standing


def _known(
    conn: Connection, keyed: Sequence[Item]
) -> dict[tuple[SessionId, str], tuple[TurnId, bytes]]:
    rows = execute(
        conn,
        _KNOWN,
        {
            "session_ids": [session_id for session_id, _ in keyed],
            "keys": [turn.idempotency_key for _, turn in keyed],
        },
    )
    return {
        (SessionId(session_id), key): (TurnId(turn_id), bytes(digest))
        for session_id, key, turn_id, digest in rows
    }


def _as_known(turn_id: TurnId, session_id: SessionId) -> Accepted:
    return Accepted(turn_id=turn_id, session_id=session_id, created=False, announce=False)


def _insert(
    conn: Connection, items: Iterator[Item], *, count: int
) -> tuple[list[Item], set[TurnId]]:
    """Write so many turns; return them, and which of them are to be announced."""
    made: list[Item] = []
    due: set[TurnId] = set()
    chunks = _chunks(items, made)
    for chunk in prefetched(chunks) if count > _FIRST else chunks:
        found = execute(conn, _INSERT, {"rows": chunk}).scalars()
        due.update(made[n][1].id for n in found)
    return made, due


def _chunks(items: Iterator[Item], made: list[Item]) -> Iterator[str]:
    """Yield the rows of one statement after the other, and note the items in `made`."""
    rows: list[str] = []
    weight, most = 0, _FIRST
    for n, item in enumerate(items):
        made.append(item)
        row = json.dumps(turn_row(n, *item))
        weight += len(row)
        if rows and (len(rows) == most or weight > STATEMENT_BYTES):
            yield f"[{','.join(rows)}]"
            rows, weight, most = [], len(row), _CHUNK
        rows.append(row)
    if rows:
        yield f"[{','.join(rows)}]"


def turn_row(n: int, session_id: SessionId, turn: NewTurn) -> dict[str, Any]:
    """Return a row without what is NULL: most columns of most rows are."""
    digest = None if turn.idempotency_key is None else content_hash(turn.text).hex()
    row = {
        "n": n,
        "session_id": session_id.hex,
        "turn_id": turn.id.hex,
        "message_id": turn.message_id.hex,
        "lane": turn.lane,
        "content": text_parts(turn.text),
        "deliver_at": None if turn.deliver_at is None else turn.deliver_at.isoformat(),
        "expires_at": None if turn.expires_at is None else turn.expires_at.isoformat(),
        "max_attempts": turn.max_attempts,
        "idempotency_key": turn.idempotency_key,
        "hash": digest,
        "batch_id": None if turn.batch_id is None else turn.batch_id.hex,
        "batch_line": turn.batch_line,
        "custom_id": turn.custom_id,
        "retry_of": None if turn.retry_of is None else turn.retry_of.hex,
        "metadata": dict(turn.metadata) or None,
    }
    return {name: value for name, value in row.items() if value is not None}
