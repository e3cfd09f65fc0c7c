"""What rules of suggestions go by: figures of turns, one statement for each kind."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Subquery, and_, case, func, select

from turnmill.domain.analytics.suggesting.failures import CallHour
from turnmill.domain.analytics.suggesting.histories import (
    CACHE_SECONDS,
    CACHED_FROM,
    LONG,
    CacheUse,
    GrowthUse,
)
from turnmill.domain.analytics.suggesting.lengths import LengthUse
from turnmill.domain.analytics.suggesting.models import ModelUse
from turnmill.domain.analytics.suggesting.waiting import (
    CHEAP_TIERS,
    LATE_SECONDS,
    HastyWork,
    QueueHour,
)
from turnmill.domain.replying import FinishReason
from turnmill.domain.states import Lane, TurnState
from turnmill.store.analytics.ended_turns import (
    Scope,
    as_float,
    by_own_model,
    count_if,
    ended,
    followed,
    goes_on,
    hour_from,
    joined,
    limit_of_replies,
    number_of,
    sum_if,
)
from turnmill.store.schema.compaction_tables import compactions
from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.types import hour_of, seconds_between

_ANSWERED = turns.c.state == TurnState.SUCCEEDED
_LOST = turns.c.state.in_([TurnState.FAILED, TurnState.DEAD])
_CUT = turns.c.finish_reason == FinishReason.LENGTH
#: Attempts that were a call, and came to nothing.
_FAILED_CALLS = ("retrying", "failed", "dead", "unanswered")
_NO_CALLS = ("released", "not_now", "called")
_BRIM = 15

Prices = dict[tuple[str, str], float]


def model_uses(
    conn: Connection, scope: Scope, *, tasks: Sequence[str] | None = None
) -> list[ModelUse]:
    """Return what each task came to with each model; of these tasks alone, where some are named."""
    if tasks is not None and not tasks:
        return []
    known = and_(
        _ANSWERED,
        turns.c.cost_usd.is_not(None),
        turns.c.input_tokens.is_not(None),
        turns.c.output_tokens.is_not(None),
    )
    cost, said, told = (
        as_float(turns.c[name]) for name in ("cost_usd", "input_tokens", "output_tokens")
    )
    key = (func.coalesce(sessions.c.template, ""), sessions.c.provider, sessions.c.model)
    query = joined(
        key[0].label("task"),
        *key[1:],
        count_if(known).label("turns"),
        count_if(_LOST | (_ANSWERED & _CUT)).label("bad"),
        count_if(_LOST | _ANSWERED).label("ended"),
        sum_if(known, cost).label("cost_usd"),
        sum_if(known, cost * cost).label("cost_squares"),
        sum_if(known, said).label("input_tokens"),
        sum_if(known, told).label("output_tokens"),
        sum_if(known, said * said).label("input_squares"),
        sum_if(known, told * told).label("output_squares"),
        sum_if(known, said * told).label("input_by_output"),
        sum_if(known, said * cost).label("input_by_cost"),
        sum_if(known, told * cost).label("output_by_cost"),
    ).where(ended(scope), by_own_model())
    if tasks is not None:
        query = query.where(sessions.c.template.in_(tasks))
    return [ModelUse(**row._mapping) for row in conn.execute(query.group_by(*key))]


def prices_of(uses: Sequence[ModelUse]) -> Prices:
    """Return what a token of input costs, by provider and model, as turns have paid for it."""
    largest: dict[tuple[str, str], ModelUse] = {}
    for one in uses:
        place = (one.provider, one.model)
        if one.turns and (place not in largest or one.turns > largest[place].turns):
            largest[place] = one
    return {place: one.prices()[0] for place, one in largest.items()}


def length_uses(conn: Connection, scope: Scope) -> list[LengthUse]:
    """Return how long the replies of each model were under each limit."""
    key = (sessions.c.provider, sessions.c.model, limit_of_replies().label("said"))
    whole = case((~_CUT, turns.c.output_tokens))
    query = joined(
        *key,
        func.count().label("turns"),
        count_if(_CUT).label("cut"),
        func.coalesce(func.max(whole), 0).label("longest"),
        sum_if(turns.c.cost_usd.is_not(None), turns.c.cost_usd).label("cost_usd"),
    ).where(ended(scope), by_own_model(), _ANSWERED, turns.c.output_tokens.is_not(None))
    return [
        LengthUse(
            provider=row.provider,
            model=row.model,
            limit=number_of(row.said),
            turns=row.turns,
            cut=row.cut,
            longest=int(row.longest),
            cost_usd=row.cost_usd,
        )
        for row in conn.execute(query.group_by(*key))
    ]


def call_hours(conn: Connection, scope: Scope) -> list[CallHour]:
    """Return what calls to each target came to, hour by hour."""
    provider = func.coalesce(attempts.c.provider, sessions.c.provider)
    model = func.coalesce(attempts.c.asked_model, sessions.c.model)
    failed = attempts.c.outcome.in_(_FAILED_CALLS)
    code = case((failed, func.coalesce(attempts.c.error_code, "unknown")), else_="")
    key = (provider, model, hour_of(attempts.c.ended_at), code)
    query = (
        joined(
            provider.label("provider"),
            model.label("model"),
            key[2].label("hour"),
            code.label("code"),
            func.count().label("calls"),
            count_if(failed).label("failed"),
            sum_if(failed & attempts.c.cost_usd.is_not(None), attempts.c.cost_usd).label("usd"),
        )
        .join(attempts, attempts.c.turn_id == turns.c.id)
        .where(ended(scope), attempts.c.kind == "send", attempts.c.outcome.not_in(_NO_CALLS))
    )
    found: defaultdict[tuple[str, str, str], list[Any]] = defaultdict(list)
    for row in conn.execute(query.group_by(*key)):
        found[row.provider, row.model, row.hour].append(row)
    hours = [_hour(*place, rows) for place, rows in sorted(found.items())]
    return [one for one in hours if scope.looks_at(one.hour)]


def _hour(provider: str, model: str, hour: str, rows: Sequence[Any]) -> CallHour:
    return CallHour(
        provider=provider,
        model=model,
        hour=hour_from(hour),
        calls=sum(row.calls for row in rows),
        failed=sum(row.failed for row in rows),
        wasted_usd=sum(row.usd for row in rows),
        codes={row.code: row.failed for row in rows if row.failed},
    )


def cache_uses(conn: Connection, scope: Scope, prices: Prices) -> list[CacheUse]:
    """Return what turns that could read from their vendor's cache have read."""
    row = followed(scope).c
    said = as_float(row.input_tokens)
    before = as_float(row.input_tokens_before) + as_float(row.output_tokens_before)
    repeated = case((before < said, before), else_=said)
    key = (row.provider, row.model, row.prompt_cache)
    query = select(
        *key,
        func.count().label("turns"),
        count_if(row.cached_tokens > 0).label("cached"),
        func.coalesce(func.sum(repeated), 0.0).label("repeated"),
    ).where(
        goes_on(row),
        row.state == TurnState.SUCCEEDED,
        row.input_tokens >= CACHED_FROM,
        row.input_tokens_before >= CACHED_FROM,
        row.cached_tokens.is_not(None),
        seconds_between(row.started_at, row.finished_at_before) <= CACHE_SECONDS,
    )
    return [
        CacheUse(
            provider=one.provider,
            model=one.model,
            setting=one.prompt_cache,
            turns=one.turns,
            cached=one.cached,
            repeated_tokens=one.repeated,
            usd_a_token=prices.get((one.provider, one.model)),
        )
        for one in conn.execute(query.group_by(*key))
    ]


