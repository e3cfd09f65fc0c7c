"""What calls have used and cost, by the day on which they ended, as vendors put them on a bill."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, func, literal_column, select

from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.types import db_day

#: Who was asked. Of calls before it was kept that is who the session asks by now.
of_provider = func.coalesce(attempts.c.provider, sessions.c.provider)


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
    """Return what was used from the first day to the last, both included."""
    start, end = (datetime.combine(day, time.min, tzinfo=UTC) for day in (first, last))
    day = db_day(attempts.c.ended_at)
    model = func.coalesce(attempts.c.model, sessions.c.model)
    tier = func.coalesce(attempts.c.service_tier, literal_column("''"))
    used = func.coalesce(attempts.c.input_tokens + attempts.c.output_tokens, 1) > 0
    rows = conn.execute(
        select(
            *(day.label("day"), model.label("model"), tier.label("tier")),
            func.count().label("calls"),
            *(_known(attempts.c[name]) for name in _TOKENS),
            func.coalesce(func.sum(attempts.c.cost_usd), 0).label("cost_usd"),
            func.count().filter(attempts.c.cost_usd.is_(None)).label("unpriced"),
            func.count().filter(attempts.c.estimated).label("estimated"),
        )
        .join(turns, turns.c.id == attempts.c.turn_id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(of_provider == provider, used)
        .where(attempts.c.ended_at >= start, attempts.c.ended_at < end + timedelta(days=1))
        .group_by(day, model, tier)
        .order_by(day, model, tier)
    )
    return [_spent(row._mapping) for row in rows]


_TOKENS = ("input_tokens", "cached_tokens", "output_tokens")


def _known(column: Any) -> Any:
    return func.coalesce(func.sum(column), 0).label(column.name)


def _spent(row: Any) -> Spent:
    counts = {name: int(row[name]) for name in ("calls", *_TOKENS, "unpriced", "estimated")}
    return Spent(
        day=row["day"],
        model=row["model"],
        tier=row["tier"],
        cost_usd=Decimal(row["cost_usd"]),
        **counts,
    )
