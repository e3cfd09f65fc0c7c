"""The Postgres schema of the tables: one name in the code, another where an operator chose one."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, CursorResult, Function, func

#: What the tables and statements of the code say. SQLAlchemy's schema translation maps it.
SCHEMA = "turnmill"

_OPTION = "schema_translate_map"


def execution_options(schema: str | None) -> dict[str, Any]:
    """Return what an engine is told whose tables stand in `schema` (None: SQLite has none)."""
    return {} if schema == SCHEMA else {_OPTION: {SCHEMA: schema}}


def translate(conn: Connection, schema: str | None) -> Connection:
    """Let our tables be found on a connection that is not ours. Other tables stay where they are.

    The application's own schema translation, should it have one, goes on.
    """
    if schema != SCHEMA:
        conn.execution_options(schema_translate_map={**_map_of(conn), SCHEMA: schema})
    return conn


def execute(
    conn: Connection, statement: str, parameters: Mapping[str, Any] | None = None
) -> CursorResult[*tuple[Any, ...]]:
    """Run SQL of our own, in which every table has the code's schema before its name."""
    return conn.exec_driver_sql(
        named(conn, statement), None if parameters is None else dict(parameters)
    )


def asked(conn: Connection, function: str, *values: Any) -> Function[Any]:
    """Return the call of a function of ours, for a statement that SQLAlchemy renders."""
    schema = getattr(func, _map_of(conn).get(SCHEMA) or SCHEMA)
    found: Function[Any] = getattr(schema, function)(*values)
    return found


def named(conn: Connection, statement: str) -> str:
    """Return the statement with the tables' real schema in it."""
    actual = _map_of(conn).get(SCHEMA, SCHEMA)
    return statement if actual == SCHEMA else _renamed(statement, actual)


def _map_of(conn: Connection) -> Mapping[str | None, str | None]:
    found: Mapping[str | None, str | None] | None = conn.get_execution_options().get(_OPTION)
    return found or {}


@lru_cache(maxsize=256)
def _renamed(statement: str, schema: str | None) -> str:
    return statement.replace(f"{SCHEMA}.", f'"{schema}".' if schema else "")
