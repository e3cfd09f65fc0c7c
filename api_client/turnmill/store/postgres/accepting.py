"""Accepting on Postgres: one message in one statement, many in a few."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from turnmill.domain.bounds import STATEMENT_BYTES
from turnmill.domain.errors import (
    IdempotencyConflict,
    WrongIsolation,
)
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import EventKind
from turnmill.prefetch import prefetched
from turnmill.store.codec import content_hash, rows_of
from turnmill.store.records import Accepted, Item, NewTurn, Start, Written
from turnmill.store.rules.accepting import (
    GONE,
    SESSION,
    SESSION_TYPES,
    TAKES_MESSAGES,
    TURN,
    TURN_TYPES,
    as_json,
    at_message,
    columns,
    in_json,
    require_open,
    says_the_same,
    sealer_of_new,
    session_values,
    turn_values,
)
from turnmill.store.rules.endings import write_events
from turnmill.store.rules.happenings import observe_new, write_session_events
from turnmill.store.rules.sealing import Sealer, sealer_for
from turnmill.store.rules.wanted import is_wanted
from turnmill.store.schema.tables import turns
from turnmill.store.schema_name import execute

#: Rows of one statement: bounds the memory that its JSON takes on both sides.
_CHUNK = 2000
#: Of the first one: until it is made, the server has nothing to do.
_FIRST = 500

# What a turn's columns become, of parameters and of rows.
_GIVEN = ", ".join(
    one.written(f"%({one.column})s::{one.type_in(turns)}", most="max_attempts") for one in TURN
)
_LISTED = ", ".join(one.written(f"i.{one.column}", most="s.max_attempts") for one in TURN)
_STARTING = ", ".join(
    one.written(f"i.{one.column}", most="(i.session->>'max_attempts')::int") for one in TURN
)

# The first message of a turn goes with its row; few turns have more of them.
_MORE = "id uuid, position integer, role text, content jsonb"
_SAID = "message_id uuid, role text, content jsonb, more jsonb"
_SEVERAL = "<several>"
_WITH_SEVERAL = f"""UNION ALL
    SELECT m.id, session.id, %(turn_id)s, m.position, m.role, m.content
    FROM session CROSS JOIN jsonb_to_recordset(%(more)s::jsonb) AS m ({_MORE})"""

# One statement. All that decides (seq, head) stands in the session's row, which the UPDATE locks
# and reads in its newest version; other tables are seen as they were before the lock.
_TEMPLATE = f"""
WITH known AS (
    SELECT id, session_id, idempotency_hash FROM turnmill.turns
    WHERE session_id = %(session_id)s AND idempotency_key = %(idempotency_key)s
), session AS (
    UPDATE turnmill.sessions SET
        next_seq = next_seq + 1,
        unfinished = unfinished + 1,
        last_active_at = clock_timestamp(),<counted>
        head_lane = CASE WHEN head_turn_id IS NULL THEN %(lane)s ELSE head_lane END,
        head_due_at = CASE WHEN head_turn_id IS NULL
            THEN COALESCE(%(available_at)s::timestamptz, clock_timestamp()) ELSE head_due_at END,
        head_turn_id = COALESCE(head_turn_id, %(turn_id)s)
    WHERE id = %(session_id)s AND status IN ('active', 'paused')
        AND NOT EXISTS (SELECT FROM known)
    RETURNING id, next_seq - 1 AS seq, max_attempts,<numbered>
        status = 'active' AND head_turn_id = %(turn_id)s
            AND head_due_at <= clock_timestamp() AS announce
), turn AS (
    INSERT INTO turnmill.turns (id, session_id, seq, {columns(TURN)})
    SELECT %(turn_id)s, id, seq, {_GIVEN}
    FROM session
), message AS (
    INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content)
    SELECT %(message_id)s, id, %(turn_id)s, 0, %(role)s, %(content)s::jsonb FROM session
    {_SEVERAL}
)<told>
SELECT session.announce, known.id AS known_id, known.idempotency_hash AS known_hash
FROM (SELECT) AS one LEFT JOIN session ON true LEFT JOIN known ON true
"""
# Where somebody wants to hear of it.
_TOLD = {
    "<counted>": "\n        events = events + 1,",
    "<numbered>": " events,",
    "<told>": f""", told AS (
    INSERT INTO turnmill.events (session_id, n, turn_id, kind, at)
    SELECT id, events, %(turn_id)s, '{EventKind.ACCEPTED}', clock_timestamp() FROM session
)""",
}


def _accepting(*, several: bool, told: bool) -> str:
    statement = _TEMPLATE.replace(_SEVERAL, _WITH_SEVERAL if several else "")
    for mark, text in _TOLD.items():
        statement = statement.replace(mark, text if told else "")
    return statement


_ACCEPT, _ACCEPT_SEVERAL = (
    {told: _accepting(several=several, told=told) for told in (False, True)}
    for several in (False, True)
)

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
_INSERT = f"""
WITH item AS (
    SELECT i.*,
        row_number() OVER (PARTITION BY i.session_id ORDER BY i.n) AS place,
        count(*) OVER (PARTITION BY i.session_id) AS added
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS i (
        n integer, session_id uuid, turn_id uuid, {_SAID}, {TURN_TYPES})
), session AS (
    UPDATE turnmill.sessions s SET
        next_seq = s.next_seq + first.added,
        unfinished = s.unfinished + first.added,
        last_active_at = clock_timestamp(),
        head_lane = CASE WHEN s.head_turn_id IS NULL THEN first.lane ELSE s.head_lane END,
        head_due_at = CASE WHEN s.head_turn_id IS NULL
            THEN COALESCE(first.available_at, clock_timestamp()) ELSE s.head_due_at END,
        head_turn_id = COALESCE(s.head_turn_id, first.turn_id)
    FROM item first
    WHERE first.place = 1 AND s.id = first.session_id
    RETURNING s.id, s.next_seq - first.added - 1 AS before, s.max_attempts, first.n,
        s.status = 'active' AND s.head_turn_id = first.turn_id
            AND s.head_due_at <= clock_timestamp() AS announce
), turn AS (
    INSERT INTO turnmill.turns (id, session_id, seq, {columns(TURN)})
    SELECT i.turn_id, i.session_id, s.before + i.place, {_LISTED}
    FROM item i JOIN session s ON s.id = i.session_id
    ORDER BY i.n
), message AS (
    INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content)
    SELECT message_id, session_id, turn_id, 0, role, content FROM item
    UNION ALL
    SELECT m.id, i.session_id, i.turn_id, m.position, m.role, m.content
    FROM item i CROSS JOIN jsonb_to_recordset(i.more) AS m ({_MORE})
    WHERE i.more IS NOT NULL
)
SELECT n FROM session WHERE announce
"""

# Nobody else can know these sessions yet: each is written as it stands after its first message.
_START = f"""
WITH item AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS i (
        n integer, session_id uuid, turn_id uuid, session jsonb, {_SAID}, {TURN_TYPES})
), started AS (
    INSERT INTO turnmill.sessions (id, {columns(SESSION)},
        next_seq, unfinished, head_turn_id, head_lane, head_due_at)
    SELECT i.session_id, {", ".join(f"s.{one.column}" for one in SESSION)},
        2, 1, i.turn_id, i.lane, COALESCE(i.available_at, clock_timestamp())
    FROM item i CROSS JOIN jsonb_to_record(i.session) AS s ({SESSION_TYPES})
    ORDER BY i.n
), turn AS (
    INSERT INTO turnmill.turns (id, session_id, seq, {columns(TURN)})
    SELECT i.turn_id, i.session_id, 1, {_STARTING}
    FROM item i ORDER BY i.n
), message AS (
    INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content)
    SELECT message_id, session_id, turn_id, 0, role, content FROM item
    UNION ALL
    SELECT m.id, i.session_id, i.turn_id, m.position, m.role, m.content
    FROM item i CROSS JOIN jsonb_to_recordset(i.more) AS m ({_MORE})
    WHERE i.more IS NOT NULL
)
SELECT n FROM item WHERE available_at IS NULL OR available_at <= clock_timestamp()
"""


def accept(conn: Connection, session_id: SessionId, turn: NewTurn) -> Written:
    """Write a turn and its message, unless its key is known or its session is closed."""
    if turn.idempotency_key is not None:
        lock_session(conn, session_id)
    statement = _ACCEPT if len(turn.messages) == 1 else _ACCEPT_SEVERAL
    told = is_wanted(conn, EventKind.ACCEPTED)
    sealer = sealer_for(conn, (session_id,))
    row = execute(conn, statement[told], _parameters(session_id, turn, sealer)).one()
    return Written(row[0] is not None, bool(row[0]), row[1], row[2])


def _parameters(session_id: SessionId, turn: NewTurn, sealer: Sealer | None) -> dict[str, Any]:
    values = turn_values(turn, session_id, sealer) | _said(turn, session_id, sealer)
    return values | {
        "session_id": session_id,
        "turn_id": turn.id,
        "metadata": None if values["metadata"] is None else in_json(values["metadata"]),
        "content": in_json(values["content"]),
        "more": in_json(values["more"]),
    }


def _said(turn: NewTurn, session_id: SessionId, sealer: Sealer | None) -> dict[str, Any]:
    """Return the first message of a turn, and those that follow it."""
    rows = rows_of(turn.messages)
    if sealer is not None:
        sealer.messages(session_id, turn.id, rows)
    first, *more = rows
    content = {"role": first["role"], "content": first["content"]}
    return {"message_id": first["id"], **content, "more": more or None}


def lock_session(conn: Connection, session_id: SessionId) -> None:
    """Wait for the session's row. What the next statement reads is newer than the lock."""
    execute(
        conn,
        "SELECT 1 FROM turnmill.sessions WHERE id = %(id)s FOR NO KEY UPDATE",
        {"id": session_id},
    )


