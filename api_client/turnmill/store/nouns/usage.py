"""Usage per day, provider and model of who was asked: rolled up, and reported."""

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
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    union_all,
)
from sqlalchemy import Date as DateType

from turnmill.domain.states import FINAL, TurnState
from turnmill.store.nouns.answering import is_scripted
from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.schema.usage_tables import usage_daily
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
    """Select one line for each provider and model that was asked in a turn of the day.

    A turn is counted where it was answered, else with its session's own; what an attempt took is,
    where that attempt was made.
    """
    ended = _ended_on(day)
    made = _made_in(ended)
    lines = union_all(_of_attempts(made), _of_turns(ended, made)).subquery("lines")
    return select(
        literal(day, DateType).label("day"),
        lines.c.provider,
        lines.c.model,
        *(_bounded_sum(lines.c[name]) for name in _FIGURES),
        db_now(),
    ).group_by(lines.c.provider, lines.c.model)


def _ended_on(day: date) -> Any:
    start = datetime.combine(day, time.min, tzinfo=UTC)
    return (
        select(turns.c.id, turns.c.state, sessions.c.provider, sessions.c.model)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(
            turns.c.finished_at >= start,
            turns.c.finished_at < start + timedelta(days=1),
            turns.c.state.in_(FINAL),
            ~is_scripted(),
        )
        .cte("ended")
    )


def _made_in(ended: Any) -> Any:
    """Select the attempts of these turns, and who was asked; an older one does not say who."""
    sent = and_(attempts.c.kind == "send", attempts.c.outcome.not_in(_NO_TRY))
    sent_so_far = func.sum(_one_if(sent)).over(
        partition_by=attempts.c.turn_id, order_by=attempts.c.fence, rows=(None, 0)
    )
    back = func.row_number().over(partition_by=attempts.c.turn_id, order_by=attempts.c.fence.desc())
    return (
        select(
            attempts,
            func.coalesce(attempts.c.provider, ended.c.provider).label("asked"),
            func.coalesce(attempts.c.asked_model, ended.c.model).label("asked_for"),
            and_(sent, sent_so_far > 1).label("is_retry"),
            back.label("back"),
        )
        .join(ended, ended.c.id == attempts.c.turn_id)
        .cte("made")
    )


def _of_attempts(made: Any) -> Select[Any]:
    """Select what each attempt has used."""
    # One that used nothing has no price to be known; of an unknown number it is not known.
    unpriced = made.c.cost_usd.is_(None) & (
        func.coalesce(made.c.input_tokens + made.c.output_tokens, 1) > 0
    )
    said = {
        "attempts": literal(1),
        "retries": _one_if(made.c.is_retry),
        **{name: made.c[name] for name in ("input_tokens", "output_tokens", "cached_tokens")},
        "cost_usd": made.c.cost_usd,
        "unpriced_attempts": _one_if(unpriced),
    }
    figures = [said.get(name, literal(0)).label(name) for name in _FIGURES]
    return select(made.c.asked.label("provider"), made.c.asked_for.label("model"), *figures)


def _of_turns(ended: Any, made: Any) -> Select[Any]:
    """Select what each turn has come to, and where it was answered."""
    answered = ended.c.state == TurnState.SUCCEEDED
    last = and_(made.c.turn_id == ended.c.id, made.c.back == 1, answered)
    states = (
        TurnState.SUCCEEDED,
        TurnState.FAILED,
        TurnState.DEAD,
        TurnState.CANCELLED,
        TurnState.EXPIRED,
    )
    said: dict[str, Any] = {"turns": literal(1), "cost_usd": null()}
    said |= {state.value: _one_if(ended.c.state == state) for state in states}
    figures = [said.get(name, literal(0)).label(name) for name in _FIGURES]
    return select(
        func.coalesce(made.c.asked, ended.c.provider),
        func.coalesce(made.c.asked_for, ended.c.model),
        *figures,
    ).join_from(ended, made, last, isouter=True)


def _one_if(condition: Any) -> Any:
    return case((condition, 1), else_=0)


def _bounded_sum(column: Any) -> Any:
    """Return the sum as far as the table can hold it: one absurd row must not stop the figures."""
    total = func.coalesce(func.sum(column), 0)
    is_money = column.name == "cost_usd"
    most = literal(_MOST_DOLLARS, Numeric(20, 10)) if is_money else literal(_MOST, BigInteger)
    return case((total > most, most), else_=total)


def _usage(row: Any) -> UsageRow:
    figures = {name: int(row[name]) for name in _FIGURES if name != "cost_usd"}
    return UsageRow(
        day=row.get("day"),
        provider=row["provider"],
        model=row["model"],
        cost_usd=Decimal(row["cost_usd"]),
        **figures,
    )
