"""Alerts: where each rule fires, where it must not, and how often it does for nothing."""

import random
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from tests.alert_watch import Watch
from tests.quiet_year import START, poisson, quiet_slots, shape
from turnmill.domain.analytics.alert_bounds import AlertBounds, Rule
from turnmill.domain.analytics.alert_moves import (
    CALM_FOR,
    MOST_OPEN,
    OpenAlert,
    Stays,
    moves,
)
from turnmill.domain.analytics.alerting import (
    Budgeted,
    Judged,
    RuleVerdict,
    even_profile,
    forecast,
    judge_account,
    judge_budget,
    judge_cache,
    judge_cost,
    judge_failures,
    judge_queue,
)
from turnmill.domain.analytics.usual import Series, hours_of_week, usual
from turnmill.domain.analytics.windows import SLOT
from turnmill.domain.errors import InvalidSetting

BOUNDS = AlertBounds()
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIVE = timedelta(minutes=5)


# Cost


def _costs(days: int, *, seed: int = 1, busiest: float = 5.0) -> dict[datetime, float]:
    return dict(quiet_slots(days=days, busiest=busiest, seed=seed))


def _cost_at(costs: dict[datetime, float], at: datetime) -> Judged | None:
    """Judge as the job does: by the weeks before."""
    since = max(START, at - 5 * 7 * DAY)
    return judge_cost(Series.of(costs, since=since, until=at), until=at, bounds=BOUNDS)


def test_an_hour_four_times_as_dear_as_usual_opens_an_alert_once_and_closes_it_once() -> None:
    costs = _costs(40)
    bad = START + 35 * DAY + 10 * HOUR
    for n in range(8):  # two hours
        costs[bad + n * SLOT] *= 4
    watch = Watch()
    at = bad - 6 * HOUR
    while at < bad + 8 * HOUR:
        watch.look([_cost_at(costs, at)], at)
        at += SLOT
    assert [key for key, _ in watch.opened] == [(Rule.COST, "")]
    assert bad < watch.opened[0][1] <= bad + 1.25 * HOUR
    assert [key for key, _ in watch.ended] == [(Rule.COST, "")]
    assert watch.ended[0][1] <= bad + 4 * HOUR


def test_an_hour_half_as_dear_again_as_usual_opens_none() -> None:
    costs = _costs(40)
    bad = START + 35 * DAY + 10 * HOUR
    for n in range(8):
        costs[bad + n * SLOT] *= 1.5
    watch = Watch()
    for n in range(16):
        watch.look([_cost_at(costs, bad + n * SLOT)], bad + n * SLOT)
    assert watch.opened == []


def test_a_busy_hour_is_held_against_that_hour_and_not_against_the_night() -> None:
    costs = _costs(40)
    monday = START + 35 * DAY
    assert costs[monday + 10 * HOUR] > 5 * costs[monday + 3 * HOUR]
    assert _judged(_cost_at(costs, monday + 11 * HOUR)).verdict is RuleVerdict.CALM
    for n in range(4):  # at night, what is usual at noon
        costs[monday + 3 * HOUR + n * SLOT] = costs[monday + 10 * HOUR]
    assert _judged(_cost_at(costs, monday + 4 * HOUR)).verdict is RuleVerdict.BAD


def _judged(found: Judged | None) -> Judged:
    assert found is not None
    return found


def test_cents_open_no_alert_whatever_they_are_times_the_usual() -> None:
    costs = {at: value * 0.01 for at, value in _costs(40).items()}
    bad = START + 35 * DAY + 10 * HOUR
    for n in range(4):
        costs[bad + n * SLOT] *= 5
    assert _judged(_cost_at(costs, bad + HOUR)).verdict is not RuleVerdict.BAD


def test_nothing_is_usual_before_three_weeks_are_known() -> None:
    costs = _costs(40)
    assert _cost_at(costs, START + 21 * DAY) is None
    assert _cost_at(costs, START + 22 * DAY) is not None


