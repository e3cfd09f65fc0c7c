"""A row that nobody can read fails alone, is listed, and stops neither a job nor a listing."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from tests import rows, steps
from turnmill.domain.bounds import EARLIEST, LATEST
from turnmill.domain.errors import UnreadableRow
from turnmill.domain.states import Lane, SessionStatus, TurnState
from turnmill.store.analytics import usage
from turnmill.store.database import Database
from turnmill.store.line.claim import claim, claim_due
from turnmill.store.line.due import expire_overdue
from turnmill.store.nouns import batches, lanes, outcome, sessions, turns
from turnmill.store.upkeep import retention as upkeep
from turnmill.store.upkeep.odd_rows import odd_rows

DEEP = "[" * 988 + "]" * 988
TOO_DEEP_TO_READ = "[" * 5000 + "]" * 5000


def put(store: Database, table: str, row: UUID, column: str, value: object) -> None:
    """Write a column past the door and past every constraint, as an older version could."""
    with store.begin() as conn:
        if store.is_postgres:
            conn.exec_driver_sql(
                f"ALTER TABLE turnmill.{table} DROP CONSTRAINT IF EXISTS ck_{table}_within_bounds"
            )
            key = str(row)
        else:
            conn.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
            key = row.hex
        document = column in ("metadata", "settings", "content")
        cast = "CAST(:value AS jsonb)" if document and store.is_postgres else ":value"
        if column.endswith("_at") and store.is_postgres:
            cast = "CAST(:value AS timestamptz)"
        where = "turn_id" if table == "messages" else "id"
        place = f"turnmill.{table}" if store.is_postgres else table
        conn.execute(
            text(f"UPDATE {place} SET {column} = {cast} WHERE {where} = :key"),
            {"value": value, "key": key},
        )


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("turns", "metadata", f'{{"a": {TOO_DEEP_TO_READ}}}'),
        ("turns", "metadata", f'{{"a": {DEEP}}}'),
        ("turns", "metadata", "[1]"),
        ("sessions", "settings", TOO_DEEP_TO_READ),
        ("sessions", "settings", "null"),
        ("messages", "content", '[{"type": "text"}]'),
        ("messages", "content", '{"text": "hello"}'),
        ("messages", "content", TOO_DEEP_TO_READ),
    ],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.usefixtures("sound")
def test_a_claimed_turn_that_cannot_be_read_fails_and_its_neighbours_run(
    store: Database, table: str, column: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [rows.start(store) for _ in range(3)]
    sent = [rows.send(store, line, f"message {n}") for n, line in enumerate(lines)]
    behind = rows.send(store, lines[1], "behind it")
    put(store, table, lines[1] if table == "sessions" else sent[1], column, value)

    with store.begin() as conn:
        claims = claim(conn, sent, owner="one", lease=rows.LEASE)

    assert [one.turn_id for one in claims] == [sent[0], sent[2]]
    odd = steps.turn(store, sent[1])
    assert (odd.state, odd.error_code) == (TurnState.FAILED, "unreadable_row")
    assert caplog.text.count(f"turn {sent[1]} failed: unreadable_row (session {lines[1]})") == 1
    assert steps.outcomes(store, sent[1]) == ["failed"]
    if table != "sessions":
        assert steps.line(store, lines[1]).head == behind


def test_a_whole_lane_is_claimed_past_a_turn_that_cannot_be_read(store: Database) -> None:
    sent = [rows.send(store, rows.start(store), lane="bulk") for _ in range(40)]
    put(store, "turns", sent[20], "metadata", TOO_DEEP_TO_READ)
    with store.begin() as conn:
        claims = claim_due(conn, Lane.BULK, limit=100, owner="one", lease=rows.LEASE)
    assert {one.turn_id for one in claims} == set(sent) - {sent[20]}
    assert [steps.turn(store, one).lost for one in sent] == [0] * 40


MOMENTS = {
    "postgres": ["infinity", "-infinity", "10000-01-01 00:00:00+00", "0044-03-15 00:00:00+00 BC"],
    "sqlite": ["10000-01-01 00:00:00.000000", "soon"],
}


def test_a_moment_beyond_the_years_of_python_is_read_as_the_bound_before_it(
    store: Database,
) -> None:
    session = rows.start(store)
    turn = rows.send(store, session)
    for value in MOMENTS["postgres" if store.is_postgres else "sqlite"]:
        put(store, "turns", turn, "expires_at", value)
        put(store, "sessions", session, "last_active_at", value)
        first = EARLIEST if value.startswith("-") or value.endswith("BC") else LATEST
        assert steps.turn(store, turn).expires_at == first
        assert steps.session(store, session).last_active_at == first


def test_every_listing_and_job_goes_on_past_odd_rows(store: Database) -> None:
    far = "infinity" if store.is_postgres else "99999-01-01"
    session, other = rows.start(store), rows.start(store)
    turn, neighbour = rows.send(store, session), rows.send(store, other)
    final = rows.send(store, rows.start(store))
    rows.run(store, final)
    for column in ("expires_at", "available_at", "created_at", "started_at"):
        put(store, "turns", turn, column, far)
    put(store, "turns", turn, "metadata", TOO_DEEP_TO_READ)
    put(store, "messages", turn, "content", TOO_DEEP_TO_READ)
    put(store, "sessions", session, "metadata", TOO_DEEP_TO_READ)
    put(store, "sessions", session, "created_at", far)

    with store.begin() as conn:
        assert {one.id for one in turns.find(conn)} == {turn, neighbour, final}
        assert len(sessions.find(conn)) == 3
        assert [one.text for one in sessions.history(conn, session)] == [
            "\N{REPLACEMENT CHARACTER}"
        ]
        assert sum(load.due + load.later for load in lanes.loads(conn)) >= 1
        assert batches.find(conn) == []
        assert usage.roll_up(conn) > 0
        upkeep.archive_idle(conn, default_ttl=timedelta(days=1))
        expire_overdue(conn)


def test_a_reply_that_cannot_be_read_is_an_error_and_never_an_empty_answer(store: Database) -> None:
    turn = rows.send(store, rows.start(store))
    rows.run(store, turn)
    put(store, "messages", turn, "content", "{}")
    with pytest.raises(UnreadableRow), store.begin() as conn:
        outcome.outcome_of(conn, turn)


@pytest.mark.parametrize("seconds", [10**15, 86_399_999_999_999, 2**62, -(2**62)])
def test_archiving_goes_on_for_everybody_whatever_idle_time_stands_in_a_row(
    store: Database, seconds: int
) -> None:
    odd, idle = rows.start(store), rows.start(store, idle_ttl=timedelta(hours=1))
    put(store, "sessions", odd, "idle_seconds", seconds)
    with store.begin() as conn:
        rows.age(conn, idle, timedelta(hours=2))
        archived = upkeep.archive_idle(conn, default_ttl=timedelta(days=30))
    assert archived == (1 if seconds > 0 else 2)
    assert steps.session(store, idle).status is SessionStatus.ARCHIVED
    with store.begin() as conn:
        assert {one.id for one in sessions.find(conn)} == {odd, idle}


def test_doctor_finds_what_is_out_of_bounds_by_table_id_and_column(store: Database) -> None:
    session = rows.start(store)
    turn = rows.send(store, session, metadata={"brackets": "[" * 50, "flat": [[1]] * 50})
    with store.begin() as conn:
        assert odd_rows(conn) == []
    put(store, "sessions", session, "idle_seconds", 10**15)
    put(store, "sessions", session, "key", "k" * 900)
    put(store, "turns", turn, "expires_at", "9999-12-31 23:59:00.000000")
    put(store, "turns", turn, "metadata", f'{{"a": {DEEP}}}')
    with store.begin() as conn:
        found = {(one.table, UUID(one.id), one.column) for one in odd_rows(conn)}
    assert found == {
        ("sessions", session, "idle_seconds"),
        ("sessions", session, "key"),
        ("turns", turn, "expires_at"),
        ("turns", turn, "metadata"),
    }
