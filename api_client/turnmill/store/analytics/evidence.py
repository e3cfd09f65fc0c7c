"""What rules of suggestions go by: figures of turns, one question for each kind."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Subquery, and_, case, func, select

from turnmill.domain.analytics.suggesting.failures import CallHour
from turnmill.domain.analytics.suggesting.histories import (
    CACHE_SECONDS,
    CACHED_FROM,
    LONG,
    CacheUse,
    GrowthUse,
)
from turnmill.domain.analytics.suggesting.lengths import LengthUse
from turnmill.domain.analytics.suggesting.models import ModelUse, Rated
from turnmill.domain.analytics.suggesting.waiting import (
    CHEAP_TIERS,
    LATE_SECONDS,
    HastyWork,
    QueueHour,
)
from turnmill.domain.reply_limits import LIMITS_OF_REPLIES
from turnmill.domain.replying import FinishReason
from turnmill.domain.states import Lane, TurnState
from turnmill.store.analytics.asking import Question
from turnmill.store.analytics.ended_turns import (
    Scope,
    Seen,
    as_float,
    count_if,
    ended,
    goes_on,
    hour_from,
    joined,
    number_of,
    sum_if,
)
from turnmill.store.schema.compaction_tables import compactions
from turnmill.store.schema.feedback_tables import feedback
from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.types import hour_of, seconds_between

#: Attempts that were a call, and came to nothing.
_FAILED_CALLS = ("retrying", "failed", "dead", "unanswered")
_NO_CALLS = ("released", "not_now", "called")
_BRIM = 15

Prices = dict[tuple[str, str], float]


def _answered(row: Any) -> Any:
    return row.state == TurnState.SUCCEEDED


def _lost(row: Any) -> Any:
    return row.state.in_([TurnState.FAILED, TurnState.DEAD])


def _cut(row: Any) -> Any:
    return row.finish_reason == FinishReason.LENGTH


def model_uses(seen: Seen, *, tasks: Sequence[str] | None = None) -> Question[ModelUse]:
    """Ask what each task came to with each model; of these tasks alone, where some are named."""
    row = seen.own.c
    known = and_(
        _answered(row),
        row.cost_usd.is_not(None),
        row.input_tokens.is_not(None),
        row.output_tokens.is_not(None),
    )
    cost, said, told = (
        as_float(row[name]) for name in ("cost_usd", "input_tokens", "output_tokens")
    )
    key = (func.coalesce(row.template, "").label("task"), row.provider, row.model)
    query = select(
        *key,
        count_if(known).label("turns"),
        count_if(_lost(row) | (_answered(row) & _cut(row))).label("bad"),
        count_if(_lost(row) | _answered(row)).label("ended"),
        sum_if(known, cost).label("cost_usd"),
        sum_if(known, cost * cost).label("cost_squares"),
        sum_if(known, said).label("input_tokens"),
        sum_if(known, told).label("output_tokens"),
        sum_if(known & row.cached_tokens.is_not(None), row.cached_tokens).label("cached_tokens"),
        sum_if(known, said * said).label("input_squares"),
        sum_if(known, told * told).label("output_squares"),
        sum_if(known, said * told).label("input_by_output"),
        sum_if(known, said * cost).label("input_by_cost"),
        sum_if(known, told * cost).label("output_by_cost"),
    )
    if tasks is not None:
        query = query.where(row.template.in_(tasks))
    return Question(query.group_by(*key), lambda line: ModelUse(**line))


def ratings(seen: Seen, *, tasks: Sequence[str] | None = None) -> Question[Rated]:
    """Ask how many of these turns were rated, and disliked: by the words that stand, of each."""
    row = seen.own.c
    key = (func.coalesce(row.template, "").label("task"), row.provider, row.model)
    said = and_(feedback.c.score.is_not(None), feedback.c.updated_at >= row.finished_at)
    words = (
        select(*key, func.avg(feedback.c.score).label("score"))
        .join_from(seen.own, feedback, feedback.c.turn_id == row.id)
        .where(said)
    )
    if tasks is not None:
        words = words.where(row.template.in_(tasks))
    each = words.group_by(*key, row.id).subquery("rated").c
    query = select(
        each.task,
        each.provider,
        each.model,
        func.count().label("rated"),
        count_if(each.score < 0).label("disliked"),
    ).group_by(each.task, each.provider, each.model)
    return Question(query, lambda line: Rated(**line))


def prices_of(uses: Sequence[ModelUse]) -> Prices:
    """Return what a token of input costs, by provider and model, as turns have paid for it."""
    largest: dict[tuple[str, str], ModelUse] = {}
    for one in uses:
        place = (one.provider, one.model)
        if one.turns and (place not in largest or one.turns > largest[place].turns):
            largest[place] = one
    return {place: one.prices()[0] for place, one in largest.items()}


def length_uses(seen: Seen) -> Question[LengthUse]:
    """Ask how long the replies of each model were under each limit."""
    row = seen.own.c
    key = (row.provider, row.model, row.reply_limit, row.limit_name)
    whole = case((~_cut(row), row.output_tokens))
    query = select(
        *key,
        func.count().label("turns"),
        count_if(_cut(row)).label("cut"),
        func.coalesce(func.max(whole), 0).label("longest"),
        func.coalesce(func.max(case((_cut(row), row.output_tokens))), 0).label("longest_cut"),
        sum_if(row.cost_usd.is_not(None), row.cost_usd).label("cost_usd"),
    ).where(_answered(row), row.output_tokens.is_not(None))
    return Question(query.group_by(*key), _length_use)


def _length_use(line: Mapping[str, Any]) -> LengthUse:
    said = {name: line[name] for name in ("provider", "model", "turns", "cut", "cost_usd")}
    return LengthUse(
        **said,
        limit=number_of(line["reply_limit"]),
        setting=line["limit_name"] or LIMITS_OF_REPLIES[0],
        longest=int(line["longest"]),
        longest_cut=int(line["longest_cut"]),
    )


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


def cache_uses(seen: Seen) -> Question[CacheUse]:
    """Ask what turns that could read from their vendor's cache have read."""
    row = seen.followed.c
    said = as_float(row.input_tokens)
    before = as_float(row.input_tokens_before) + as_float(row.output_tokens_before)
    repeated = case((before < said, before), else_=said)
    key = (row.provider, row.model, row.prompt_cache.label("setting"))
    query = select(
        *key,
        func.count().label("turns"),
        count_if(row.cached_tokens > 0).label("cached"),
        as_float(func.coalesce(func.sum(repeated), 0.0)).label("repeated_tokens"),
    ).where(
        goes_on(row),
        _answered(row),
        row.input_tokens >= CACHED_FROM,
        row.input_tokens_before >= CACHED_FROM,
        row.cached_tokens.is_not(None),
        seconds_between(row.started_at, row.finished_at_before) <= CACHE_SECONDS,
    )
    return Question(query.group_by(*key), lambda line: CacheUse(**line, usd_a_token=None))