def test_one_bad_week_does_not_make_the_next_one_usual() -> None:
    costs = _costs(40)
    before, now = START + 28 * DAY + 10 * HOUR, START + 35 * DAY + 10 * HOUR
    for at in (before, now):
        for n in range(4):
            costs[at + n * SLOT] *= 8
    assert _judged(_cost_at(costs, now + HOUR)).verdict is RuleVerdict.BAD


@pytest.mark.long
@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_a_quiet_year_costs_no_false_alarm(seed: int) -> None:
    """Of 33,600 looks. With holidays, growth, and quarters that differ by a quarter."""
    costs = _costs(365, seed=seed)
    series = Series.of(costs, since=START, until=START + 365 * DAY)
    watch = Watch()
    at = START + 15 * DAY
    while at < START + 365 * DAY:
        watch.look([judge_cost(series, until=at, bounds=BOUNDS)], at)
        at += SLOT
    assert watch.opened == []


# Failures


def _failures(judged: int, lost: int, *, rate: float = 0.01, week: int = 20_000) -> Judged:
    return judge_failures(
        "openai/m",
        judged=judged,
        lost=lost,
        usual_judged=week,
        usual_lost=int(week * rate),
        bounds=BOUNDS,
    )


@pytest.mark.parametrize(
    ("judged", "lost", "verdict"),
    [
        (200, 40, RuleVerdict.BAD),
        (25, 25, RuleVerdict.BAD),
        (200, 12, RuleVerdict.BETWEEN),  # 6 %: beyond the bound, and within chance
        (200, 2, RuleVerdict.CALM),
        (19, 19, RuleVerdict.BETWEEN),  # too few to say
        (4, 4, RuleVerdict.BETWEEN),  # nor to say that it is well
        (0, 0, RuleVerdict.CALM),
    ],
)
def test_failures_count_from_where_they_can_hardly_be_chance(
    judged: int, lost: int, verdict: RuleVerdict
) -> None:
    assert _failures(judged, lost).verdict is verdict


def test_what_always_fails_often_is_no_alert_until_it_fails_more() -> None:
    assert _failures(200, 40, rate=0.15).verdict is not RuleVerdict.BAD
    assert _failures(200, 140, rate=0.15).verdict is RuleVerdict.BAD


def test_a_quiet_year_of_failures_is_without_a_false_alarm() -> None:
    dice = random.Random(5)
    watch = Watch()
    for n in range(365 * 24 * 4):
        at = START + n * SLOT
        turns = max(1, int(400 * shape(at)))
        lost = min(turns, poisson(turns * 0.012, dice))
        watch.look([_failures(turns, lost, rate=0.012)], at)
    assert watch.opened == []


# Queues


def test_a_queue_opens_late_and_closes_well_within() -> None:
    def age(seconds: float) -> RuleVerdict:
        return judge_queue("interactive", oldest=timedelta(seconds=seconds), bounds=BOUNDS).verdict

    assert [age(one) for one in (61, 59, 31, 29, 0)] == [
        RuleVerdict.BAD,
        RuleVerdict.BETWEEN,
        RuleVerdict.BETWEEN,
        RuleVerdict.CALM,
        RuleVerdict.CALM,
    ]
    assert judge_queue("bulk", oldest=HOUR, bounds=BOUNDS).verdict is RuleVerdict.CALM
    assert judge_queue("bulk", oldest=None, bounds=BOUNDS).verdict is RuleVerdict.CALM


def test_a_figure_that_swings_around_its_bound_opens_one_alert() -> None:
    watch = Watch()
    for n in range(200):
        seconds = 70 if n % 3 == 0 else 20 if n % 3 == 1 else 45
        judged = judge_queue("interactive", oldest=timedelta(seconds=seconds), bounds=BOUNDS)
        watch.look([judged], START + n * FIVE)
    assert len(watch.opened) == 1 and watch.ended == []


