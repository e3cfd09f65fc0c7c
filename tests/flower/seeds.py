"""Rows as no worker would leave them for long: turns that wait for each thing there is."""

import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from turnmill import Client, wire
from turnmill.store.schema.secrecy import CONTENT, table_of
from turnmill.sync.turns import Turn as Sent

Turn = UUID


def run(database_url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement; once more where Flower, which looks meanwhile, was in its way."""
    try:
        return _run(database_url, statement, *values)
    except psycopg.errors.DeadlockDetected:
        return _run(database_url, statement, *values)


def _run(database_url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url, autocommit=True) as conn:
        done = conn.execute(statement, values or None)
        return [] if done.description is None else done.fetchall()


#: What a turn is made to wait for, by what is written into its row.
_ROWS = {
    "held": "state = 'unknown', sent_at = now(), error_code = 'worker_lost'",
    "retry": "state = 'retrying', attempt = 1, error_code = 'overloaded', {later}",
    "background": "state = 'waiting', attempt = 1, {later}",
    "question": "state = 'unknown', attempt = 1, {later}",
    "tool": "state = 'waiting', attempt = 1, waits_for = 'tool', {later}",
    "approval": "state = 'waiting', attempt = 1, waits_for = 'approval', {later}",
    "layer": "waits_for = 'quota', {later}",
    "account": "waits_for = 'account', {later}",
    "breaker": "waits_for = 'breaker', {later}",
    "limit": "waits_for = 'limit', {later}",
    "budget": "waits_for = 'budget', {later}",
    "key": "waits_for = 'key', {later}",
    "no_worker": "available_at = now() - interval '1 hour'",
    "running": "state = 'running', attempt = 1, lease_owner = 'w:1', lease_fence = 1,"
    " lease_until = now() + interval '1 hour', started_at = now()",
}
_LATER = "available_at = now() + interval '1 hour'"
_MOVED = """
UPDATE turnmill.sessions s SET head_due_at = CASE
    WHEN t.state = 'running' OR t.state = 'unknown' AND t.sent_at IS NOT NULL THEN NULL
    ELSE t.available_at END
FROM turnmill.turns t WHERE t.id = s.head_turn_id AND s.id = %s
"""


def every_cause(client: Client, database_url: str) -> dict[str, Turn]:
    """Return a turn that waits, by what it waits for."""
    found = {name: _shaped(client, database_url, row) for name, row in _ROWS.items()}
    paused = client.sessions.create(user_id="ada")
    found["session_paused"] = client.send(paused, "a").id
    client.sessions.pause(paused)
    found["behind"] = client.send(paused, "b").id
    found["lane_paused"] = client.send(client.sessions.create(user_id="ada"), "a", lane="bulk").id
    client.lanes.pause(lane="bulk")
    other = client.sessions.create(user_id="ada", provider="anthropic", model="claude")
    found["provider_paused"] = client.send(other, "a").id
    client.lanes.pause(provider="anthropic")
    at = datetime.now(UTC) + timedelta(hours=1)
    found["later"] = client.send(client.sessions.create(user_id="ada"), "a", deliver_at=at).id
    return found


def dead_letters(
    client: Client, database_url: str, *, sessions: int, each: int, code: str = "overloaded"
) -> list[UUID]:
    """Let turns stand that died, in sessions of their own, and return these sessions."""
    made = [client.sessions.create(user_id="ada").id for _ in range(sessions)]
    client.send_many([(one, f"line {n}") for one in made for n in range(each)], lane="interactive")
    run(
        database_url,
        "UPDATE turnmill.turns SET state = 'dead', attempt = 5, error_code = %s,"
        " started_at = now(), finished_at = now() WHERE session_id = ANY(%s)",
        code,
        made,
    )
    run(
        database_url,
        "UPDATE turnmill.sessions SET unfinished = 0, head_turn_id = NULL, head_lane = NULL,"
        " head_due_at = NULL, turns_failed = %s WHERE id = ANY(%s)",
        each,
        made,
    )
    return list(made)


def _shaped(client: Client, database_url: str, row: str) -> Turn:
    held = "sent_at" in row
    session = client.sessions.create(user_id="ada", on_ambiguous="hold" if held else "reconcile")
    turn = client.send(session, "a").id
    values = row.format(later=_LATER)
    run(database_url, f"UPDATE turnmill.turns SET {values} WHERE id = %s", turn)
    run(database_url, _MOVED, session.id)
    return turn


def a_busy_store(client: Client, database_url: str) -> Sent:
    """Let a store stand as it may at three in the morning, and return a turn that was retried."""
    every_cause(client, database_url)
    dead_letters(client, database_url, sessions=6, each=3)
    dead_letters(client, database_url, sessions=2, each=1, code="content_filter")
    session = client.sessions.create(user_id="grace", provider="openai", model="gpt-5-mini")
    turn = [client.send(session, f"{n}") for n in range(5)][2]
    _answered(database_url, session.id)
    run(database_url, _MOVED, session.id)
    _batch(client, database_url)
    jobs = {wire.ARCHIVE_IDLE: {"archived": 3}, wire.ROLL_UP_USAGE: {"lines": 4}}
    for name, counted in jobs.items():
        run(
            database_url,
            "INSERT INTO turnmill.job_runs (name, slot, started_at, finished_at, result)"
            " VALUES (%s, now() - interval '4 min', now() - interval '4 min', now(), %s)",
            name,
            json.dumps(counted),
        )
    return turn


def _answered(database_url: str, session: UUID) -> None:
    """Let the first turns of a session have replies, the third one after a failed attempt."""
    run(
        database_url,
        "UPDATE turnmill.turns SET state = 'succeeded',"
        " attempt = CASE seq WHEN 3 THEN 2 ELSE 1 END, started_at = created_at + interval '80 ms',"
        " finished_at = created_at + interval '9 s',"
        " finish_reason = 'stop', input_tokens = 812, output_tokens = 240, cached_tokens = 512,"
        " cost_usd = 0.000683 WHERE session_id = %s AND seq <= 3",
        session,
    )
    run(
        database_url,
        "UPDATE turnmill.sessions s SET unfinished = 2, turns_succeeded = 3, head_lane = t.lane,"
        " head_turn_id = t.id FROM turnmill.turns t"
        " WHERE s.id = %s AND t.session_id = s.id AND t.seq = 4",
        session,
    )
    for fence, outcome, code in ((1, "rate_limited", "rate_limited"), (2, "succeeded", None)):
        run(
            database_url,
            "INSERT INTO turnmill.attempts (turn_id, fence, n, kind, worker, started_at, ended_at,"
            " outcome, error_code, provider_request_id, model, input_tokens, output_tokens,"
            " cached_tokens, cost_usd, provider_ms, first_token_ms) SELECT id, %s, %s, 'send',"
            " 'worker1:4021', created_at + %s * interval '3 s', created_at + %s * interval '4 s',"
            " %s, %s, %s, 'gpt-5-mini', 812, 240, 512, 0.000683, 900, %s FROM turnmill.turns"
            " WHERE session_id = %s AND (seq = 3 OR %s = 2 AND seq < 3)",
            *(fence, fence, fence, fence, outcome, code, f"req_7f3e{fence}"),
            *(412 if fence == 2 else None, session, fence),
        )


def _batch(client: Client, database_url: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for n in range(40):
            file.write(json.dumps({"user_id": f"u{n}", "text": "x"}) + "\n")
        file.flush()
        batch = client.batches.create(file.name)
    run(
        database_url,
        "UPDATE turnmill.turns SET state = 'succeeded', attempt = 1, started_at = now(),"
        " finished_at = now(), cost_usd = 0.0004 WHERE batch_id = %s AND batch_line <= 25",
        batch.id,
    )
    run(
        database_url,
        "INSERT INTO turnmill.batch_tallies (batch_id, part, state, n, cost_usd)"
        " VALUES (%s, 0, 'succeeded', 25, 0.01)",
        batch.id,
    )
    run(
        database_url,
        "UPDATE turnmill.sessions s SET unfinished = 0, head_turn_id = NULL, head_lane = NULL,"
        " head_due_at = NULL FROM turnmill.turns t WHERE t.session_id = s.id AND t.batch_id = %s"
        " AND t.batch_line <= 25",
        batch.id,
    )


_NEEDED = """
SELECT c.column_name, c.data_type FROM information_schema.columns c
WHERE c.table_schema = 'turnmill' AND c.table_name = %s AND c.is_nullable = 'NO'
    AND c.column_default IS NULL AND c.is_identity = 'NO' AND c.is_generated = 'NEVER'
"""
_ANY = {
    "uuid": "gen_random_uuid()",
    "timestamp with time zone": "now()",
    "date": "now()",
    "bytea": "'\\x00'",
    "boolean": "false",
    "json": "'{}'",
    "jsonb": "'{}'",
    "text": "'x'",
    "character varying": "'x'",
}
#: What else a row of a table needs.
_SPECIAL = {
    "compactions": {"kind": "'summarise'"},
    "feedback": {"score": "1"},
    "schedules": {"at": "now()", "lane": "'bulk'", "missed": "'skip'"},
}
_TYPE = """
SELECT data_type FROM information_schema.columns
WHERE table_schema = 'turnmill' AND table_name = %s AND column_name = %s
"""


def said_everywhere(store_url: str, turn: Sent, word: str) -> list[str]:
    """Write a word into every column that holds content, and return these columns.

    Where a table has no row it gets one, about this turn, as far as it is about any.
    """
    columns: dict[str, list[str]] = {}
    for column in CONTENT:
        columns.setdefault(table_of(column).name, []).append(column.name)
    ours = {"turn_id": f"'{turn.id}'", "session_id": f"'{turn.session_id}'"}
    with psycopg.connect(store_url, autocommit=True) as conn:
        conn.execute("SET session_replication_role = replica")  # rows of nobody in particular
        for table, names in columns.items():
            if conn.execute(f"SELECT 1 FROM turnmill.{table} LIMIT 1").fetchone() is None:
                needed = conn.execute(_NEEDED, [table]).fetchall()
                row = {name: ours.get(name) or _ANY.get(kind, "1") for name, kind in needed}
                row |= _SPECIAL.get(table, {})
                told = f"({', '.join(row)}) VALUES ({', '.join(row.values())})"
                conn.execute(f"INSERT INTO turnmill.{table} {told}")
            for name in names:
                ((kind,),) = conn.execute(_TYPE, [table, name]).fetchall()
                value = json.dumps([{"type": "text", "text": word}]) if "json" in kind else word
                done = conn.execute(f"UPDATE turnmill.{table} SET {name} = %s", [value])
                assert done.rowcount > 0, table
    return [f"{table}.{name}" for table, names in columns.items() for name in names]


def ran(database_url: str, sessions: Sequence[UUID]) -> dict[UUID, list[str]]:
    """Return what was said in each session, in the order in which it was answered."""
    found: dict[UUID, list[str]] = {}
    for session, said in run(
        database_url,
        "SELECT t.session_id, m.content -> 0 ->> 'text' FROM turnmill.turns t"
        " JOIN turnmill.messages m ON m.turn_id = t.id AND m.role = 'user'"
        " WHERE t.state = 'succeeded' AND t.session_id = ANY(%s) ORDER BY t.finished_at",
        list(sessions),
    ):
        found.setdefault(session, []).append(said)
    return found


def ids(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [row[0] for row in rows]
