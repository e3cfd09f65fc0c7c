"""What calls have used and cost, by the day on which they ended: of rows, and of what is gone."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, select

from turnmill.domain.analytics.windows import moments_of
from turnmill.store.rules.spending import SUMS, Day, of_provider, spent_by_day
from turnmill.store.schema.rollup_tables import spent_gone
from turnmill.store.schema.tables import attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the calls of a UTC day, a model and a tier came to."""

    day: date
    model: str  #: that answered
    tier: str  #: that it was served in, in the vendor's words; "": the standard one
    calls: int
    input_tokens: int  #: as far as they are known
    cached_tokens: int
    output_tokens: int
    cost_usd: Decimal  #: of those whose price is known
    unpriced: int  #: calls whose price is not
    estimated: int  #: calls that were cut, and are counted by our estimate


def spent(conn: Connection, *, provider: str, first: date, last: date) -> Sequence[Spent]:
    """Return what was used from the first day to the last, both included.

    With what those have used whose sessions are gone: their vendor has been paid, too.
    """
    sums: defaultdict[Day, list[Any]] = defaultdict(lambda: [0] * len(SUMS))
    for row in _rows(conn, provider, first, last):
        day = Day(*(row[name] for name in Day._fields))
        sums[day] = [had + row[name] for had, name in zip(sums[day], SUMS, strict=True)]
    return [_spent(day, sums[day]) for day in sorted(sums)]


def _rows(conn: Connection, provider: str, first: date, last: date) -> Iterator[Any]:
    start, end = moments_of(first, last)
    ended = attempts.c.ended_at
    standing = (of_provider == provider, ended >= start, ended <= end)
    yield from conn.execute(spent_by_day(*standing)).mappings()
    gone = spent_gone.c
    days = (gone.provider == provider, gone.day >= first, gone.day <= last)
    yield from conn.execute(select(spent_gone).where(*days)).mappings()


def _spent(day: Day, sums: Sequence[Any]) -> Spent:
    values = dict(zip(SUMS, sums, strict=True))
    cost = Decimal(values.pop("cost_usd"))
    counts = {name: int(value) for name, value in values.items()}
    return Spent(day=day.day, model=day.model, tier=day.tier, cost_usd=cost, **counts)