def test_an_alert_closes_after_half_an_hour_of_calm_and_rests_as_long() -> None:
    watch = Watch()

    def look(minute: int, seconds: float) -> None:
        judged = judge_queue("interactive", oldest=timedelta(seconds=seconds), bounds=BOUNDS)
        watch.look([judged], START + timedelta(minutes=minute))

    look(0, 100)
    for minute in range(5, 35, 5):
        look(minute, 0)
    assert watch.ended == []
    look(35, 0)
    assert len(watch.ended) == 1
    look(40, 100)
    assert len(watch.opened) == 1  # it rests
    look(70, 100)
    assert len(watch.opened) == 2


def test_what_is_not_there_any_more_is_calm() -> None:
    watch = Watch()
    watch.look([_failures(200, 60)], START)
    watch.look([], START + FIVE)
    watch.look([], START + FIVE + CALM_FOR)
    assert len(watch.ended) == 1


def test_alerts_that_are_open_at_once_are_bounded() -> None:
    judged = [
        Judged(rule=Rule.FAILURES, subject=f"p/{n}", verdict=RuleVerdict.BAD, value=1.0, bound=0.1)
        for n in range(MOST_OPEN + 50)
    ]
    assert len(moves(judged, [], closed={}, at=START)) == MOST_OPEN


def test_an_alert_remembers_its_worst_figure() -> None:
    alert = OpenAlert(
        id=UUID(int=1), rule=Rule.QUEUE, subject="bulk", value=9.0, worst=9.0, calm_since=None
    )
    judged = Judged(rule=Rule.QUEUE, subject="bulk", verdict=RuleVerdict.BAD, value=5.0, bound=1.0)
    assert moves([judged], [alert], closed={}, at=START) == [Stays(alert.id, 5.0, 9.0, None)]


# Caches


def _series(found: dict[datetime, float]) -> Series:
    return Series.of(found, since=START, until=START + 40 * DAY)


def _cache(last: float, *, seed: int = 3, noise: float = 0.03, rate: float = 0.6) -> Judged:
    dice = random.Random(seed)
    until = START + 10 * DAY
    tokens: dict[datetime, float] = {}
    cached: dict[datetime, float] = {}
    for n in range(10 * 96):
        at = START + n * SLOT
        tokens[at] = 40_000.0
        share = last if at >= until - 6 * HOUR else rate + dice.gauss(0, noise)
        cached[at] = tokens[at] * min(1.0, max(0.0, share))
    return judge_cache(
        "openai/m", tokens=_series(tokens), cached=_series(cached), until=until, bounds=BOUNDS
    )


def test_a_cache_that_is_missed_opens_an_alert_and_one_that_wavers_none() -> None:
    assert _cache(0.05).verdict is RuleVerdict.BAD
    assert _cache(0.35).verdict is RuleVerdict.BETWEEN
    assert _cache(0.5).verdict is RuleVerdict.CALM
    assert _cache(0.0, rate=0.1, noise=0.01).verdict is RuleVerdict.CALM  # it never had much
    assert _cache(0.25, noise=0.9).verdict is not RuleVerdict.BAD  # it is always as wild as that


def test_of_little_input_no_share_is_taken() -> None:
    few = dict.fromkeys((START + n * SLOT for n in range(960)), 100.0)
    judged = judge_cache(
        "m", tokens=_series(few), cached=_series({}), until=START + 10 * DAY, bounds=BOUNDS
    )
    assert judged.verdict is RuleVerdict.CALM


# Budgets


def _month(spent: str, limit: str = "100") -> Budgeted:
    return Budgeted(
        id="b",
        limit_usd=Decimal(limit),
        spent_usd=Decimal(spent),
        starts_at=START,
        ends_at=START + 28 * DAY,
    )


def test_a_budget_that_is_heading_beyond_its_limit_is_told_of_before_it_is_there() -> None:
    profile = even_profile()
    half = START + 14 * DAY
    assert forecast(_month("60"), at=half, profile=profile) == Decimal(120)
    verdicts = {"60": RuleVerdict.BAD, "52": RuleVerdict.BETWEEN, "45": RuleVerdict.CALM}
    for spent, verdict in verdicts.items():
        judged = judge_budget(_month(spent), at=half, profile=profile, bounds=BOUNDS)
        assert judged.verdict is verdict


