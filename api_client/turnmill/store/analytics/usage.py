"""Usage per UTC day, provider and model of who was asked: read from the figures of slots."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from sqlalchemy import Connection, select

from turnmill.domain.analytics.windows import Window
from turnmill.store.analytics.figures import Dimension, Totals, totals
from turnmill.store.analytics.folding import fold
from turnmill.store.nouns.event_log import give_places
from turnmill.store.schema.rollup_tables import rollup_state

_DAY = timedelta(days=1)
#: Transactions of upkeep are short; who folds by the way does so much at most.
_ROUNDS = 200


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


def roll_up(conn: Connection) -> int:
    """Bring figures along with what has happened; return how many events, and slots, these were.

    In the caller's transaction: upkeep does the same in many short ones.
    """
    done = 0
    for _ in range(_ROUNDS):
        placed = give_places(conn)
        folded = fold(conn)
        if not placed and not folded:
            break
        done += folded
    return done


def report(conn: Connection, *, first: date, last: date, by_day: bool = True) -> list[UsageRow]:
    """Return the figures of these days, both included: newest day first, then dearest first."""
    window = Window(_midnight(first), _midnight(last + _DAY))
    by = (Dimension.PROVIDER, Dimension.MODEL)
    lines = totals(conn, window, by=(Dimension.DAY, *by) if by_day else by)
    rows = [_usage(line) for line in lines]
    return sorted(rows, key=_newest_and_dearest_first)


def rolled_up_at(conn: Connection) -> datetime | None:
    """Return when the figures were last brought along, or None when they never were."""
    found: datetime | None = conn.scalar(select(rollup_state.c.folded_at))
    return found


def _newest_and_dearest_first(row: UsageRow) -> tuple[int, Decimal, str, str]:
    newest = 0 if row.day is None else -row.day.toordinal()
    return newest, -row.cost_usd, row.provider, row.model


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def _usage(line: Totals) -> UsageRow:
    begun = line.by.get(Dimension.DAY)
    said = {name: getattr(line, name) for name in UsageRow.__dataclass_fields__ if name in _SAID}
    return UsageRow(
        day=begun.date() if isinstance(begun, datetime) else None,
        provider=str(line.by[Dimension.PROVIDER]),
        model=str(line.by[Dimension.MODEL]),
        **said,
    )


_SAID = frozenset(Totals.__dataclass_fields__)
