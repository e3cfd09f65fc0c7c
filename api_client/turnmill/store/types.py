"""Column types, clock expressions and statements that mean the same on Postgres and SQLite."""

import json
from bisect import bisect_right
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Date,
    DateTime,
    Dialect,
    Float,
    Integer,
    String,
    Table,
    Text,
    literal_column,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeDecorator, TypeEngine

from turnmill.domain.bounds import EARLIEST, LATEST

#: How SQLite keeps an instant, and how long that is.
_SQLITE_FORMAT, _SQLITE_LENGTH = "%Y-%m-%d %H:%M:%S.%f", 26

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class Word(Text):
    """Text of which our code names a few values, as a `StrEnum`: states.

    A value that a statement compares with stands in it as it is, and is no parameter. A plan that
    is made once for all parameters could not use an index of some rows only, such as
    `WHERE status = 'deleted'`, and would read them all.
    """

    class Comparator(Text.Comparator[str]):
        """Writes out what it compares with."""

        def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> ColumnElement[Any]:
            """Return the comparison."""
            return super().operate(op, *map(_written_out, other), **kwargs)

    comparator_factory = Comparator


#: For the same reason: the conditions of indexes compare with it.
ZERO: ColumnElement[int] = literal_column("0", Integer())


def _written_out(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return literal_column(f"'{value}'", Text())
    if isinstance(value, Collection) and value and all(isinstance(one, StrEnum) for one in value):
        return [_written_out(one) for one in sorted(value)]
    return value


class Timestamp(TypeDecorator[datetime]):
    """An aware datetime. SQLite keeps it as UTC text, which sorts as it should."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Use text where there is no type with a time zone."""
        kind = DateTime(timezone=True) if dialect.name == "postgresql" else String(_SQLITE_LENGTH)
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Refuse a naive datetime: nobody knows which instant it is."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime must have a time zone")
        return value if dialect.name == "postgresql" else sqlite_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return an aware datetime in UTC."""
        if value is None:
            return None
        if isinstance(value, str):
            return _of_sqlite(value)
        return within_python(value)


def within_python(moment: datetime) -> datetime:
    """Return the instant in UTC, or the nearest bound where that lies beyond Python's years."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return EARLIEST if moment.year < EARLIEST.year else LATEST


def _of_sqlite(text: str) -> datetime:
    try:
        if len(text) == _SQLITE_LENGTH:  # as it was written: read in a fraction of the time
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        return datetime.strptime(text, _SQLITE_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return LATEST  # it sorts after every instant that can be read


def sqlite_text(moment: datetime) -> str:
    """Return `moment` as SQLite keeps it."""
    return moment.astimezone(UTC).isoformat(" ", "microseconds")[:_SQLITE_LENGTH]


def sqlite_now(offset_seconds: float | None) -> str | None:
    """Serve the SQL function `turnmill_now(seconds)` on SQLite connections; NULL for NULL."""
    if offset_seconds is None:
        return None
    try:
        return sqlite_text(datetime.now(UTC) + timedelta(seconds=offset_seconds))
    except OverflowError:
        return sqlite_text(EARLIEST if offset_seconds < 0 else LATEST)


class db_now(FunctionElement[datetime]):
    """The database's clock at the moment a value is written."""

    type = Timestamp()
    inherit_cache = True


class db_asof(FunctionElement[datetime]):
    """The database's clock when the statement began: usable as an index condition."""

    type = Timestamp()
    inherit_cache = True


class db_asof_after(FunctionElement[datetime]):
    """The clock when the statement began, plus seconds: usable as an index condition."""

    type = Timestamp()
    inherit_cache = True

    def __init__(self, seconds: ColumnElement[float] | float) -> None:
        super().__init__(seconds)


class db_after(FunctionElement[datetime]):
    """The database's clock plus a number of seconds, which may be negative."""

    type = Timestamp()
    inherit_cache = True

    def __init__(self, seconds: ColumnElement[float] | float) -> None:
        super().__init__(seconds)


@compiles(db_now, "postgresql")
def _now_pg(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    return "clock_timestamp()"


@compiles(db_asof, "postgresql")
def _asof_pg(element: db_asof, compiler: SQLCompiler, **kw: Any) -> str:
    return "statement_timestamp()"


@compiles(db_asof_after, "postgresql")
def _asof_after_pg(element: db_asof_after, compiler: SQLCompiler, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"statement_timestamp() + make_interval(secs => {seconds})"


@compiles(db_after, "postgresql")
def _after_pg(element: db_after, compiler: SQLCompiler, **kw: Any) -> str:
    return f"clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)})"


@compiles(db_now, "sqlite")
@compiles(db_asof, "sqlite")
def _now_sqlite(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    return "(turnmill_now(0))"


@compiles(db_after, "sqlite")
@compiles(db_asof_after, "sqlite")
def _after_sqlite(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    return f"turnmill_now({compiler.process(element.clauses, **kw)})"


def insert_into(conn: Connection, table: Table) -> Any:
    """Return an INSERT that knows ON CONFLICT, for the store behind the connection."""
    return insert_for(conn.dialect.name, table)


def insert_for(dialect: str, table: Table) -> Any:
    """Return an INSERT that knows ON CONFLICT: each dialect has a class of its own for that."""
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)


class db_day(FunctionElement[date]):
    """The UTC day of a moment."""

    type = Date()
    inherit_cache = True

    def __init__(self, moment: ColumnElement[datetime]) -> None:
        super().__init__(moment)


@compiles(db_day, "postgresql")
def _day_pg(element: db_day, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **kw)} AT TIME ZONE 'UTC' AS DATE)"


@compiles(db_day, "sqlite")
def _day_sqlite(element: db_day, compiler: SQLCompiler, **kw: Any) -> str:
    return f"substr({compiler.process(element.clauses, **kw)}, 1, 10)"


class seconds_between(FunctionElement[float]):
    """Seconds from the second moment to the first."""

    type = Float()
    inherit_cache = True

    def __init__(self, later: ColumnElement[Any], earlier: ColumnElement[Any]) -> None:
        super().__init__(later, earlier)


class byte_length(FunctionElement[int]):
    """How many bytes a text has, in UTF-8."""

    type = Integer()
    inherit_cache = True


@compiles(byte_length, "postgresql")
def _bytes_pg(element: byte_length, compiler: SQLCompiler, **kw: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **kw)})"


