"""What calls have used and cost, by the day on which they ended, as vendors put them on a bill."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    func,
    insert,
    literal_column,
    select,
)

from turnmill.new_ids import new_id
from turnmill.store.rules.used import has_used
from turnmill.store.schema.rollup_tables import spent_gone
from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.types import db_day, db_now

#: Who was asked. Of calls before it was kept that is who the session asks by now.
of_provider = func.coalesce(attempts.c.provider, sessions.c.provider)
#: What the calls of a day, a model and a tier come to; it adds up.
SUMS = (
    *("calls", "input_tokens", "cached_tokens", "output_tokens"),
    *("cost_usd", "unpriced", "estimated"),
)
_TOKENS = ("input_tokens", "cached_tokens", "output_tokens")


class Day(NamedTuple):
    """What sums are told apart by."""

    day: date
    provider: str
    model: str
    tier: str


def spent_by_day(*which: ColumnElement[bool]) -> Select[Any]:
    """Select what these calls came to, by day, provider, model that answered, and tier.

    One that has not ended is one of today, as far as something of it was booked already.
    """
    day = db_day(func.coalesce(attempts.c.ended_at, db_now()))
    model = func.coalesce(attempts.c.model, sessions.c.model)
    tier = func.coalesce(attempts.c.service_tier, literal_column("''"))
    return (
        select(
            *(day.label("day"), of_provider.label("provider")),
            *(model.label("model"), tier.label("tier")),
            func.count().label("calls"),
            *(_known(attempts.c[name]) for name in _TOKENS),
            func.coalesce(func.sum(attempts.c.cost_usd), 0).label("cost_usd"),
            func.count().filter(attempts.c.cost_usd.is_(None)).label("unpriced"),
            func.count().filter(attempts.c.estimated).label("estimated"),
        )
        .join(turns, turns.c.id == attempts.c.turn_id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(has_used(attempts.c), *which)
        .group_by(day, of_provider, model, tier)
    )


def keep_spent(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write down what was spent by those whose rows are gone."""
    if rows:
        conn.execute(insert(spent_gone), [{"id": new_id(), **row} for row in rows])


def row_of(day: Day, sums: Sequence[int | Decimal]) -> dict[str, Any]:
    """Return it as it is kept."""
    return {**day._asdict(), **dict(zip(SUMS, sums, strict=True))}


def _known(column: Any) -> Any:
    return func.coalesce(func.sum(column), 0).label(column.name)