def require_fresh_reads(conn: Connection) -> None:
    """Raise WrongIsolation unless the caller's transaction is READ COMMITTED."""
    level = execute(conn, "SHOW transaction_isolation").scalar_one()
    if level != "read committed":
        raise WrongIsolation(f"the transaction given is {str(level).upper()}")


def accept_many(conn: Connection, items: Sequence[Item]) -> list[Accepted]:
    """Accept messages that may have keys, in the order given; all of them, or none."""
    closed = _lock(conn, {session_id for session_id, _ in items})
    standing = _accepted_before(conn, items, closed)
    new = [item for item, found in zip(items, standing, strict=True) if not found]
    sealer = sealer_for(conn, {session_id for session_id, _ in new})
    _, due = _insert(conn, iter(new), count=len(new), sealer=sealer)
    return [
        found
        or Accepted(turn_id=turn.id, session_id=session_id, created=True, announce=turn.id in due)
        for (session_id, turn), found in zip(items, standing, strict=True)
    ]


def accept_new(
    conn: Connection, session_ids: Sequence[SessionId], new_turns: Iterator[NewTurn]
) -> list[Accepted]:
    """Accept messages without keys, each made while the server writes those before it."""
    if closed := _lock(conn, set(session_ids)):
        for index, session_id in enumerate(session_ids):
            if session_id in closed:
                require_open(index, closed[session_id])
    items = zip(session_ids, new_turns, strict=True)
    sealer = sealer_for(conn, set(session_ids))
    made, due = _insert(conn, items, count=len(session_ids), sealer=sealer)
    return [
        Accepted(turn_id=turn.id, session_id=session_id, created=True, announce=turn.id in due)
        for session_id, turn in made
    ]


