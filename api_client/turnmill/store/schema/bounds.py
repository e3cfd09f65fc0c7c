"""The bounds of the door as SQL: new rows are held to them, and doctor finds old ones by them.

Names of columns and words of ours only; numbers come from `turnmill.domain.bounds`.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Column, Connection, Index, text

from turnmill.domain.bounds import (
    BYTES_PER_CHARACTER,
    EARLIEST,
    JSON_DEPTH,
    JSON_STORED_BYTES,
    LATEST,
    LONGEST_IDLE,
    MOST_ATTEMPTS,
    NAME_LENGTH,
    SHORTEST_IDLE,
)

_NAME_BYTES = NAME_LENGTH * BYTES_PER_CHARACTER
_IDLE = (int(SHORTEST_IDLE.total_seconds()), int(LONGEST_IDLE.total_seconds()))

_MANY_BRACKETS = {
    "postgresql": "{column}::text ~ '([[{{][^]}}]*){{" + str(JSON_DEPTH + 1) + "}}'",
    "sqlite": "length({column}) - length(replace(replace({column}, '[', ''), '{{', ''))"
    f" > {JSON_DEPTH}",
}

#: Of each table: what callers hand in, by kind of bound.
_HANDED_IN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "sessions": {
        "name": ("key", "user_id", "provider", "model"),
        "json": ("settings", "metadata"),
        "attempts": ("max_attempts",),
        "idle": ("idle_seconds",),
    },
    "turns": {
        "name": ("idempotency_key", "custom_id"),
        "json": ("metadata",),
        "attempts": ("max_attempts",),
        "time": ("available_at", "expires_at"),
    },
    "batches": {"name": ("name",)},
    "pauses": {"name": ("name",)},
}


def conditions(table: str, *, dialect: str) -> dict[str, str]:
    """Return, for each column of the table that callers fill, what holds within its bounds.

    True, or unknown for NULL, as in a constraint.
    """
    return {
        column: _condition(kind, column, postgres=dialect == "postgresql")
        for kind, columns in _HANDED_IN[table].items()
        for column in columns
    }


def conditions_on(conn: Connection, table: str) -> dict[str, str]:
    """Return the conditions in the words of the store behind the connection."""
    return conditions(table, dialect=conn.dialect.name)


def many_brackets(conn: Connection, column: str) -> str:
    """Return whether a document may be nested too deeply: it has as many brackets in a row."""
    return _MANY_BRACKETS[conn.dialect.name].format(column=column)


def within_bounds(table: str, *, dialect: str) -> str:
    """Return all conditions of the table as one."""
    return " AND ".join(conditions(table, dialect=dialect).values())


def _condition(kind: str, column: str, *, postgres: bool) -> str:
    match kind:
        case "name":
            size = f"octet_length({column})" if postgres else f"length(CAST({column} AS BLOB))"
            return f"{size} <= {_NAME_BYTES}"
        case "json":
            size = f"pg_column_size({column})" if postgres else f"length({column})"
            return f"{size} <= {JSON_STORED_BYTES}"
        case "time":
            first, end = (_literal(one, postgres=postgres) for one in (EARLIEST, LATEST))
            return f"{column} >= {first} AND {column} < {end}"
        case "idle":
            return f"{column} BETWEEN {_IDLE[0]} AND {_IDLE[1]}"
        case _:
            return f"{column} BETWEEN 1 AND {MOST_ATTEMPTS}"


def _literal(moment: datetime, *, postgres: bool) -> str:
    text = f"{moment:%Y-%m-%d %H:%M:%S}"
    return f"TIMESTAMPTZ '{text}+00'" if postgres else f"'{text}'"


def bounded(table: str) -> CheckConstraint:
    """Hold what callers hand in to its bounds; on Postgres, the migration that came later does."""
    held = CheckConstraint(within_bounds(table, dialect="sqlite"), name="within_bounds")
    return held.ddl_if(dialect="sqlite")


def one_of(column: str, words: type[StrEnum]) -> CheckConstraint:
    """Hold a column to the words that there are."""
    known = ", ".join(f"'{word}'" for word in sorted(words))
    return CheckConstraint(f"{column} IN ({known})", name=f"{column}_known")


def unique_where_given(name: str, *columns: Column[Any], given: Column[Any]) -> None:
    """Let a key that most rows do not have be unique, at no cost to those that have none."""
    there = text(f"{given.name} IS NOT NULL")
    Index(name, *columns, unique=True, postgresql_where=there, sqlite_where=there)
