"""How long things took, as SQL that means the same on both engines, and how that is spread."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, case, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

#: Percentiles that are told.
_TOLD = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How some numbers are spread: percentiles are numbers that occurred, and exact."""

    count: int
    mean: float
    median: float
    p90: float
    p95: float
    p99: float
    highest: float


class ms_between(FunctionElement[int]):  # noqa: N801  named as SQL names functions
    """Whole milliseconds from one moment to another; NULL where one of them is."""

    type = BigInteger()
    inherit_cache = True

    def __init__(self, begun: ColumnElement[Any], ended: ColumnElement[Any]) -> None:
        super().__init__(begun, ended)


@compiles(ms_between, "postgresql")
def _ms_pg(element: ms_between, compiler: SQLCompiler, **kw: Any) -> str:
    begun, ended = (compiler.process(one, **kw) for one in element.clauses)
    return f"CAST(round(extract(epoch FROM ({ended}) - ({begun})) * 1000) AS BIGINT)"


@compiles(ms_between, "sqlite")
def _ms_sqlite(element: ms_between, compiler: SQLCompiler, **kw: Any) -> str:
    # Its own functions know milliseconds; a text that is stored has six digits behind the second.
    begun, ended = (
        f"strftime('%s', {moment}) * 1000000 + substr({moment}, 21, 6)"
        for moment in (compiler.process(one, **kw) for one in element.clauses)
    )
    return f"CAST(round((({ended}) - ({begun})) / 1000.0) AS INTEGER)"


class quarter_of(FunctionElement[int]):  # noqa: N801
    """The number of the quarter of an hour, since 1970, that a moment is in."""

    type = BigInteger()
    inherit_cache = True

    def __init__(self, moment: ColumnElement[datetime]) -> None:
        super().__init__(moment)


@compiles(quarter_of, "postgresql")
def _quarter_pg(element: quarter_of, compiler: SQLCompiler, **kw: Any) -> str:
    moment = compiler.process(element.clauses, **kw)
    return f"CAST(floor(extract(epoch FROM {moment}) / 900) AS BIGINT)"


@compiles(quarter_of, "sqlite")
def _quarter_sqlite(element: quarter_of, compiler: SQLCompiler, **kw: Any) -> str:
    moment = compiler.process(element.clauses, **kw)
    return f"(CAST(strftime('%s', {moment}) AS INTEGER) / 900)"


def spread_of(conn: Connection, values: Select[Any]) -> Spread | None:
    """Return how the numbers are spread that a query of one column yields; None: there are none.

    A percentile is the least number that so many of a hundred do not exceed.
    """
    given = values.subquery("given")
    (value,) = given.c
    ranked = (
        select(
            value.label("value"),
            func.row_number().over(order_by=value).label("rank"),
            func.count().over().label("many"),
        )
        .where(value.is_not(None))
        .subquery("ranked")
    )
    at = {
        f"p{told}": func.min(case((ranked.c.rank * 100 >= ranked.c.many * told, ranked.c.value)))
        for told in _TOLD
    }
    row = conn.execute(
        select(
            func.count().label("count"),
            func.avg(ranked.c.value).label("mean"),
            func.max(ranked.c.value).label("highest"),
            *(column.label(name) for name, column in at.items()),
        )
    ).one()
    return _spread(row._mapping) if row._mapping["count"] else None


def _spread(row: Mapping[Any, Any]) -> Spread:
    return Spread(
        count=int(row["count"]),
        mean=float(row["mean"]),
        median=float(row["p50"]),
        p90=float(row["p90"]),
        p95=float(row["p95"]),
        p99=float(row["p99"]),
        highest=float(row["highest"]),
    )