def start_many(conn: Connection, starts: Sequence[Start]) -> list[Accepted]:
    """Create sessions that do not exist yet, each with its first message."""
    sealer = sealer_of_new(conn, [session for session, _ in starts])
    rows = [
        as_json(_row(n, session.id, turn, sealer) | {"session": session_values(session, sealer)})
        for n, (session, turn) in enumerate(starts)
    ]
    due = set(execute(conn, _START, {"rows": f"[{','.join(rows)}]"}).scalars())
    observe_new(conn, [session for session, _ in starts])
    write_session_events(conn, [session.id for session, _ in starts], EventKind.OPENED)
    _tell_accepted(conn, [turn.id for _, turn in starts])
    return [
        Accepted(turn_id=turn.id, session_id=session.id, created=True, announce=n in due)
        for n, (session, turn) in enumerate(starts)
    ]


def _lock(conn: Connection, session_ids: set[SessionId]) -> Mapping[SessionId, str | None]:
    """Lock all sessions; return the status of those that take no messages, None where none is."""
    ids = list(session_ids)
    if execute(conn, _LOCK, {"ids": ids}).scalar_one() == len(ids):
        return {}
    status = {row[0]: row[1] for row in execute(conn, _STATUS, {"ids": ids})}
    return {one: status.get(one) for one in ids if status.get(one) not in TAKES_MESSAGES}


