"""What was spent today and this month: rolled-up days as they stand, and what is newer anew."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from sqlalchemy import Connection

from turnmill.domain.states import FINAL
from turnmill.domain.voice import SPEAK, TRANSCRIBE
from turnmill.store.analytics.usage import report
from turnmill.store.rules.used import ANSWERED
from turnmill.store.schema.metadata import sql_list
from turnmill.store.schema_name import execute

#: Pairs of provider and model that are told apart, the dearest first; the rest is one sum.
MOST_MODELS = 50

_ROLLED_UP = "SELECT folded_until FROM turnmill.rollup_state"
# As the roll-up counts them, for all days since then at once: what an attempt used is its own
# provider's and model's, and a turn is counted where it was answered, else with its session's own.
_SINCE = f"""
WITH ended AS MATERIALIZED (
    SELECT t.id, t.state = 'succeeded' AS answered, s.provider, s.model,
        t.finished_at >= %(today)s AS is_today
    FROM turnmill.turns t JOIN turnmill.sessions s ON s.id = t.session_id
    WHERE t.finished_at >= %(since)s AND t.finished_at < %(until)s AND t.state IN {sql_list(FINAL)}
), lines AS (
    SELECT coalesce(a.provider, e.provider) AS provider, coalesce(a.asked_model, e.model) AS model,
        e.is_today, sum(a.cost_usd) AS usd, count(*) FILTER (WHERE a.cost_usd IS NULL
            AND (coalesce(a.input_tokens + a.output_tokens, 1) > 0
                OR a.kind IN ('{TRANSCRIBE}', '{SPEAK}') AND a.outcome IN {sql_list(ANSWERED)})
        ) AS unpriced,
        count(*) FILTER (WHERE e.answered AND a.outcome = 'succeeded') AS turns
    FROM ended e JOIN turnmill.attempts a ON a.turn_id = e.id GROUP BY 1, 2, 3
    UNION ALL
    SELECT provider, model, is_today, NULL, 0, count(*) FROM ended WHERE NOT answered
    GROUP BY 1, 2, 3
)
SELECT provider, model, is_today, sum(turns)::bigint AS turns, coalesce(sum(usd), 0) AS usd,
    sum(unpriced)::bigint AS unpriced
FROM lines GROUP BY 1, 2, 3
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
    unpriced_today: int  #: those of today among them


@dataclass(slots=True)
class _Sums:
    today_usd: Decimal = Decimal(0)
    month_usd: Decimal = Decimal(0)
    today_turns: int = 0
    month_turns: int = 0
    unpriced: int = 0
    unpriced_today: int = 0

    def add(self, *, turns: int, usd: Decimal, unpriced: int, is_today: bool) -> None:
        self.month_turns += turns
        self.month_usd += usd
        self.unpriced += unpriced
        if is_today:
            self.today_turns += turns
            self.today_usd += usd
            self.unpriced_today += unpriced


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
    until = _midnight(today + timedelta(days=1))
    days = {"since": _midnight(max(anew, first)), "today": _midnight(today), "until": until}
    for line in execute(conn, _SINCE, days):
        sums[line.provider, line.model].add(
            turns=line.turns, usd=line.usd, unpriced=line.unpriced, is_today=line.is_today
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
            unpriced_today=one.unpriced_today,
        )
        for (provider, model), one in sums.items()
    ]
    return sorted(found, key=lambda one: (-one.month_usd, one.provider, one.model))


def _not_rolled_up(conn: Connection, today: date) -> date:
    """Return the first day whose figures may still be other than those that stand."""
    until = execute(conn, _ROLLED_UP).scalar()
    return today.replace(day=1) if until is None else min(until.astimezone(UTC).date(), today)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)
