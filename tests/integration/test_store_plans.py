"""Each statement of the hot path finds its rows by its index, in a store full of waiting turns."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import md5
from uuid import UUID

import pytest
from sqlalchemy import Connection

from tests import rows, steps
from tests.conftest import fresh_database
from tests.integration.explaining import pages_read, plan_of, undone
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, TurnState
from turnmill.store import kept
from turnmill.store.database import Database
from turnmill.store.line import leases, sharing
from turnmill.store.line.accept import accept
from turnmill.store.line.backlogs import backlogs, longest_waits
from turnmill.store.line.claim import claim, claim_due, claim_suspects, still_due
from turnmill.store.line.due import (
    announce_due,
    count_due,
    expire_overdue,
    note_announced,
    overdue,
    purge_deleted,
)
from turnmill.store.line.settle import settle
from turnmill.store.nouns import sessions, turns
from turnmill.store.nouns.outcome import outcome_of
from turnmill.store.records import Claim, Waits
from turnmill.store.schema.tables import turns as turn_rows
from turnmill.store.upkeep.invariants import violations
from turnmill_worker.stack.postgres import EmbeddedPostgres

LINES = 20_000
LONGEST_LINE = 20_000
FIRST_RUNNING = 19_000
LEASE = timedelta(seconds=15)

#: A line of one waiting turn for each of many sessions, and one session with a very long line.
CROWD = f"""
WITH line AS (
    SELECT n, md5('s' || n)::uuid AS id, md5('t' || n)::uuid AS turn_id,
        now() - make_interval(secs => n) AS due_at
    FROM generate_series(1, {LINES}) AS n
), session AS (
    INSERT INTO turnmill.sessions (id, user_id, provider, model, next_seq, unfinished, head_turn_id,
        head_lane, head_due_at)
    SELECT id, 'user ' || mod(n, 500), 'mock', 'mock', 2, 1, turn_id,
        CASE WHEN mod(n, 2) = 0 THEN 'bulk' ELSE 'interactive' END, due_at
    FROM line
), turn AS (
    INSERT INTO turnmill.turns (id, session_id, seq, max_attempts, lane, available_at)
    SELECT turn_id, id, 1, 5, CASE WHEN mod(n, 2) = 0 THEN 'bulk' ELSE 'interactive' END, due_at
    FROM line
)
INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content)
SELECT md5('m' || n)::uuid, id, turn_id, 0, 'user', '[{{"type": "text", "text": "hi"}}]' FROM line
"""
RUNNING = f"""
WITH running AS (
    UPDATE turnmill.turns SET state = 'running', lease_owner = 'one', lease_fence = 1, attempt = 1,
        claims = 1, started_at = now(), lease_until = now() + interval '1 hour'
    WHERE id IN (SELECT md5('t' || n)::uuid FROM generate_series({FIRST_RUNNING}, {LINES}) AS n)
    RETURNING id, session_id
), attempt AS (
    INSERT INTO turnmill.attempts (turn_id, fence, n, kind, worker)
    SELECT id, 1, 1, 'send', 'one' FROM running
)
UPDATE turnmill.sessions s SET fence = 1, head_due_at = NULL FROM running
WHERE s.id = running.session_id
"""
LONG_LINE = f"""
WITH turn AS (
    INSERT INTO turnmill.turns (id, session_id, seq, max_attempts)
    SELECT md5('l' || n)::uuid, md5('s1')::uuid, n + 1, 5
    FROM generate_series(1, {LONGEST_LINE}) AS n
), message AS (
    INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content)
    SELECT md5('k' || n)::uuid, md5('s1')::uuid, md5('l' || n)::uuid, 0, 'user', '[]'
    FROM generate_series(1, {LONGEST_LINE}) AS n
)
UPDATE turnmill.sessions SET next_seq = {LONGEST_LINE} + 2, unfinished = {LONGEST_LINE} + 1
WHERE id = md5('s1')::uuid
"""


@pytest.fixture(scope="module")
def crowded(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[Database]:
    with fresh_database(postgres_server, migrated_template) as url:
        database = Database(url)
        with database.begin() as conn:
            conn.exec_driver_sql(CROWD)
            conn.exec_driver_sql(RUNNING)
            conn.exec_driver_sql(LONG_LINE)
        with database.single() as conn:
            conn.exec_driver_sql("VACUUM ANALYZE")
        yield database
        database.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A call, the indexes without which it would read far too much, and what it may touch."""

    call: Callable[[Connection], object]
    needs: frozenset[str]
    pages: int
    whole: frozenset[str] = frozenset()  #: tables of few rows, which are read whole


def head(n: int) -> TurnId:
    """Return the turn at the head of line number `n`; even ones are bulk."""
    return TurnId(UUID(md5(f"t{n}".encode(), usedforsecurity=False).hexdigest()))


def line(n: int) -> SessionId:
    """Return the session of line number `n`; the first one is very long."""
    return SessionId(UUID(md5(f"s{n}".encode(), usedforsecurity=False).hexdigest()))


def claim_ten(conn: Connection) -> list[Claim]:
    return claim(conn, [head(n) for n in range(1, 11)], owner="one", lease=LEASE)


