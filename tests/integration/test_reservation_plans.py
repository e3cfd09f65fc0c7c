"""A reservation looks its budgets up, though its plan was made on a store that had few of them."""

from contextlib import closing
from typing import Any

from sqlalchemy import Connection, event

from tests.budgeting import CENT, bound, one
from tests.conftest import fresh_database
from tests.integration.explaining import undone
from turnmill.store.budget_records import Ask
from turnmill.store.database import Database
from turnmill.store.line.reserving import reserve
from turnmill_worker.stack.postgres import EmbeddedPostgres

_CALLS = 10
_OF_OTHERS = """
INSERT INTO turnmill.budgets (id, scope, name, period, timezone, limit_usd, on_exceeded, warn_at)
SELECT md5('b' || n)::uuid, 'user', 'other ' || n, 'month', 'UTC', 5, 'fail', '[]'
FROM generate_series({}, {}) AS n
"""
_READ = """
SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables
WHERE schemaname = 'turnmill' AND relname IN ('budgets', 'charges')
"""
_NAMES = ("turn_ids", "fences", "amounts", "tags")


def test_a_group_of_reservations_reads_no_budgets_of_others_however_old_its_plan_is(
    postgres_server: EmbeddedPostgres, migrated_template: str
) -> None:
    with (
        fresh_database(postgres_server, migrated_template) as url,
        closing(Database(url)) as database,
    ):
        bound(database, "1")
        claims = [one(database) for _ in range(_CALLS)]
        asks = [Ask(turn_id=claim.turn_id, fence=claim.fence, amount_usd=CENT) for claim in claims]
        with undone(database) as conn:
            conn.exec_driver_sql(_OF_OTHERS.format(1, 100))
            conn.exec_driver_sql("ANALYZE turnmill.budgets")
            execute = _planned(conn, _statement(database, asks), asks)
            assert _granted(conn, execute) == _CALLS
            conn.exec_driver_sql(_OF_OTHERS.format(101, 3000))
            before = conn.exec_driver_sql(_READ).scalar_one()
            assert _granted(conn, execute) == _CALLS
            read = conn.exec_driver_sql(_READ).scalar_one() - before
    assert read <= 10 * _CALLS


def _granted(conn: Connection, execute: str) -> int:
    granted, *_ = conn.exec_driver_sql(execute).one()
    return len(granted)


def _statement(database: Database, asks: list[Ask]) -> str:
    """Return what a group of reservations is asked with."""
    seen: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    with undone(database) as conn:
        event.listen(conn, "before_cursor_execute", note)
        reserve(conn, asks, tags=())
        event.remove(conn, "before_cursor_execute", note)
    (statement,) = seen
    return statement


def _planned(conn: Connection, statement: str, asks: list[Ask]) -> str:
    """Let the server plan it once, as on a worker's connection; return how it is run again."""
    for n, name in enumerate(_NAMES, 1):
        statement = statement.replace(f"%({name})s", f"${n}")
    conn.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
    types = "uuid[], bigint[], numeric[], text[]"
    conn.exec_driver_sql(f"PREPARE reserving ({types}) AS {statement}")
    turns = ", ".join(f"'{one.turn_id}'" for one in asks)
    fences = ", ".join(str(one.fence) for one in asks)
    amounts = ", ".join(str(one.amount_usd) for one in asks)
    return f"EXECUTE reserving (ARRAY[{turns}]::uuid[], ARRAY[{fences}], ARRAY[{amounts}], '{{}}')"
