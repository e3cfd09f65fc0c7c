"""Usage per day, provider and model of who was asked: rolled up, and reported."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select

from turnmill.store.rules.figures import FIGURES, added_up, lines_gone, lines_of
from turnmill.store.schema.erasure_tables import usage_gone
from turnmill.store.schema.tables import turns
from turnmill.store.schema.usage_tables import usage_daily
from turnmill.store.types import Timestamp, db_now, lock_table

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What the turns that ended on a UTC day came to; with all their attempts, whenever made."""

    day: date | None  #: None: of all days together
    provider: str
    model: str  #: as it was asked for, by the session or its fallback
    turns: int
    succeeded: int
    failed: int
    dead: int
    cancelled: int
    expired: int
    attempts: int
    retries: int  #: calls beyond the first one of each turn
    input_tokens: int  #: as far as they are known
    output_tokens: int
    cached_tokens: int  #: of the input, read from the vendor's cache
    cost_usd: Decimal  #: of all priced attempts
    unpriced_attempts: int  #: used tokens of a model that has no known price

    @property
    def cached_share(self) -> float | None:
        """Return how much of the input was read from a cache, from 0 to 1; None for no input."""
        return self.cached_tokens / self.input_tokens if self.input_tokens else None


def roll_up(conn: Connection, day: date) -> int:
    """Write the figures of one UTC day anew, and return how many lines they make.

    Exact when run twice, when a turn of that day was settled after the last run, and when its
    session has been removed since. Two runs at once take turns.
    """
    conn.execute(lock_table(usage_daily))
    conn.execute(delete(usage_daily).where(usage_daily.c.day == day))
    columns = ["day", "provider", "model", *FIGURES, "rolled_up_at"]
    statement = insert(usage_daily).from_select(columns, _figures_of(day))
    return len(conn.execute(statement.returning(usage_daily.c.model)).all())


def report(conn: Connection, *, first: date, last: date, by_day: bool = True) -> list[UsageRow]:
    """Return the figures of these days, both included: newest day first, then dearest first."""
    columns: list[Any] = [usage_daily.c.provider, usage_daily.c.model]
    if by_day:
        columns.insert(0, usage_daily.c.day)
    sums = [func.sum(usage_daily.c[name]).label(name) for name in FIGURES]
    rows = conn.execute(
        select(*columns, *sums)
        .where(usage_daily.c.day.between(first, last))
        .group_by(*columns)
        .order_by(
            *([usage_daily.c.day.desc()] if by_day else []),
            func.sum(usage_daily.c.cost_usd).desc(),
            usage_daily.c.provider,
            usage_daily.c.model,
        )
    )
    return [_usage(row._mapping) for row in rows]


def rolled_up_at(conn: Connection, *, first: date, last: date) -> datetime | None:
    """Return when the figures of these days were last written, or None when there are none."""
    newest = func.max(usage_daily.c.rolled_up_at, type_=Timestamp)
    found: datetime | None = conn.scalar(
        select(newest).where(usage_daily.c.day.between(first, last))
    )
    return found


def days_until(last: date, *, days: int) -> Sequence[date]:
    """Return `days` days, `last` being the last one."""
    return [last - timedelta(days=back) for back in range(days - 1, -1, -1)]


def _figures_of(day: date) -> Select[Any]:
    """Select one line for each provider and model that was asked in a turn of the day."""
    start = datetime.combine(day, time.min, tzinfo=UTC)
    of_rows = lines_of(turns.c.finished_at >= start, turns.c.finished_at < start + _DAY)
    return added_up(of_rows, lines_gone(usage_gone.c.day == day)).add_columns(db_now())


def _usage(row: Any) -> UsageRow:
    figures = {name: int(row[name]) for name in FIGURES if name != "cost_usd"}
    return UsageRow(
        day=row.get("day"),
        provider=row["provider"],
        model=row["model"],
        cost_usd=Decimal(row["cost_usd"]),
        **figures,
    )
