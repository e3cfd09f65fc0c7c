"""What SQL says of slots, and of buckets that times fall into, on Postgres and SQLite."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Integer, Text, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from turnmill.domain.analytics.sketches import LOG_GAMMA, LONGEST_MS, SHORTEST_MS
from turnmill.store.types import Timestamp, sqlite_text


class slot_of(FunctionElement[Any]):  # noqa: N801  named as SQL names functions
    """When the quarter of an hour began that a moment is in."""

    type = Timestamp()
    inherit_cache = True

    def __init__(self, moment: ColumnElement[Any]) -> None:
        super().__init__(moment)


class bucket_of(FunctionElement[int]):  # noqa: N801
    """The bucket of a number of milliseconds; NULL for NULL."""

    type = Integer()
    inherit_cache = True

    def __init__(self, ms: Any) -> None:
        super().__init__(ms)


class bucket_between(FunctionElement[int]):  # noqa: N801
    """The bucket of the time from one moment to another; NULL where one of them is."""

    type = Integer()
    inherit_cache = True

    def __init__(self, since: Any, until: Any) -> None:
        super().__init__(since, until)


class listed(FunctionElement[Any]):  # noqa: N801
    """All values of a group that are not NULL, in any order: see `read_list`."""

    type = NullType()
    inherit_cache = True

    def __init__(self, value: Any) -> None:
        super().__init__(value)


# What is the least or greatest of several leaves NULL out: it is asked for first.
_BUCKET_PG = (
    "CASE WHEN {0} IS NOT NULL THEN"
    f" CAST(ceil(ln(least(greatest({{0}}, {SHORTEST_MS}), {LONGEST_MS!r}::double precision))"
    f" / {LOG_GAMMA!r}::double precision) AS integer) END"
)
_SLOT_PG = "date_bin('15 minutes', {0}, TIMESTAMPTZ '2000-01-01 00:00:00+00')"


def _said(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> list[str]:
    return [compiler.process(one, **kw) for one in element.clauses]


@compiles(slot_of, "postgresql")
def _slot_pg(element: slot_of, compiler: SQLCompiler, **kw: Any) -> str:
    return _SLOT_PG.format(*_said(element, compiler, **kw))


@compiles(slot_of, "sqlite")
def _slot_sqlite(element: slot_of, compiler: SQLCompiler, **kw: Any) -> str:
    (moment,) = _said(element, compiler, **kw)
    quarter = f"printf('%02d', CAST(substr({moment}, 15, 2) AS INTEGER) / 15 * 15)"
    return f"(substr({moment}, 1, 14) || {quarter} || ':00.000000')"


@compiles(bucket_of, "postgresql")
def _bucket_pg(element: bucket_of, compiler: SQLCompiler, **kw: Any) -> str:
    (ms,) = _said(element, compiler, **kw)
    return _bucket_pg_of(f"CAST({ms} AS double precision)")


def _bucket_pg_of(ms: str) -> str:
    """Return the bucket; `greatest` passes over a NULL, of which there is no bucket."""
    return f"CASE WHEN {ms} IS NOT NULL THEN {_BUCKET_PG.format(ms)} END"


@compiles(bucket_of, "sqlite")
def _bucket_sqlite(element: bucket_of, compiler: SQLCompiler, **kw: Any) -> str:
    return f"turnmill_bucket({', '.join(_said(element, compiler, **kw))})"


@compiles(bucket_between, "postgresql")
def _between_pg(element: bucket_between, compiler: SQLCompiler, **kw: Any) -> str:
    since, until = _said(element, compiler, **kw)
    return _bucket_pg_of(f"date_part('epoch', {until} - {since}) * 1000")


@compiles(bucket_between, "sqlite")
def _between_sqlite(element: bucket_between, compiler: SQLCompiler, **kw: Any) -> str:
    return f"turnmill_bucket_between({', '.join(_said(element, compiler, **kw))})"


@compiles(listed, "postgresql")
def _listed_pg(element: listed, compiler: SQLCompiler, **kw: Any) -> str:
    (value,) = _said(element, compiler, **kw)
    return f"array_agg({value}) FILTER (WHERE {value} IS NOT NULL)"


@compiles(listed, "sqlite")
def _listed_sqlite(element: listed, compiler: SQLCompiler, **kw: Any) -> str:
    (value,) = _said(element, compiler, **kw)
    return f"json_group_array({value}) FILTER (WHERE {value} IS NOT NULL)"


class last_of(FunctionElement[int]):  # noqa: N801
    """The last number of a list as it is kept; NULL of none."""

    type = Integer()
    inherit_cache = True

    def __init__(self, value: Any) -> None:
        super().__init__(value)


@compiles(last_of, "postgresql")
def _last_pg(element: last_of, compiler: SQLCompiler, **kw: Any) -> str:
    (value,) = _said(element, compiler, **kw)
    return f"({value})[cardinality({value})]"


@compiles(last_of, "sqlite")
def _last_sqlite(element: last_of, compiler: SQLCompiler, **kw: Any) -> str:
    (value,) = _said(element, compiler, **kw)
    return f"json_extract({value}, '$[#-1]')"


class numbers(FunctionElement[Any]):  # noqa: N801
    """A list of whole numbers as it is kept, of the type that `listed` is of; None for none."""

    type = NullType()
    inherit_cache = True

    def __init__(self, value: Any) -> None:
        super().__init__(value)


@compiles(numbers, "postgresql")
def _numbers_pg(element: numbers, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST({_said(element, compiler, **kw)[0]} AS integer[])"


@compiles(numbers, "sqlite")
def _numbers_sqlite(element: numbers, compiler: SQLCompiler, **kw: Any) -> str:
    return _said(element, compiler, **kw)[0]


class tallied(FunctionElement[Any]):  # noqa: N801
    """A sketch, as a table of one row: of buckets of values, and of a sketch that is kept.

    Each may be NULL. For Postgres alone: elsewhere, sketches are added up in the process.
    """

    type = NullType()
    inherit_cache = True

    def __init__(self, values: Any, buckets: Any, counts: Any) -> None:
        super().__init__(values, buckets, counts)


@compiles(tallied, "postgresql")
def _tallied_pg(element: tallied, compiler: SQLCompiler, **kw: Any) -> str:
    values, buckets, counts = _said(element, compiler, **kw)
    return (
        "(SELECT coalesce(CAST(array_agg(bucket ORDER BY bucket) AS smallint[]), '{}') AS buckets,"
        " coalesce(CAST(array_agg(many ORDER BY bucket) AS integer[]), '{}') AS counts FROM"
        " (SELECT bucket, sum(many) AS many FROM"
        f" (SELECT unnest({values}) AS bucket, 1 AS many"
        f" UNION ALL SELECT unnest({buckets}), unnest({counts})) AS each"
        " GROUP BY bucket) AS tally)"
    )


def read_list(value: Any) -> Sequence[int]:
    """Return the numbers of a list that came as it is, or as JSON; none for NULL."""
    if value is None:
        return ()
    found: Sequence[int] = json.loads(value) if isinstance(value, str) else value
    return found


class span_of(FunctionElement[int]):  # noqa: N801
    """How many of these moments, in order, a moment has reached."""

    type = Integer()
    inherit_cache = False

    def __init__(self, moment: Any, bounds: Sequence[datetime]) -> None:
        self.bounds = bounds
        super().__init__(moment)


@compiles(span_of, "postgresql")
def _span_pg(element: span_of, compiler: SQLCompiler, **kw: Any) -> str:
    listed_bounds = literal("{" + ",".join(one.isoformat() for one in element.bounds) + "}", Text)
    bounds = compiler.process(listed_bounds, **kw)
    # Asked for by itself it is read once, and not for each row.
    once = f"(SELECT CAST({bounds} AS timestamptz[]))"
    return f"width_bucket({_said(element, compiler, **kw)[0]}, {once})"


@compiles(span_of, "sqlite")
def _span_sqlite(element: span_of, compiler: SQLCompiler, **kw: Any) -> str:
    listed_bounds = literal(json.dumps([sqlite_text(one) for one in element.bounds]), Text)
    bounds = compiler.process(listed_bounds, **kw)
    return f"turnmill_span({_said(element, compiler, **kw)[0]}, {bounds})"


class lot_of(FunctionElement[int]):  # noqa: N801
    """A number from 0 up to `LOTS`, by chance and always the same, of an id."""

    type = Integer()
    inherit_cache = True

    def __init__(self, value: Any) -> None:
        super().__init__(value)


LOTS = 4096


@compiles(lot_of, "postgresql")
def _lot_pg(element: lot_of, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(uuid_hash({_said(element, compiler, **kw)[0]}) & {LOTS - 1})"


@compiles(lot_of, "sqlite")
def _lot_sqlite(element: lot_of, compiler: SQLCompiler, **kw: Any) -> str:
    (value,) = _said(element, compiler, **kw)
    digits = (
        f"(instr('0123456789abcdef', substr({value}, {place}, 1)) - 1)" for place in (30, 31, 32)
    )
    return "({} * 256 + {} * 16 + {})".format(*digits)