def settle_ten(conn: Connection) -> None:
    settle_all(conn, claim_ten(conn))


def settle_ten_kept(conn: Connection) -> None:
    verdicts = [
        steps.verdict(one, TurnState.SUCCEEDED, provider_ref=f"resp_{one.turn_id}")
        for one in claim_ten(conn)
    ]
    settle(conn, verdicts)


def ask_ten(conn: Connection) -> None:
    """Let ten turns wait for work in the background, and claim them again to ask for it."""
    verdicts = [steps.verdict(one, TurnState.WAITING, native_ref="bg") for one in claim_ten(conn)]
    settle(conn, verdicts)
    assert {one.kind for one in claim_ten(conn)} == {"resume"}


def settle_all(conn: Connection, claims: Sequence[Claim]) -> None:
    verdicts = [steps.verdict(one, TurnState.SUCCEEDED) for one in claims]
    settle(conn, verdicts)


def lose_ten(conn: Connection) -> None:
    held = [one.turn_id for one in claim_ten(conn)]
    past = datetime.now(UTC) - timedelta(hours=1)
    conn.execute(turn_rows.update().where(turn_rows.c.id.in_(held)).values(lease_until=past))
    assert leases.take_lost(conn, lease=timedelta(0), limit=500).turns == 10


def expire_ten(conn: Connection) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    overdue = [head(n) for n in range(1, 11)]
    conn.execute(turn_rows.update().where(turn_rows.c.id.in_(overdue)).values(expires_at=past))
    expire_overdue(conn)


def announce(conn: Connection) -> object:
    waits = Waits(LEASE, LEASE)
    return announce_due(
        conn, Lane.INTERACTIVE, providers=["mock"], limit=10, hints=5, waits=waits, drained=waits
    )


DUE = frozenset({"ix_sessions_due"})
CASES = {
    "a send": Case(
        call=lambda conn: accept(conn, line(3), rows.say(idempotency_key="k")),
        needs=frozenset({"pk_sessions", "uq_turns_keyed"}),
        pages=150,
    ),
    "a send to a very long line": Case(
        call=lambda conn: accept(conn, line(1), rows.say()),
        needs=frozenset({"pk_sessions"}),
        pages=150,
    ),
    "a claim by hints": Case(
        call=claim_ten,
        needs=frozenset({"pk_turns", "pk_sessions", "uq_messages_turn_id_position"}),
        pages=1500,
    ),
    "a claim in a lane": Case(
        call=lambda conn: claim_due(conn, Lane.BULK, limit=10, owner="one", lease=LEASE),
        needs=DUE | {"pk_turns", "pk_sessions"},
        pages=1000,
    ),
    "a look for who has something due": Case(
        call=lambda conn: sharing.due_by_user(
            conn, Lane.BULK, after="user 3", served=(), users=10, heads=20
        ),
        needs=frozenset({"ix_sessions_users_due"}),
        pages=250,
    ),
    "a claim of suspects": Case(
        call=lambda conn: claim_suspects(conn, lost=1, limit=10, owner="one", lease=LEASE),
        needs=DUE,
        pages=50,
    ),
    "what a claim passed over": Case(
        call=lambda conn: still_due(conn, [head(3)], lanes=list(Lane)),
        needs=frozenset({"pk_turns", "pk_sessions"}),
        pages=50,
    ),
    "a settle of ten": Case(
        call=settle_ten,
        needs=frozenset({"pk_turns", "pk_sessions", "pk_attempts", "ix_turns_line"}),
        pages=2500,
    ),
    "a settle of ten that vendors keep": Case(
        call=settle_ten_kept,
        needs=frozenset({"pk_turns", "pk_sessions", "pk_attempts", "ix_turns_line"}),
        pages=2800,
    ),
    "a look for what vendors keep": Case(
        call=lambda conn: kept.take_due(conn, again_after=LEASE, limit=10),
        needs=frozenset({"ix_kept_refs_due_at", "pk_kept_refs"}),
        pages=100,
    ),
    "the end of a session that vendors keep": Case(
        call=lambda conn: kept.give_up_all(conn, [line(4)]),
        needs=frozenset({"pk_kept_refs", "pk_sessions"}),
        pages=100,
    ),
    "a question about ten turns": Case(
        call=ask_ten, needs=frozenset({"pk_turns", "pk_sessions", "pk_attempts"}), pages=5000
    ),
    "a reply": Case(
        call=lambda conn: outcome_of(conn, head(3)),
        needs=frozenset({"pk_turns", "pk_sessions", "pk_attempts", "uq_messages_one_reply"}),
        pages=50,
    ),
    "a heartbeat of ten": Case(
        call=lambda conn: leases.extend(
            conn, [(one.turn_id, one.fence) for one in claim_ten(conn)], lease=LEASE
        ),
        needs=frozenset({"pk_turns"}),
        pages=2000,
    ),
    "a look for lost turns": Case(
        call=lose_ten,
        needs=frozenset({"ix_turns_lease", "ix_turns_line", "pk_sessions", "pk_attempts"}),
        pages=4000,
    ),
    "what a dispatcher looks for each second": Case(
        call=overdue,
        needs=frozenset({"ix_turns_lease", "ix_turns_overdue", "ix_sessions_deleted"}),
        pages=100,
        whole=frozenset({"batches", "budgets"}),
    ),
    "a look for overdue turns": Case(
        call=expire_ten,
        needs=frozenset({"ix_turns_overdue", "ix_turns_line", "pk_sessions"}),
        pages=2000,
    ),
    "an announcement": Case(call=announce, needs=DUE, pages=400),
    "a count of what is due": Case(
        call=lambda conn: count_due(conn, Lane.BULK, providers=["mock"], limit=1000),
        needs=DUE,
        pages=1500,
    ),
    "a look at all backlogs": Case(call=backlogs, needs=DUE, pages=50),
    "a look for what nobody took": Case(call=longest_waits, needs=DUE, pages=50),
    "a wake": Case(
        call=lambda conn: note_announced(conn, [head(3)]),
        needs=frozenset({"pk_turns", "pk_sessions"}),
        pages=80,
    ),
    "a look for deleted sessions": Case(
        call=purge_deleted, needs=frozenset({"ix_sessions_deleted"}), pages=20
    ),
    "a cancel in a very long line": Case(
        call=lambda conn: turns.cancel(conn, head(1)),
        needs=frozenset({"pk_turns", "pk_sessions", "ix_turns_line"}),
        pages=400,
    ),
    "the head of a very long line": Case(
        call=lambda conn: sessions.head_of(conn, line(1)),
        needs=frozenset({"pk_sessions", "ix_turns_line"}),
        pages=150,
    ),
    "a page of history": Case(
        call=lambda conn: sessions.history(conn, line(1), after_seq=10_000, limit=10),
        needs=frozenset({"uq_turns_session_id_seq", "uq_messages_turn_id_position"}),
        pages=150,
    ),
}