def growth_uses(conn: Connection, scope: Scope, prices: Prices) -> list[GrowthUse]:
    """Return how the input of long conversations grows that nothing is left out of."""
    one = _growing(scope).c
    is_long = and_(one.late > 0, one.brim > 0)
    # Of rows that are not long the quotient is not looked at, and must be one all the same.
    times = (one.late_tokens / func.nullif(one.late, 0)) / (
        one.early_tokens / func.nullif(one.early, 0)
    )
    query = select(
        one.provider,
        one.model,
        count_if(is_long).label("sessions"),
        sum_if(is_long, times).label("ratios"),
        sum_if(is_long, times * times).label("ratio_squares"),
        func.sum(case((is_long, one.late), else_=0)).label("late_turns"),
        sum_if(is_long, one.late_tokens).label("late_tokens"),
        sum_if(is_long, one.brim_tokens).label("brim_tokens"),
        func.sum(case((is_long, one.brim), else_=0)).label("brim"),
        func.sum(one.tokens).label("all_tokens"),
    ).group_by(one.provider, one.model)
    return [_growth_use(row, prices) for row in conn.execute(query)]


def _growing(scope: Scope) -> Subquery:
    """Return sessions that nothing is left out of, with their first turns, their last, and brim."""
    late, early = turns.c.seq > LONG, turns.c.seq <= LONG
    brim = early & (turns.c.seq > _BRIM)
    left_out = select(compactions.c.n).where(compactions.c.session_id == turns.c.session_id)
    return (
        joined(
            turns.c.session_id,
            sessions.c.provider,
            sessions.c.model,
            func.sum(as_float(turns.c.input_tokens)).label("tokens"),
            count_if(late).label("late"),
            sum_if(late, turns.c.input_tokens).label("late_tokens"),
            count_if(early).label("early"),
            sum_if(early, turns.c.input_tokens).label("early_tokens"),
            count_if(brim).label("brim"),
            sum_if(brim, turns.c.input_tokens).label("brim_tokens"),
        )
        .where(ended(scope), by_own_model(), turns.c.input_tokens > 0, ~left_out.exists())
        .group_by(turns.c.session_id, sessions.c.provider, sessions.c.model)
        .subquery("one")
    )