def growth_uses(seen: Seen) -> Question[GrowthUse]:
    """Ask how the input of long conversations grows that nothing is left out of."""
    one = _growing(seen).c
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
    return Question(query, _growth_use)


def _growing(seen: Seen) -> Subquery:
    """Return sessions that nothing is left out of, with their first turns, their last, and brim."""
    row = seen.own.c
    late, early = row.seq > LONG, row.seq <= LONG
    brim = early & (row.seq > _BRIM)
    left_out = select(compactions.c.n).where(compactions.c.session_id == row.session_id)
    key = (row.session_id, row.provider, row.model)
    return (
        select(
            *key,
            func.sum(as_float(row.input_tokens)).label("tokens"),
            count_if(late).label("late"),
            sum_if(late, row.input_tokens).label("late_tokens"),
            count_if(early).label("early"),
            sum_if(early, row.input_tokens).label("early_tokens"),
            count_if(brim).label("brim"),
            sum_if(brim, row.input_tokens).label("brim_tokens"),
        )
        .where(row.input_tokens > 0, ~left_out.exists())
        .group_by(*key)
        .subquery("one")
    )


def _growth_use(line: Mapping[str, Any]) -> GrowthUse:
    brim = int(line["brim"])
    return GrowthUse(
        **{name: value for name, value in line.items() if name not in _COUNTED},
        late_turns=int(line["late_turns"]),
        brim_tokens=line["brim_tokens"] / brim if brim else 0.0,
        usd_a_token=None,
    )


_COUNTED = ("late_turns", "brim", "brim_tokens")


def hasty_works(seen: Seen) -> Question[HastyWork]:
    """Ask what turns of the bulk lane have cost that were asked one by one, in no hurry."""
    row = seen.all.c
    provider = func.coalesce(attempts.c.provider, row.provider).label("provider")
    model = func.coalesce(attempts.c.asked_model, row.model).label("model")
    tier = func.coalesce(attempts.c.service_tier, "")
    every = select(func.coalesce(func.sum(as_float(row.cost_usd)), 0.0)).scalar_subquery()
    query = (
        select(
            provider,
            model,
            func.count().label("turns"),
            sum_if(attempts.c.cost_usd.is_not(None), attempts.c.cost_usd).label("cost_usd"),
            as_float(every).label("all_usd"),
        )
        .join_from(seen.all, attempts, attempts.c.turn_id == row.id)
        .where(row.lane == Lane.BULK, attempts.c.kind == "send", tier.not_in(CHEAP_TIERS))
        .group_by(provider, model)
    )
    return Question(query, lambda line: HastyWork(**line))


def queue_hours(conn: Connection, scope: Scope) -> list[QueueHour]:
    """Return how long interactive turns have waited for a slot, once they were ready, by the hour.

    First attempts alone: what a vendor or a limit puts off waits for that.
    """
    row = Seen.of(scope).followed.c
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
