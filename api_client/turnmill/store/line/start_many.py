"""Starting many sessions, each with its first message, in one statement."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from turnmill.domain.ids import SessionId
from turnmill.store.line.accept_many import accept_many, turn_row
from turnmill.store.line.opening import create_many
from turnmill.store.records import Accepted, NewSession, NewTurn
from turnmill.store.schema_name import execute

Start = tuple[NewSession, NewTurn]

# Nobody else can know these sessions yet: each is written as it stands after its first message.
_START = """
WITH item AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS i (
        n integer, session_id uuid, turn_id uuid, message_id uuid, lane text, content jsonb,
        deliver_at timestamptz, expires_at timestamptz, max_attempts integer,
        idempotency_key text, hash text, batch_id uuid, batch_line bigint, custom_id text,
        metadata jsonb, session jsonb)
), started AS (
    INSERT INTO turnmill.sessions (id, key, user_id, provider, model, system_prompt, settings,
        metadata, on_failure, on_ambiguous, max_attempts, idle_seconds,
        next_seq, unfinished, head_turn_id, head_lane, head_due_at)
    SELECT i.session_id, s.key, s.user_id, s.provider, s.model, s.system_prompt, s.settings,
        s.metadata, s.on_failure, s.on_ambiguous, s.max_attempts, s.idle_seconds,
        2, 1, i.turn_id, i.lane, COALESCE(i.deliver_at, clock_timestamp())
    FROM item i CROSS JOIN jsonb_to_record(i.session) AS s (
        key text, user_id text, provider text, model text, system_prompt text, settings jsonb,
        metadata jsonb, on_failure text, on_ambiguous text, max_attempts integer,
        idle_seconds bigint)
    ORDER BY i.n
), turn AS (
    INSERT INTO turnmill.turns (id, session_id, seq, lane, max_attempts, available_at, expires_at,
        idempotency_key, idempotency_hash, batch_id, batch_line, custom_id, metadata)
    SELECT turn_id, session_id, 1, lane, COALESCE(max_attempts, (session->>'max_attempts')::int),
        COALESCE(deliver_at, clock_timestamp()), expires_at, idempotency_key,
        decode(hash, 'hex'), batch_id, batch_line, custom_id, COALESCE(metadata, '{}')
    FROM item ORDER BY n
), message AS (
    INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content)
    SELECT message_id, session_id, turn_id, 0, 'user', content FROM item ORDER BY n
)
SELECT n FROM item WHERE deliver_at IS NULL OR deliver_at <= clock_timestamp()
"""


def start_many(conn: Connection, starts: Sequence[Start]) -> list[Accepted]:
    """Create sessions that do not exist yet, and accept one message in each; all, or none.

    A key that is taken is an error of the store: who cannot rule that out uses `create`.
    """
    if not starts:
        return []
    if conn.dialect.name != "postgresql":
        create_many(conn, [session for session, _ in starts])
        return accept_many(conn, [(session.id, turn) for session, turn in starts])
    rows = [
        turn_row(n, session.id, turn) | {"session": _session_row(session)}
        for n, (session, turn) in enumerate(starts)
    ]
    due = set(execute(conn, _START, {"rows": json.dumps(rows)}).scalars())
    return [
        Accepted(turn_id=turn.id, session_id=SessionId(session.id), created=True, announce=n in due)
        for n, (session, turn) in enumerate(starts)
    ]


def _session_row(session: NewSession) -> dict[str, Any]:
    ttl = session.idle_ttl
    return {
        "key": session.key,
        "user_id": session.user_id,
        "provider": session.provider,
        "model": session.model,
        "system_prompt": session.system_prompt,
        "settings": dict(session.settings),
        "metadata": dict(session.metadata),
        "on_failure": session.on_failure,
        "on_ambiguous": session.on_ambiguous,
        "max_attempts": session.max_attempts,
        "idle_seconds": None if ttl is None else int(ttl.total_seconds()),
    }
