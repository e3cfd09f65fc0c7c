"""What was spent today and this month: rolled-up days as they stand, and what is newer anew."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection

from turnmill import wire
from turnmill.store.nouns.usage import figures_of, report
from turnmill.store.schema_name import execute

#: Pairs of provider and model that are told apart, the dearest first.
MOST_MODELS = 50

# A run writes the day of its slot and the day before, so all days before that one are whole.
_ROLLED_UP = """
SELECT max(slot) FROM turnmill.job_runs WHERE name = %(name)s AND finished_at IS NOT NULL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What turns of one provider and model came to; as `turnmill analytics report` counts them."""

    provider: str
    model: str
    today_usd: Decimal
    month_usd: Decimal
    today_turns: int
    month_turns: int
    unpriced: int  #: attempts of the month whose price is not known


@dataclass(slots=True)
class _Sums:
    today_usd: Decimal = Decimal(0)
    month_usd: Decimal = Decimal(0)
    today_turns: int = 0
    month_turns: int = 0
    unpriced: int = 0

    def add(self, *, turns: int, usd: Decimal, unpriced: int, is_today: bool) -> None:
        self.month_turns += turns
        self.month_usd += usd
        self.unpriced += unpriced
        if is_today:
            self.today_turns += turns
            self.today_usd += usd


def spent(conn: Connection, *, now: datetime) -> list[Spent]:
    """Return what was spent in the UTC day and month of `now`, the dearest first."""
    today = now.astimezone(UTC).date()
    sums: dict[tuple[str, str], _Sums] = defaultdict(_Sums)
    anew = _not_rolled_up(conn, today)
    first = today.replace(day=1)
    if anew > first:
        for row in report(conn, first=first, last=anew - timedelta(days=1), by_day=False):
            sums[row.provider, row.model].add(
                turns=row.turns, usd=row.cost_usd, unpriced=row.unpriced_attempts, is_today=False
            )
    for day in _days(max(anew, first), today):
        for line in conn.execute(figures_of(day)).mappings():
            sums[line["provider"], line["model"]].add(
                turns=int(line["turns"]),
                usd=Decimal(line["cost_usd"]),
                unpriced=int(line["unpriced_attempts"]),
                is_today=day == today,
            )
    found = [
        Spent(
            provider=provider,
            model=model,
            today_usd=one.today_usd,
            month_usd=one.month_usd,
            today_turns=one.today_turns,
            month_turns=one.month_turns,
            unpriced=one.unpriced,
        )
        for (provider, model), one in sums.items()
    ]
    return sorted(found, key=lambda one: (-one.month_usd, one.provider, one.model))


def _not_rolled_up(conn: Connection, today: date) -> date:
    """Return the first day whose figures may still be other than those that stand."""
    slot = execute(conn, _ROLLED_UP, {"name": wire.ROLL_UP_USAGE}).scalar()
    return today.replace(day=1) if slot is None else min(slot.astimezone(UTC).date(), today)


def _days(first: date, last: date) -> Iterator[date]:
    for back in range((last - first).days, -1, -1):
        yield last - timedelta(days=back)