def call_tools(conn: Connection) -> None:
    """Let there be many calls of tools that have ended, and some that somebody is asked about."""
    conn.exec_driver_sql(f"""
        INSERT INTO turnmill.tool_calls (turn_id, position, session_id, step, call_id, tool,
            effects, state)
        SELECT md5('t' || n)::uuid, 2, md5('s' || n)::uuid, 1, 'call_1', 'weather', 'none',
            CASE WHEN mod(n, 1000) = 0 THEN 'approval' ELSE 'done' END
        FROM generate_series(1, {LINES}) AS n
    """)
    conn.exec_driver_sql("ANALYZE turnmill.tool_calls")


def test_what_somebody_is_asked_about_is_found_among_many_calls(crowded: Database) -> None:
    plan = plan_of(
        crowded,
        lambda conn: turns.find(conn, waits_for=["approval"], limit=10),
        before=call_tools,
    )
    assert "ix_tool_calls_waiting" in plan.indexes
    assert plan.pages < 300


@pytest.mark.parametrize("name", CASES)
def test_rows_are_found_by_their_index(crowded: Database, name: str) -> None:
    plan = plan_of(crowded, CASES[name].call)
    assert plan.scanned <= CASES[name].whole
    assert CASES[name].needs <= plan.indexes


@pytest.mark.parametrize("name", CASES)
def test_the_work_does_not_grow_with_what_waits(crowded: Database, name: str) -> None:
    assert plan_of(crowded, CASES[name].call).pages <= CASES[name].pages


def test_a_group_costs_what_its_turns_cost(crowded: Database) -> None:
    def answer(conn: Connection, *, last: int) -> None:
        ids = [head(n) for n in range(2, last + 2)]
        claims = claim(conn, ids, owner="one", lease=LEASE)
        assert len(claims) == last
        settle_all(conn, claims)

    with closing(
        Database(crowded.url.render_as_string(hide_password=False), generic_plans=True)
    ) as worker:
        ten = pages_read(worker, partial(answer, last=10))
        hundreds = pages_read(worker, partial(answer, last=200))
    assert hundreds <= 30 * ten


def test_what_a_worker_says_on_and_on_is_planned_once(database_url: str) -> None:
    with closing(Database(database_url, generic_plans=True)) as worker:
        for _ in range(12):
            steps.answer(worker, steps.send(worker, rows.start(worker)).turn_id)
        with worker.single() as conn:
            counts = conn.exec_driver_sql(
                "SELECT generic_plans, custom_plans FROM pg_prepared_statements"
                " WHERE statement LIKE '%%UPDATE turnmill.turns%%'"
            ).all()
    assert len(counts) == 2, "claim and settle"
    assert all(generic > 0 and not custom for generic, custom in counts)


def test_a_lost_index_is_noticed(crowded: Database) -> None:
    def without_it(conn: Connection) -> None:
        conn.exec_driver_sql("DROP INDEX turnmill.ix_sessions_due")

    plan = plan_of(crowded, announce, before=without_it)
    assert plan.pages > 10 * CASES["an announcement"].pages


def test_an_hourly_look_at_the_promises_finds_a_full_store_sound(crowded: Database) -> None:
    with undone(crowded) as conn:
        assert violations(conn, since=datetime.now(UTC) - timedelta(hours=1)) == []