def _accepted_before(
    conn: Connection, items: Sequence[Item], closed: Mapping[SessionId, str | None]
) -> list[Accepted | None]:
    """Return, for each message, the turn that its key already stands for, or None.

    A key may have been used before, or by an earlier message of the same call. What it stands for
    is found, too, where the session takes no message any more.
    """
    keyed = [(session_id, turn) for session_id, turn in items if turn.idempotency_key is not None]
    known = _known(conn, keyed) if keyed else {}
    sealer = sealer_for(conn, {session_id for session_id, _ in keyed}) if keyed else None
    standing: list[Accepted | None] = []
    for index, (session_id, turn) in enumerate(items):
        found = known.get((session_id, turn.idempotency_key))
        if session_id in closed and (found is None or closed[session_id] in GONE):
            require_open(index, closed[session_id])
        if found is None:
            if turn.idempotency_key is not None:
                digest = content_hash(turn.messages)
                known[session_id, turn.idempotency_key] = (turn.id, digest)
        elif not says_the_same(turn, found[1], session_id, sealer):
            raise at_message(index, IdempotencyConflict())
        standing.append(None if found is None else _as_known(found[0], session_id))
    return standing


def _known(
    conn: Connection, keyed: Sequence[Item]
) -> dict[tuple[SessionId, str | None], tuple[TurnId, bytes]]:
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
    conn: Connection, items: Iterator[Item], *, count: int, sealer: Sealer | None
) -> tuple[list[Item], set[TurnId]]:
    """Write so many turns; return them, and which of them are to be announced."""
    made: list[Item] = []
    due: set[TurnId] = set()
    chunks = _chunks(items, made, sealer)
    for chunk in prefetched(chunks) if count > _FIRST else chunks:
        found = execute(conn, _INSERT, {"rows": chunk}).scalars()
        due.update(made[n][1].id for n in found)
    _tell_accepted(conn, [turn.id for _, turn in made])
    return made, due


def _tell_accepted(conn: Connection, turn_ids: Sequence[TurnId]) -> None:
    if turn_ids and is_wanted(conn, EventKind.ACCEPTED):
        write_events(conn, turn_ids, EventKind.ACCEPTED)


def _chunks(items: Iterator[Item], made: list[Item], sealer: Sealer | None) -> Iterator[str]:
    """Yield the rows of one statement after the other, and note the items in `made`."""
    rows: list[str] = []
    weight, most = 0, _FIRST
    for n, item in enumerate(items):
        made.append(item)
        row = as_json(_row(n, *item, sealer))
        weight += len(row)
        if rows and (len(rows) == most or weight > STATEMENT_BYTES):
            yield f"[{','.join(rows)}]"
            rows, weight, most = [], len(row), _CHUNK
        rows.append(row)
    if rows:
        yield f"[{','.join(rows)}]"


def _row(n: int, session_id: SessionId, turn: NewTurn, sealer: Sealer | None) -> dict[str, Any]:
    values = turn_values(turn, session_id, sealer) | _said(turn, session_id, sealer)
    return values | {"n": n, "session_id": session_id, "turn_id": turn.id}
