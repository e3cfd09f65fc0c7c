"""Pricing anew: calls as they were counted, and prices with all sums that they are in."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Connection, case, func, select, tuple_, union, update

from turnmill.domain.analytics.windows import moments_of
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import FINAL
from turnmill.domain.voice import SPEAK, TRANSCRIBE
from turnmill.store.line.head import lock_sessions
from turnmill.store.rules.figures import mark_slots
from turnmill.store.rules.spending import of_provider
from turnmill.store.schema.rollup_tables import rollup_state, rollups, rollups_gone
from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.types import db_day


class CallPlace(NamedTuple):
    """Where a call stands among all."""

    turn_id: TurnId
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidCall:
    """A call that has used something; of several of one attempt, all together."""

    turn_id: TurnId
    fence: int
    session_id: SessionId
    provider: str
    model: str  #: that answered
    at: datetime  #: when it began
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    cache_write_1h_tokens: int | None
    service_tier: str
    usage: Sequence[Mapping[str, Any]] | None = field(repr=False)  #: as the vendor said it
    cost_usd: Decimal | None
    priced_by: str | None

    @property
    def place(self) -> CallPlace:
        """Return where it stands."""
        return CallPlace(self.turn_id, self.fence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """A call, and what it costs by now."""

    call: PaidCall
    cost_usd: Decimal
    priced_by: str | None


class Repriced(NamedTuple):
    """What was written."""

    changed: Sequence[Priced]  #: the others were changed by somebody else meanwhile
    unadjusted: int  #: of those: so many are in figures of days that are not added up again


_COLUMNS = (
    *("turn_id", "fence", "input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens"),
    *("cache_write_1h_tokens", "usage", "cost_usd", "priced_by"),
)


def paid_calls(
    conn: Connection,
    *,
    first: date,
    last: date,
    provider: str | None,
    after: CallPlace | None,
    limit: int,
) -> Sequence[PaidCall]:
    """Return the next calls that began from the first day to the last, in UTC, by their places."""
    start, end = moments_of(first, last)
    used = func.coalesce(attempts.c.input_tokens + attempts.c.output_tokens, 1) > 0
    place = tuple_(attempts.c.turn_id, attempts.c.fence)
    query = (
        select(
            *(attempts.c[name] for name in _COLUMNS),
            sessions.c.id.label("session_id"),
            of_provider.label("provider"),
            func.coalesce(attempts.c.model, sessions.c.model).label("model"),
            attempts.c.started_at.label("at"),
            func.coalesce(attempts.c.service_tier, "").label("service_tier"),
        )
        .join(turns, turns.c.id == attempts.c.turn_id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(attempts.c.started_at >= start, attempts.c.started_at <= end)
        # What was heard, or spoken, is paid for by what tokens do not tell.
        .where(attempts.c.ended_at.is_not(None), used, attempts.c.kind.not_in((TRANSCRIBE, SPEAK)))
        .order_by(attempts.c.turn_id, attempts.c.fence)
        .limit(limit)
    )
    if provider is not None:
        query = query.where(of_provider == provider)
    if after is not None:
        types = (attempts.c.turn_id.type, attempts.c.fence.type)
        query = query.where(place > tuple_(*after, types=types))
    return [PaidCall(**row._mapping) for row in conn.execute(query)]


def put_prices(conn: Connection, priced: Sequence[Priced]) -> Repriced:
    """Write prices down, bring the sums of turns and sessions along, and mark their slots.

    In the caller's transaction. A call whose cost is not what it was when it was read is left.
    """
    lock_sessions(conn, sorted({one.call.session_id for one in priced}))
    changed = [one for one in priced if _put(conn, one)]
    turn_ids = list({one.call.turn_id for one in changed})
    whole = (
        select(func.sum(attempts.c.cost_usd))
        .where(attempts.c.turn_id == turns.c.id)
        .scalar_subquery()
    )
    conn.execute(update(turns).where(turns.c.id.in_(turn_ids)).values(cost_usd=whole))
    for session_id, (more, known) in _by_session(changed).items():
        conn.execute(
            update(sessions)
            .where(sessions.c.id == session_id)
            .values(
                cost_usd=sessions.c.cost_usd + more,
                unpriced_attempts=_less(sessions.c.unpriced_attempts, known),
            )
        )
    mark_slots(conn, turns.c.id.in_(turn_ids))
    return Repriced(changed, _unreached(conn, changed))


def _put(conn: Connection, one: Priced) -> bool:
    call = one.call
    found = conn.execute(
        update(attempts)
        .where(
            attempts.c.turn_id == call.turn_id,
            attempts.c.fence == call.fence,
            attempts.c.cost_usd.is_not_distinct_from(call.cost_usd),
            attempts.c.input_tokens.is_not_distinct_from(call.input_tokens),
        )
        .values(cost_usd=one.cost_usd, priced_by=one.priced_by)
    )
    return found.rowcount == 1


def _by_session(changed: Sequence[Priced]) -> Mapping[SessionId, tuple[Decimal, int]]:
    """Return by how much costs grow, and how many of each are known now that were not."""
    more: defaultdict[SessionId, tuple[Decimal, int]] = defaultdict(lambda: (Decimal(0), 0))
    for one in changed:
        cost, known = more[one.call.session_id]
        more[one.call.session_id] = (cost + _growth(one), known + _is_new(one))
    return more


def _growth(one: Priced) -> Decimal:
    return one.cost_usd - (one.call.cost_usd or Decimal(0))


def _is_new(one: Priced) -> int:
    return int(one.call.cost_usd is None)


def _less(column: Any, known: int) -> Any:
    """Return the count without those that are known now."""
    return case((column >= known, column - known), else_=0)


def _unreached(conn: Connection, changed: Sequence[Priced]) -> int:
    """Return how many calls are of turns that ended before there were slots: days alone stand."""
    first = conn.scalar(select(rollup_state.c.first_slot))
    if first is None:
        return 0
    ids = [one.call.turn_id for one in changed]
    earlier = (turns.c.id.in_(ids), turns.c.state.in_(FINAL), turns.c.finished_at < first)
    early = set(conn.scalars(select(turns.c.id).where(*earlier)))
    return sum(one in early for one in ids)


def days_unreached(conn: Connection, *, first: date, last: date) -> Sequence[date]:
    """Return the UTC days of these that have figures of calls whose rows are gone: they stay."""
    start, end = moments_of(first, last)
    within = (rollups_gone.c.slot >= start, rollups_gone.c.slot <= end)
    days = select(db_day(rollups_gone.c.slot).label("day")).where(
        *within, rollups_gone.c.attempts > 0
    )
    before = select(db_day(rollups.c.slot)).where(
        rollups.c.slot >= start,
        rollups.c.slot <= end,
        rollups.c.attempts > 0,
        rollups.c.slot < select(rollup_state.c.first_slot).scalar_subquery(),
    )
    return sorted(conn.scalars(union(days, before)))
