"""Usage per day, provider and model: rolled up from turns and attempts, and reported."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Numeric,
    Select,
    case,
    delete,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy import Date as DateType

from turnmill.domain.states import FINAL, TurnState
from turnmill.store.schema.tables import attempts, sessions, turns, usage_daily
from turnmill.store.types import Timestamp, db_now, lock_table

#: Outcomes of a claim that came to no request.
#: Nothing was sent, or its step was finished and the next one is no second try.
_NO_TRY = ("released", "not_now", "called")

#: What columns of the figures hold.
_MOST = 2**63 - 1
_MOST_DOLLARS = Decimal(10) ** 10 - 1

#: What adds up from day to day.
_FIGURES = (
    "turns",
    "succeeded",
    "failed",
    "dead",
    "cancelled",
    "expired",
    "attempts",
    "retries",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cost_usd",
    "unpriced_attempts",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What the turns that ended on a UTC day came to; with all their attempts, whenever made."""

    day: date | None  #: None: of all days together
    provider: str
    model: str  #: as the session asks for it
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

    Exact when run twice, and when a turn of that day was settled after the last run. Two runs at
    once take turns.
    """
    conn.execute(lock_table(usage_daily))
    conn.execute(delete(usage_daily).where(usage_daily.c.day == day))
    columns = ["day", "provider", "model", *_FIGURES, "rolled_up_at"]
    statement = insert(usage_daily).from_select(columns, _figures_of(day))
    return len(conn.execute(statement.returning(usage_daily.c.model)).all())


def report(conn: Connection, *, first: date, last: date, by_day: bool = True) -> list[UsageRow]:
    """Return the figures of these days, both included: newest day first, then dearest first."""
    columns: list[Any] = [usage_daily.c.provider, usage_daily.c.model]
    if by_day:
        columns.insert(0, usage_daily.c.day)
    sums = [func.sum(usage_daily.c[name]).label(name) for name in _FIGURES]
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
    """Select one line for each provider and model that a turn of the day belongs to."""
    start = datetime.combine(day, time.min, tzinfo=UTC)
    ended = (
        select(turns.c.id, turns.c.state, sessions.c.provider, sessions.c.model)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(
            turns.c.finished_at >= start,
            turns.c.finished_at < start + timedelta(days=1),
            turns.c.state.in_(FINAL),
        )
        .cte("ended")
    )
    spent = _spent_on(ended)
    return (
        select(
            literal(day, DateType).label("day"),
            ended.c.provider,
            ended.c.model,
            func.count(),
            *(
                func.count().filter(ended.c.state == state)
                for state in (
                    TurnState.SUCCEEDED,
                    TurnState.FAILED,
                    TurnState.DEAD,
                    TurnState.CANCELLED,
                    TurnState.EXPIRED,
                )
            ),
            *(_bounded_sum(column) for column in list(spent.c)[1:]),
            db_now(),
        )
        .join_from(ended, spent, spent.c.turn_id == ended.c.id, isouter=True)
        .group_by(ended.c.provider, ended.c.model)
    )


def _bounded_sum(column: Any) -> Any:
    """Return the sum as far as the table can hold it: one absurd row must not stop the figures."""
    total = func.coalesce(func.sum(column), 0)
    is_money = column.name == "cost_usd"
    most = literal(_MOST_DOLLARS, Numeric(20, 10)) if is_money else literal(_MOST, BigInteger)
    return case((total > most, most), else_=total)


def _spent_on(ended: Any) -> Any:
    """Sum up the attempts of each turn, in the order of the figures."""
    # One that used nothing has no price to be known; of an unknown number it is not known.
    unpriced = attempts.c.cost_usd.is_(None) & (
        func.coalesce(attempts.c.input_tokens + attempts.c.output_tokens, 1) > 0
    )
    sent = func.count().filter(attempts.c.kind == "send", attempts.c.outcome.not_in(_NO_TRY))
    return (
        select(
            attempts.c.turn_id,
            func.count().label("attempts"),
            case((sent > 1, sent - 1), else_=0).label("retries"),
            func.sum(attempts.c.input_tokens).label("input_tokens"),
            func.sum(attempts.c.output_tokens).label("output_tokens"),
            func.sum(attempts.c.cached_tokens).label("cached_tokens"),
            func.sum(attempts.c.cost_usd).label("cost_usd"),
            func.count().filter(unpriced).label("unpriced_attempts"),
        )
        .join(ended, ended.c.id == attempts.c.turn_id)
        .group_by(attempts.c.turn_id)
        .subquery("spent")
    )


def _usage(row: Any) -> UsageRow:
    figures = {name: int(row[name]) for name in _FIGURES if name != "cost_usd"}
    return UsageRow(
        day=row.get("day"),
        provider=row["provider"],
        model=row["model"],
        cost_usd=Decimal(row["cost_usd"]),
        **figures,
    )
