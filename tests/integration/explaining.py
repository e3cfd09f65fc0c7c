"""How Postgres runs the statements of a call, and what it reads for it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event

from turnmill.store.database import Database

_WHOLE = "Seq Scan"


@dataclass(frozen=True, slots=True)
class Plan:
    """How Postgres ran the statements of one call."""

    indexes: frozenset[str]
    scanned: frozenset[str]  #: tables that were read from one end to the other
    pages: int  #: of 8 kB that were touched


@contextmanager
def undone(database: Database) -> Iterator[Connection]:
    with database.engine.connect() as conn:
        yield conn
        conn.rollback()


def plan_of(
    database: Database,
    call: Callable[[Connection], object],
    *,
    before: Callable[[Connection], object] = lambda _: None,
) -> Plan:
    """Run the call, then ask Postgres how it runs each of its statements; nothing stays."""
    asked: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    with undone(database) as conn:
        event.listen(conn, "before_cursor_execute", note)
        call(conn)
        event.remove(conn, "before_cursor_execute", note)
    with undone(database) as conn:
        before(conn)
        plans = [_explained(conn, statement, parameters) for statement, parameters in asked]
    nodes = [node for plan in plans for node in _nodes(plan)]
    return Plan(
        indexes=frozenset(node["Index Name"] for node in nodes if "Index Name" in node),
        scanned=frozenset(node["Relation Name"] for node in nodes if node["Node Type"] == _WHOLE),
        pages=sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans),
    )


def _explained(conn: Connection, statement: str, parameters: Any) -> dict[str, Any]:
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
    found = conn.exec_driver_sql(explain, parameters).scalar_one()
    plan: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def pages_read(database: Database, call: Callable[[Connection], object], *, again: int = 0) -> int:
    """Run the call, and ask Postgres for the pages of tables and indexes that it touched.

    It is run `again` so often before: a driver lets the server keep the plan of what is repeated.
    """
    for _ in range(1 + again):
        with undone(database) as conn:
            call(conn)  # whatever is read only once
    before = _pages_so_far(database)
    with undone(database) as conn:
        call(conn)
    return _pages_so_far(database) - before


def _pages_so_far(database: Database) -> int:
    with database.single() as conn:
        conn.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        conn.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
        return int(
            conn.exec_driver_sql(
                "SELECT sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)"
                " FROM pg_statio_user_tables"
            ).scalar_one()
        )
