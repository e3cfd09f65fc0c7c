"""What alerts are judged by: figures of the last weeks, lines as they stand, budgets, accounts."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, select

from turnmill.domain.analytics.alert_bounds import AlertBounds, Rule
from turnmill.domain.analytics.alert_moves import Key
from turnmill.domain.analytics.alerting import (
    CACHE_DAYS,
    Budgeted,
    Held,
    Judged,
    RuleVerdict,
    even_profile,
    judge_account,
    judge_budget,
    judge_cache,
    judge_cost,
    judge_failures,
    judge_queue,
)
from turnmill.domain.analytics.usual import HOUR, WEEK, WEEKS, Series, hours_of_week
from turnmill.domain.analytics.windows import Window, slot_of
from turnmill.domain.budgets import Period, Scope
from turnmill.domain.states import Lane
from turnmill.store.analytics.alerts import open_alerts
from turnmill.store.analytics.figures import (
    Dimension,
    Totals,
    begins,
    folded_until,
    slots_of,
    totals,
)
from turnmill.store.line.pauses import read_pauses
from turnmill.store.nouns.closed_long import ClosedFor, closed_for
from turnmill.store.nouns.lanes import loads
from turnmill.store.schema.budget_tables import budgets
from turnmill.store.types import db_now

#: Models that are looked at, and budgets: the busiest, and those that are most used up. Those with
#: an open alert beside them: what others have overtaken is not well because of that.
_MOST_SUBJECTS = 100
_PERIODIC = (Period.DAY.value, Period.WEEK.value, Period.MONTH.value)
_LOOKED_BACK = (WEEKS + 1) * WEEK
#: Figures that are older than that are not judged: upkeep stands still, which doctor says.
_STALE = timedelta(hours=2)

#: Rules that go by figures of the past.
_OF_FIGURES = frozenset({Rule.COST, Rule.FAILURES, Rule.CACHE, Rule.BUDGET})


@dataclass(frozen=True, slots=True)
class _Past:
    """The figures of the last weeks, until the last slot that is whole."""

    until: datetime
    costs: Series


class Looked(NamedTuple):
    """What a look has found."""

    judged: list[Judged]
    blind: frozenset[Rule]  #: of these nothing could be seen: there are no figures by now


def judged(conn: Connection, bounds: AlertBounds) -> Looked:
    """Return what is to be said of everything that is watched. Reads only."""
    now = conn.scalars(select(db_now())).one()
    watched = set(Rule) - bounds.off
    found: list[Judged] = []
    is_open = open_alerts(conn)
    if Rule.QUEUE in watched:
        found += _queues(conn, now, bounds)
    if Rule.ACCOUNT in watched:
        found += _accounts(conn, bounds, is_open)
    past = _past(conn, now) if watched & _OF_FIGURES else None
    if past is None:
        return Looked(found, frozenset(watched & _OF_FIGURES))
    if Rule.COST in watched:
        cost = judge_cost(past.costs, until=past.until, bounds=bounds)
        found += [] if cost is None else [cost]
    if Rule.FAILURES in watched:
        found += _failures(conn, past.until, bounds, is_open)
    if Rule.CACHE in watched:
        found += _caches(conn, past.until, bounds, is_open)
    if Rule.BUDGET in watched:
        found += _budgets(conn, now, past, bounds, is_open)
    return Looked(found, frozenset())


def _past(conn: Connection, now: datetime) -> _Past | None:
    """Return the past, or None where no figures are there that are recent enough."""
    whole = folded_until(conn)
    if whole is None or now - whole > _STALE:
        return None
    until = slot_of(min(whole, now))
    costs = slots_of(conn, Window(until - _LOOKED_BACK, until))
    values = {at: float(one.cost_usd) for at, one in costs.items()}
    first = min(costs, default=until)
    return _Past(until, Series.of(values, since=first, until=until))


def model_of(one: Totals) -> str:
    """Return the subject of a model: its provider and its name."""
    return f"{one.by[Dimension.PROVIDER]}/{one.by[Dimension.MODEL]}"


def _queues(conn: Connection, now: datetime, bounds: AlertBounds) -> Iterator[Judged]:
    """Judge each lane by the turn that has been due in it for the longest; what is paused waits."""
    pauses = read_pauses(conn)
    oldest: dict[Lane, timedelta] = {}
    for load in loads(conn):
        if load.oldest_due_at is None or load.provider in pauses.providers:
            continue
        waited = now - load.oldest_due_at
        oldest[load.lane] = max(waited, oldest.get(load.lane, timedelta(0)))
    for lane in Lane:
        age = None if lane in pauses.lanes else oldest.get(lane)
        yield judge_queue(lane.value, oldest=age, bounds=bounds)


def _watched(rule: Rule, ranked: Sequence[str], is_open: Mapping[Key, Held]) -> list[str]:
    """Return the first subjects, and those further on with an open alert."""
    first, others = ranked[:_MOST_SUBJECTS], ranked[_MOST_SUBJECTS:]
    return [*first, *(one for one in others if (rule, one) in is_open)]


def _held(is_open: Mapping[Key, Held], rule: Rule, subject: str, until: datetime) -> Held | None:
    """Return what an alert that is open is held against; None where none is, or not by now."""
    held = is_open.get((rule, subject))
    return held if held is not None and held.still(until) else None


def _accounts(conn: Connection, bounds: AlertBounds, is_open: Mapping[Key, Held]) -> list[Judged]:
    """Judge what is closed; of several keys of a provider, the one that is worst off."""
    worst: dict[str, Judged] = {}
    for one in closed_for(conn):
        judged_one = judge_account(
            _name_of(one), closed_for=one.lasted, permanent=one.permanent, bounds=bounds
        )
        known = worst.setdefault(judged_one.subject, judged_one)
        worst[judged_one.subject] = max(known, judged_one, key=_badness)
    ranked = sorted(worst, key=lambda name: _badness(worst[name]), reverse=True)
    return [worst[name] for name in _watched(Rule.ACCOUNT, ranked, is_open)]


def _badness(one: Judged) -> tuple[bool, float]:
    return one.verdict is RuleVerdict.BAD, one.value / one.bound


def _name_of(one: ClosedFor) -> str:
    model = f"/{one.model}" if one.model else ""
    tier = f" (tier {one.tier})" if one.tier else ""
    return f"{one.provider}{model}{tier}"


_MODELS = (Dimension.PROVIDER, Dimension.MODEL)


def _failures(
    conn: Connection, until: datetime, bounds: AlertBounds, is_open: Mapping[Key, Held]
) -> Iterator[Judged]:
    last = totals(conn, Window(until - HOUR, until), by=_MODELS)
    week = totals(conn, Window(until - HOUR - WEEK, until - HOUR), by=_MODELS)
    usual = {model_of(one): _failed(one) for one in week}
    busiest = {model_of(one): _failed(one) for one in sorted(last, key=_turns, reverse=True)}
    for name in _watched(Rule.FAILURES, list(busiest), is_open):
        judged_turns, lost = busiest[name]
        usual_judged, usual_lost = usual.get(name, (0, 0))
        yield judge_failures(
            name,
            judged=judged_turns,
            lost=lost,
            usual_judged=usual_judged,
            usual_lost=usual_lost,
            bounds=bounds,
            held=_held(is_open, Rule.FAILURES, name, until),
        )


def _turns(one: Totals) -> int:
    return one.turns


def _failed(one: Totals) -> tuple[int, int]:
    lost = one.failed + one.dead
    return one.succeeded + lost, lost


def _caches(
    conn: Connection, until: datetime, bounds: AlertBounds, is_open: Mapping[Key, Held]
) -> Iterator[Judged]:
    since = until - timedelta(days=CACHE_DAYS)
    found = totals(conn, Window(since, until), by=(Dimension.SLOT, *_MODELS))
    tokens: dict[str, dict[datetime, float]] = {}
    cached: dict[str, dict[datetime, float]] = {}
    for one in found:
        name = model_of(one)
        tokens.setdefault(name, {})[begins(one)] = one.input_tokens
        cached.setdefault(name, {})[begins(one)] = one.cached_tokens
    busiest = sorted(tokens, key=lambda name: sum(tokens[name].values()), reverse=True)

    def series(values: Mapping[datetime, float]) -> Series:
        return Series.of(values, since=since, until=until)

    for name in _watched(Rule.CACHE, busiest, is_open):
        yield judge_cache(
            name,
            tokens=series(tokens[name]),
            cached=series(cached[name]),
            until=until,
            bounds=bounds,
            held=_held(is_open, Rule.CACHE, name, until),
        )


def _budgets(
    conn: Connection, now: datetime, past: _Past, bounds: AlertBounds, is_open: Mapping[Key, Held]
) -> Iterator[Judged]:
    profile = profile_of(past.costs, past.until)
    beside = [UUID(subject) for rule, subject in is_open if rule is Rule.BUDGET]
    for one in periodic_budgets(conn, now, beside=beside):
        yield judge_budget(one, at=now, profile=profile, bounds=bounds)


def profile_of(costs: Series, until: datetime) -> list[float]:
    """Return what each hour of the week costs; all the same, where no whole week is known."""
    if until - costs.since < WEEK:
        return even_profile()
    found = hours_of_week(costs, costs.since + HOUR, until)
    return found if any(found) else even_profile()


def periodic_budgets(
    conn: Connection, now: datetime, *, beside: Collection[UUID] = ()
) -> list[Budgeted]:
    """Return the budgets that begin anew now and then, in the period that is now.

    Those that are used up the most, and `beside` them these.
    """
    c = budgets.c
    periodic = select(c.id, c.limit_usd, c.spent_usd, c.starts_at, c.ends_at).where(
        c.period.in_(_PERIODIC),
        c.scope.not_in((Scope.GONE.value, Scope.BATCH.value)),
        c.ends_at > now,
        c.limit_usd > 0,
    )
    most_used = periodic.order_by((c.spent_usd / c.limit_usd).desc(), c.id).limit(_MOST_SUBJECTS)
    found = {row.id: _budgeted(row) for row in conn.execute(most_used)}
    for row in conn.execute(periodic.where(c.id.in_(beside)).order_by(c.id)) if beside else ():
        found.setdefault(row.id, _budgeted(row))
    return list(found.values())


def _budgeted(row: Any) -> Budgeted:
    return Budgeted(
        id=str(row.id),
        limit_usd=row.limit_usd,
        spent_usd=row.spent_usd,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
    )
