"""What waits for a vendor's batch is read page by page, each at the cost of what is on it."""

import re
from collections.abc import Callable, Iterator
from hashlib import md5
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, event, insert

from tests.conftest import fresh_database
from tests.integration.explaining import plan_of, undone
from turnmill.domain.ids import BatchId, TurnId
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.nouns import batches
from turnmill.store.postgres import batching
from turnmill.store.schema.budget_tables import budgets
from turnmill_worker.stack.postgres import EmbeddedPostgres

PARKED, PAGE, PAGES_OF_ONE = 4_000, 50, 12
BATCH = BatchId(UUID(md5(b"b", usedforsecurity=False).hexdigest()))
#: Turns of one batch, all parked, whose ids rise with their numbers.
_PARKED = f"""
WITH batch AS (
    INSERT INTO turnmill.batches (id, name, content_hash, state, mode)
    VALUES (md5('b')::uuid, 'b', '', 'running', 'native')
), line AS (
    SELECT n, md5('s' || n)::uuid AS id, lpad(to_hex(n), 32, '0')::uuid AS turn_id
    FROM generate_series(1, {PARKED}) AS n
), session AS (
    INSERT INTO turnmill.sessions (id, user_id, provider, model, next_seq, unfinished, head_turn_id,
        head_lane)
    SELECT id, 'ada', 'mock', 'mock', 2, 1, turn_id, 'bulk' FROM line
), turn AS (
    INSERT INTO turnmill.turns (id, session_id, seq, max_attempts, lane, state, waits_for, batch_id,
        available_at)
    SELECT turn_id, id, 1, 5, 'bulk', 'waiting', 'batch', md5('b')::uuid, now() FROM line
)
INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content)
SELECT md5('m' || n)::uuid, id, turn_id, 0, 'user', '[{{"type": "text", "text": "hi"}}]' FROM line
"""

_ASKS_FOR_A_FORM = """
UPDATE turnmill.sessions SET settings = '{"response_format": {"type": "object"}}'
WHERE id = md5('s' || 7)::uuid
"""


@pytest.fixture(scope="module")
def parked(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[Database]:
    with fresh_database(postgres_server, migrated_template) as url:
        database = Database(url)
        with database.begin() as conn:
            conn.exec_driver_sql(_PARKED)
            conn.exec_driver_sql(_ASKS_FOR_A_FORM)
        with database.single() as conn:
            conn.exec_driver_sql("VACUUM ANALYZE")
        yield database
        database.close()


def the_last_page(conn: Connection) -> None:
    after = TurnId(UUID(int=PARKED - PAGE))
    assert len(batching.read_parked(conn, BATCH, shard="", after=after, limit=500)) == PAGE


def what_is_left(conn: Connection) -> None:
    assert len(batching.left_in(conn, BATCH, shard="", limit=PAGE)) == PAGE


def the_forms_of_some(conn: Connection) -> None:
    ids = [TurnId(UUID(int=n)) for n in range(1, PAGE + 1)]
    assert len(batching.forms_of(conn, ids)) == 1


def planned_once(database: Database, call: Callable[[Connection], None]) -> str:
    """Return how Postgres runs the statement of a call, whatever its parameters are."""
    asked: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    with undone(database) as conn:
        event.listen(conn, "before_cursor_execute", note)
        call(conn)
        event.remove(conn, "before_cursor_execute", note)
        (statement,) = asked
        for n, name in enumerate(dict.fromkeys(re.findall(r"%\(\w+\)s", statement)), 1):
            statement = statement.replace(name, f"${n}")
        explained = conn.exec_driver_sql(f"EXPLAIN (GENERIC_PLAN) {statement}")
        return "\n".join(explained.scalars())


@pytest.mark.parametrize("call", [the_last_page, what_is_left])
def test_a_page_of_parked_turns_costs_what_is_on_it_however_many_there_are(
    parked: Database, call: Callable[[Connection], None]
) -> None:
    plan = plan_of(parked, call)
    assert "ix_turns_in_batch" in plan.indexes
    assert plan.scanned == frozenset()
    assert plan.pages <= PAGE * PAGES_OF_ONE


@pytest.mark.parametrize("call", [the_last_page, what_is_left])
def test_whoever_plans_once_for_all_pages_enters_the_same_index(
    parked: Database, call: Callable[[Connection], None]
) -> None:
    plan = planned_once(parked, call)
    assert "ix_turns_in_batch" in plan
    assert "Seq Scan" not in plan
    assert "pk_turns" not in plan


def test_forms_of_replies_are_looked_up_by_the_keys_of_their_turns(parked: Database) -> None:
    plan = plan_of(parked, the_forms_of_some)
    assert plan.scanned == frozenset()
    assert plan.pages <= PAGE * PAGES_OF_ONE
    assert "Seq Scan" not in planned_once(parked, the_forms_of_some)


def test_a_list_of_batches_reads_turns_only_where_anybody_has_a_budget(parked: Database) -> None:
    plan = plan_of(parked, batches.find)
    assert plan.pages < 10

    def bound(conn: Connection) -> None:
        whose = {"scope": "user", "name": "ada", "period": "month", "timezone": "UTC"}
        says = {"limit_usd": 1, "on_exceeded": "wait", "warn_at": []}
        conn.execute(insert(budgets).values(id=new_id(), **whose, **says))

    plan = plan_of(parked, batches.find, before=bound)
    assert "turns" not in plan.scanned
