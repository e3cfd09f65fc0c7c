"""Rows that are out of bounds: older than the bounds, or written past the door."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from turnmill.domain.bounds import JSON_DEPTH
from turnmill.domain.json_values import nesting
from turnmill.store.schema.bounds import conditions_on, many_brackets
from turnmill.store.schema.tables import batches, pauses, sessions, turns
from turnmill.store.schema_name import SCHEMA, execute

_TABLES = (sessions, turns, batches, pauses)
#: Columns with JSON of callers' own.
_NESTED = ((sessions, "settings"), (sessions, "metadata"), (turns, "metadata"))
#: Rows with so many brackets in a row are looked at, up to this number.
_MOST_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class OddRow:
    """A row that is out of bounds, and where. Nothing of what users wrote."""

    table: str
    id: str  #: of a pause, its kind
    column: str

    def __str__(self) -> str:
        return f"{self.table} {self.id}: {self.column} is out of bounds"


def odd_rows(conn: Connection, *, limit: int = 20) -> list[OddRow]:
    """Return rows that break a bound, up to `limit` of each table and kind. Reads whole tables."""
    found: list[OddRow] = []
    for table in _TABLES:
        found += _out_of_bounds(conn, table, limit=limit)
    for table, column in _NESTED:
        found += list(_too_deep(conn, table, column))[:limit]
    return found


def _out_of_bounds(conn: Connection, table: Any, *, limit: int) -> Iterator[OddRow]:
    held = conditions_on(conn, table.name)
    key = next(iter(table.primary_key.columns)).name
    broken = ", ".join(f"NOT ({condition})" for condition in held.values())
    anything = " OR ".join(f"NOT ({condition})" for condition in held.values())
    rows = execute(
        conn, f"SELECT {key}, {broken} FROM {SCHEMA}.{table.name} WHERE {anything} LIMIT {limit:d}"
    )
    for row in rows:
        for column, is_broken in zip(held, row[1:], strict=True):
            if is_broken:
                yield OddRow(table=table.name, id=str(row[0]), column=column)


def _too_deep(conn: Connection, table: Any, column: str) -> Iterator[OddRow]:
    many = many_brackets(conn, column)
    rows = execute(
        conn,
        f"SELECT id, CAST({column} AS text) FROM {SCHEMA}.{table.name}"
        f" WHERE {many} LIMIT {_MOST_LOOKED_AT}",
    )
    for row in rows:
        if nesting(row[1]) > JSON_DEPTH:
            yield OddRow(table=table.name, id=str(row[0]), column=column)