def test_a_weekend_to_come_is_no_working_day() -> None:
    costs = _costs(28)
    profile = hours_of_week(_series(costs), START, START + 28 * DAY)
    friday_night = START + 4 * DAY + 23 * HOUR
    week = Budgeted(
        id="b",
        limit_usd=Decimal(100),
        spent_usd=Decimal(85),
        starts_at=START,
        ends_at=START + 7 * DAY,
    )
    by_hours = forecast(week, at=friday_night, profile=profile)
    evenly = forecast(week, at=friday_night, profile=even_profile())
    assert by_hours is not None and evenly is not None
    assert by_hours < 100 < evenly


def test_the_first_tenth_of_a_period_forecasts_nothing() -> None:
    early = START + DAY
    assert forecast(_month("20"), at=early, profile=even_profile()) is None
    judged = judge_budget(_month("20"), at=early, profile=even_profile(), bounds=BOUNDS)
    assert judged.verdict is RuleVerdict.CALM


def test_a_period_that_is_over_is_what_was_spent() -> None:
    assert forecast(_month("90"), at=START + 40 * DAY, profile=even_profile()) == Decimal(90)


# Accounts


def test_what_somebody_has_to_set_right_is_told_of_at_once_and_all_else_when_it_lasts() -> None:
    def age(seconds: float, *, permanent: bool) -> RuleVerdict:
        lasted = timedelta(seconds=seconds)
        judged = judge_account("openai", closed_for=lasted, permanent=permanent, bounds=BOUNDS)
        return judged.verdict

    assert age(61, permanent=True) is RuleVerdict.BAD
    assert [age(one, permanent=False) for one in (901, 899, 449)] == [
        RuleVerdict.BAD,
        RuleVerdict.BETWEEN,
        RuleVerdict.CALM,
    ]
    assert age(2, permanent=True) is RuleVerdict.CALM


def test_an_account_that_is_closed_again_and_again_opens_one_alert() -> None:
    watch = Watch()
    for n in range(40):  # tried, answered, and refused anew
        minutes = 16 if n % 4 == 3 else 2
        lasted = timedelta(minutes=minutes)
        judged = judge_account("openai", closed_for=lasted, permanent=False, bounds=BOUNDS)
        watch.look([judged], START + n * FIVE)
    assert len(watch.opened) == 1 and watch.ended == []


# Bounds


def test_bounds_are_moved_by_name_and_rules_switched_off() -> None:
    found = AlertBounds.from_env(
        {"TURNMILL_ALERTS": " cost.least_usd=5, CACHE=off ,queue.bulk=9, account.refused=3"}
    )
    moved = (found.cost_least_usd, found.queue_bulk, found.account_refused, found.off)
    assert moved == (5.0, 9.0, 3.0, frozenset({Rule.CACHE}))
    assert found.longest("bulk") == timedelta(seconds=9)
    assert AlertBounds.from_env({}) == AlertBounds()


@pytest.mark.parametrize(
    "said",
    ["cost", "cost=on", "cost.least_usd", "cost.least_usd=x", "queue.bulk=0", "a=off", "=,="],
)
def test_bounds_that_cannot_be_are_refused(said: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        AlertBounds.from_env({"TURNMILL_ALERTS": said})
    assert refused.value.hint


def test_what_is_usual_is_twice_as_far_above_as_half_is_below() -> None:
    slots = _series(_costs(40))
    at = START + 35 * DAY + 10 * HOUR
    known = usual(slots, at, at + HOUR, ground=0.001)
    assert known is not None
    assert known.off(known.value * 2) == pytest.approx(-known.off(known.value / 2), rel=0.01)
    assert known.at(known.off(17.0)) == pytest.approx(17.0)