def _growth_use(row: Row[*tuple[Any, ...]], prices: Prices) -> GrowthUse:
    return GrowthUse(
        provider=row.provider,
        model=row.model,
        sessions=row.sessions,
        ratios=row.ratios,
        ratio_squares=row.ratio_squares,
        late_turns=int(row.late_turns),
        late_tokens=row.late_tokens,
        brim_tokens=row.brim_tokens / int(row.brim) if row.brim else 0.0,
        all_tokens=row.all_tokens,
        usd_a_token=prices.get((row.provider, row.model)),
    )


def hasty_works(conn: Connection, scope: Scope) -> list[HastyWork]:
    """Return what turns of the bulk lane have cost that were asked one by one, in no hurry."""
    provider = func.coalesce(attempts.c.provider, sessions.c.provider)
    model = func.coalesce(attempts.c.asked_model, sessions.c.model)
    hasty = and_(
        turns.c.lane == Lane.BULK,
        attempts.c.kind == "send",
        func.coalesce(attempts.c.service_tier, "").not_in(CHEAP_TIERS),
    )
    priced = attempts.c.cost_usd.is_not(None)
    query = (
        joined(
            provider.label("provider"),
            model.label("model"),
            count_if(hasty).label("turns"),
            sum_if(hasty & priced, attempts.c.cost_usd).label("cost_usd"),
            sum_if(priced, attempts.c.cost_usd).label("all_usd"),
        )
        .join(attempts, attempts.c.turn_id == turns.c.id)
        .where(ended(scope))
        .group_by(provider, model)
    )
    rows = conn.execute(query).all()
    total = sum(row.all_usd for row in rows)
    return [
        HastyWork(
            provider=row.provider,
            model=row.model,
            turns=row.turns,
            cost_usd=row.cost_usd,
            all_usd=total,
        )
        for row in rows
    ]


def queue_hours(conn: Connection, scope: Scope) -> list[QueueHour]:
    """Return how long interactive turns have waited for a slot, once they were ready, by the hour.

    First attempts alone: what a vendor or a limit puts off waits for that.
    """
    row = followed(scope).c
    later = and_(row.finished_at_before.is_not(None), row.finished_at_before > row.created_at)
    ready = case((later, row.finished_at_before), else_=row.created_at)
    waited = seconds_between(row.started_at, ready)
    hour = hour_of(row.created_at)
    query = select(
        hour.label("hour"),
        func.count().label("turns"),
        count_if(waited >= LATE_SECONDS).label("late"),
        sum_if(waited > 0, waited).label("waited"),
        func.coalesce(func.sum(seconds_between(row.finished_at, row.started_at)), 0.0).label(
            "worked"
        ),
    ).where(
        row.lane == Lane.INTERACTIVE,
        row.started_at.is_not(None),
        row.attempt <= 1,
        row.put_off == 0,
        seconds_between(row.available_at, row.created_at) < 1,
    )
    return [
        QueueHour(
            hour=hour_from(one.hour),
            turns=one.turns,
            late=one.late,
            waited=one.waited,
            worked=one.worked,
        )
        for one in conn.execute(query.group_by(hour).order_by(hour))
        if scope.looks_at(hour_from(one.hour))
    ]