@compiles(byte_length, "sqlite")
def _bytes_sqlite(element: byte_length, compiler: SQLCompiler, **kw: Any) -> str:
    return f"length(CAST({compiler.process(element.clauses, **kw)} AS BLOB))"


class hour_of(FunctionElement[str]):
    """The UTC hour of a moment, such as `2026-11-01 09`."""

    type = String()
    inherit_cache = True


@compiles(seconds_between, "postgresql")
def _seconds_pg(element: seconds_between, compiler: SQLCompiler, **kw: Any) -> str:
    later, earlier = (compiler.process(one, **kw) for one in element.clauses)
    return f"CAST(EXTRACT(EPOCH FROM ({later} - {earlier})) AS DOUBLE PRECISION)"


@compiles(seconds_between, "sqlite")
def _seconds_sqlite(element: seconds_between, compiler: SQLCompiler, **kw: Any) -> str:
    later, earlier = (compiler.process(one, **kw) for one in element.clauses)
    return f"((julianday({later}) - julianday({earlier})) * 86400.0)"


@compiles(hour_of, "postgresql")
def _hour_pg(element: hour_of, compiler: SQLCompiler, **kw: Any) -> str:
    return (
        f"to_char({compiler.process(element.clauses, **kw)} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24')"
    )


@compiles(hour_of, "sqlite")
def _hour_sqlite(element: hour_of, compiler: SQLCompiler, **kw: Any) -> str:
    return f"substr({compiler.process(element.clauses, **kw)}, 1, 13)"


class id_text(FunctionElement[str]):
    """An id as `str` writes it: with hyphens."""

    type = String()
    inherit_cache = True

    def __init__(self, identifier: Any) -> None:
        super().__init__(identifier)


@compiles(id_text, "postgresql")
def _id_text_pg(element: id_text, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **kw)} AS TEXT)"


@compiles(id_text, "sqlite")
def _id_text_sqlite(element: id_text, compiler: SQLCompiler, **kw: Any) -> str:
    column = compiler.process(element.clauses, **kw)
    parts = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
    return " || '-' || ".join(f"substr({column}, {start}, {size})" for start, size in parts)


class json_joined(FunctionElement[Any]):
    """A list in JSON and one as a text of JSON, as one; NULL is a list that is not there."""

    type = Json
    inherit_cache = True

    def __init__(self, first: Any, then: Any) -> None:
        super().__init__(first, then)


@compiles(json_joined, "postgresql")
def _joined_pg(element: json_joined, compiler: SQLCompiler, **kw: Any) -> str:
    first, then = (compiler.process(one, **kw) for one in element.clauses)
    return f"COALESCE({first} || CAST({then} AS JSONB), CAST({then} AS JSONB), {first})"


@compiles(json_joined, "sqlite")
def _joined_sqlite(element: json_joined, compiler: SQLCompiler, **kw: Any) -> str:
    return f"turnmill_joined({compiler.process(element.clauses, **kw)})"


def sqlite_joined(first: str | None, then: str | None) -> str | None:
    """Serve the SQL function `turnmill_joined(list, list)` on SQLite connections."""
    if first is None or then is None:
        return first if then is None else then
    return json.dumps([*json.loads(first), *json.loads(then)])


class lock_table(Executable, ClauseElement):
    """Let one transaction at a time write to the table; SQLite's has its write lock already.

    With `shared`, wait only for whoever has it alone, and have him wait.
    """

    inherit_cache = False

    def __init__(self, table: Table, *, shared: bool = False) -> None:
        self.table = table
        self.mode = "ROW EXCLUSIVE" if shared else "SHARE ROW EXCLUSIVE"


@compiles(lock_table, "postgresql")
def _lock_pg(element: lock_table, compiler: SQLCompiler, **kw: Any) -> str:
    # Rendered as in a FROM, so that the schema's real name is put in.
    table = compiler.process(element.table, asfrom=True, **kw)
    return f"LOCK TABLE {table} IN {element.mode} MODE"


@compiles(lock_table, "sqlite")
def _lock_sqlite(element: lock_table, compiler: SQLCompiler, **kw: Any) -> str:
    return "SELECT 1"


def sqlite_bucket(ms: float | None) -> int | None:
    """Serve the SQL function `turnmill_bucket(ms)` on SQLite connections; NULL for NULL."""
    from turnmill.domain.analytics.sketches import bucket_of  # noqa: PLC0415  of upkeep alone

    return None if ms is None else bucket_of(ms)


def sqlite_bucket_between(since: str | None, until: str | None) -> int | None:
    """Serve the SQL function `turnmill_bucket_between(moment, moment)`; NULL for NULL."""
    if since is None or until is None:
        return None
    return sqlite_bucket((_of_sqlite(until) - _of_sqlite(since)).total_seconds() * 1000)


def sqlite_span(slot: str, bounds: str) -> int:
    """Serve `turnmill_span(moment, bounds)`: how many bounds, a list in JSON, have passed."""
    return bisect_right(_bounds(bounds), slot)


@lru_cache(maxsize=8)
def _bounds(text: str) -> list[str]:
    bounds: list[str] = json.loads(text)
    return bounds
