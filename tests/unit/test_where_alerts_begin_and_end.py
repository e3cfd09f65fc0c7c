"""Where an alert opens and closes, rule by rule: a little less and a little more than that."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from turnmill.domain.analytics.alert_bounds import AlertBounds
from turnmill.domain.analytics.alerting import (
    Budgeted,
    Held,
    Judged,
    RuleVerdict,
    as_likely,
    even_profile,
    forecast,
    judge_budget,
    judge_cache,
    judge_cost,
    judge_failures,
    judge_queue,
    lowest,
)
from turnmill.domain.analytics.usual import Series
from turnmill.domain.analytics.windows import SLOT

BAD, BETWEEN, CALM = RuleVerdict.BAD, RuleVerdict.BETWEEN, RuleVerdict.CALM
BOUNDS = AlertBounds()
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NOW = datetime(2026, 11, 2, 10, tzinfo=UTC)
#: What hours cost beside the one that is judged, weeks ago, to what that one costs.
EVEN, UP_AND_DOWN = (1.0,), (1.0, 4.0)


def cost(
    usual: float,
    value: float,
    *,
    weeks: Sequence[float] = EVEN,
    beside: float = 1.0,
    times: float = 2,
) -> RuleVerdict:
    """Judge the hour before now, of which others, and those of other weeks, cost so much."""
    since = NOW - 36 * DAY
    found = {}
    for n in range(36 * 96):
        at = since + n * SLOT
        week = (NOW - SLOT - at) // (7 * DAY)
        is_beside = at.hour != (NOW - HOUR).hour
        found[at] = usual / 4 * weeks[week % len(weeks)] * (beside if is_beside else 1.0)
    for n in range(1, 5):
        found[NOW - n * SLOT] = value / 4
    series = Series.of(found, since=since, until=NOW)
    judged = judge_cost(series, until=NOW, bounds=replace(BOUNDS, cost_times=times))
    assert judged is not None and judged.value == pytest.approx(value)
    return judged.verdict


@pytest.mark.parametrize(
    ("usual", "verdicts"),
    [
        # of large ones, six spreads of 15 % open, and half as much again closes
        (10.0, {14.9: CALM, 15.1: BETWEEN, 24.7: BETWEEN, 25.0: BAD}),
        # of small ones, a dollar more, and half of one
        (0.5, {0.99: CALM, 1.01: BETWEEN, 1.49: BETWEEN, 1.51: BAD}),
        # of nothing, a dollar
        (0.0, {0.49: CALM, 0.51: BETWEEN, 0.99: BETWEEN, 1.01: BAD}),
    ],
)
def test_an_hour_is_too_dear_by_spreads_and_by_dollars(
    usual: float, verdicts: dict[float, RuleVerdict]
) -> None:
    assert {value: cost(usual, value) for value in verdicts} == verdicts


def test_an_hour_is_too_dear_by_as_many_times_as_the_bounds_say() -> None:
    verdicts = {24.9: CALM, 25.1: BETWEEN, 39.8: BETWEEN, 40.2: BAD}
    assert {value: cost(10, value, times=4) for value in verdicts} == verdicts


def test_what_differs_from_week_to_week_is_calm_for_longer() -> None:
    """Half of the weeks cost four times as much: a spread is as wide as it gets, a factor of e."""
    verdicts = {300: CALM, 310: BETWEEN, 10_000: BETWEEN, 10_300: BAD}
    assert {value: cost(10, value, weeks=UP_AND_DOWN) for value in verdicts} == verdicts


def test_an_hour_is_not_too_dear_where_those_beside_it_cost_half_as_much() -> None:
    """Clocks are moved, and it is one of these: 60 is twice what they cost."""
    assert [cost(10, value, beside=3) for value in (59, 61)] == [BETWEEN, BAD]


def failures(
    judged: int,
    lost: int,
    *,
    usual: tuple[int, int] = (20_000, 20),
    times: float = 3.0,
    held: Held | None = None,
) -> Judged:
    bounds = replace(BOUNDS, failures_times=times)
    return judge_failures(
        "p/m",
        judged=judged,
        lost=lost,
        usual_judged=usual[0],
        usual_lost=usual[1],
        bounds=bounds,
        held=held,
    )


@pytest.mark.parametrize(
    ("judged", "verdicts"),
    [
        (200, {5: CALM, 6: BETWEEN, 19: BETWEEN, 20: BAD}),
        (20, {4: BETWEEN, 5: BAD}),  # five at the least
        (19, {5: BETWEEN, 19: BETWEEN}),  # and of twenty
        (150, {4: CALM, 5: BETWEEN}),  # of four, five of a hundred are no more than chance
        (1000, {25: CALM, 26: BETWEEN}),
    ],
)
def test_failures_open_where_they_are_surely_many_and_close_at_half(
    judged: int, verdicts: dict[int, RuleVerdict]
) -> None:
    assert {lost: failures(judged, lost).verdict for lost in verdicts} == verdicts


def test_what_fails_often_closes_at_half_as_much_again_as_is_usual() -> None:
    tenth = (99_950, 9_999)
    assert [failures(1000, lost, usual=tenth).verdict for lost in (142, 144)] == [CALM, BETWEEN]
    assert failures(1000, 500, usual=tenth).bound == pytest.approx(0.25)
    near = [failures(1000, lost, usual=tenth, times=1.1).verdict for lost in (108, 110)]
    assert near == [CALM, BETWEEN]  # no further out than where it opens


def test_of_a_model_that_nothing_is_known_of_two_percent_are_usual() -> None:
    found = failures(100, 1, usual=(0, 0))
    assert found.usual is None and found.bound == pytest.approx(0.06 / 1.04)
    assert failures(100, 1, usual=(950, 9)).usual == pytest.approx(0.01)
    assert (failures(0, 0).value, failures(8, 2).value) == (0.0, 0.25)


@pytest.mark.parametrize("share", [0.3, 0.34, 0.5, 0.7])
def test_what_has_failed_for_days_may_still_fail_so_that_it_is_told_of(share: float) -> None:
    """Three times a third is everything: after a weekend of outage there would be no other one."""
    usual = (20_000, int(20_000 * share))
    assert failures(200, 200, usual=usual).verdict is BAD
    assert failures(200, int(200 * share), usual=usual).verdict is CALM


@pytest.mark.parametrize("days", range(1, 8))
def test_an_outage_is_not_over_because_it_has_become_usual(days: int) -> None:
    usual = (7_000, days * 1_000)
    assert failures(200, 200, usual=usual).verdict is not CALM


def test_what_fails_as_it_did_since_an_alert_opened_is_not_well_for_that() -> None:
    """Half of the turns have failed for a week: of these alone, that would be usual by now."""
    week = (20_000, 10_000)
    assert failures(200, 100, usual=week).verdict is CALM
    held = Held(usual=0.01, bound=0.05, opened_at=NOW - 6 * DAY)
    found = failures(200, 100, usual=week, held=held)
    assert (found.verdict, found.usual, found.bound) == (BAD, 0.01, 0.05)
    assert failures(200, 5, usual=week, held=held).verdict is CALM
    unknown = Held(usual=None, bound=0.05, opened_at=NOW)  # of a model that was new by then
    found = failures(200, 100, usual=week, held=unknown)
    assert (found.verdict, found.usual) == (BAD, None)
    assert found.bound == pytest.approx(0.06 / 1.04)


def test_what_has_been_so_for_two_weeks_is_usual() -> None:
    held = Held(usual=0.01, bound=0.05, opened_at=NOW - 14 * DAY)
    assert [held.still(NOW - timedelta(seconds=1)), held.still(NOW)] == [True, False]


def test_an_outage_is_not_over_because_few_call_at_night() -> None:
    assert [failures(n, n).verdict for n in (4, 3, 1)] == [BETWEEN] * 3
    assert [failures(4, lost).verdict for lost in (2, 1, 0)] == [BETWEEN, CALM, CALM]


def test_odds_are_of_small_shares_as_many_times_and_never_a_whole() -> None:
    assert as_likely(0.001, times=3) == pytest.approx(0.003, rel=0.01)
    assert as_likely(0.5, times=3) == pytest.approx(0.75)
    assert as_likely(0.0, times=3) == 0.0 and as_likely(1.0, times=3) == 1.0


def test_the_lower_end_is_that_of_wilsons_interval() -> None:
    assert lowest(10, 100, deviations=1.96) == pytest.approx(0.0552, abs=1e-4)
    assert lowest(100, 100) == pytest.approx(1 / 1.09)
    assert lowest(0, 50) == pytest.approx(0.0, abs=1e-12)
    assert lowest(0, 0) == 0.0


def test_a_queue_is_late_beyond_its_bound_and_well_from_half_of_it_on() -> None:
    def age(seconds: float) -> Judged:
        return judge_queue("interactive", oldest=timedelta(seconds=seconds), bounds=BOUNDS)

    seconds = (60.01, 60, 30.01, 30)
    assert [age(one).verdict for one in seconds] == [BAD, BETWEEN, BETWEEN, CALM]
    assert age(-5).value == 0.0  # a clock was set back
    assert judge_queue("interactive", oldest=None, bounds=BOUNDS).value == 0.0


def cached(
    last: float,
    *,
    usual: Sequence[float] = (0.6,),
    tokens: int = 200_000,
    spans: int = 27,
    before: int = 200_000,
    held: Held | None = None,
) -> Judged:
    """Judge the last six hours; the spans before them had these shares, one after the other."""
    since = NOW - 8 * DAY
    told, had = {}, {}
    for n in range(spans + 1):
        at = NOW - (n + 1) * 6 * HOUR
        told[at] = float(tokens if n == 0 else before)
        had[at] = told[at] * (last if n == 0 else usual[n % len(usual)])
    return judge_cache(
        "p/m",
        tokens=Series.of(told, since=since, until=NOW),
        cached=Series.of(had, since=since, until=NOW),
        until=NOW,
        bounds=BOUNDS,
        held=held,
    )


def test_a_cache_is_missed_from_half_of_the_usual_share_and_well_from_three_quarters_on() -> None:
    shares = (0.29, 0.31, 0.44, 0.46)
    assert [cached(one).verdict for one in shares] == [BAD, BETWEEN, BETWEEN, CALM]
    found = cached(0.29)
    assert [found.value, found.usual, found.bound] == pytest.approx([0.29, 0.6, 0.3])


def test_a_cache_that_varies_is_missed_at_four_deviations() -> None:
    varies = (0.52, 0.6, 0.68)  # a deviation is 0.1186
    assert [cached(one, usual=varies).verdict for one in (0.12, 0.13)] == [BAD, BETWEEN]


def test_a_cache_that_never_had_much_is_not_missed() -> None:
    assert cached(0.0, usual=(0.16,)).verdict is BAD
    assert cached(0.0, usual=(0.14,)).verdict is CALM


def test_a_cache_is_known_by_eight_spans_with_enough_input() -> None:
    assert [cached(0.0, spans=one).verdict for one in (7, 8)] == [CALM, BAD]
    assert cached(0.0, before=199_999).verdict is CALM


def test_a_cache_is_known_by_the_week_before_and_by_no_day_more() -> None:
    week = [0.0, *[0.6] * 13, *[0.0] * 14, *[0.6] * 4]  # of 27 spans, 14 had nothing from a cache
    found = cached(0.0, usual=week, spans=31)
    assert (found.usual, found.verdict) == (0.0, CALM)


def test_a_cache_that_is_missed_since_an_alert_opened_is_not_well_for_that() -> None:
    week = [0.0] * 27
    assert cached(0.0, usual=week).verdict is CALM
    held = Held(usual=0.6, bound=0.25, opened_at=NOW - 6 * DAY)
    shares = (0.0, 0.24, 0.26, 0.44, 0.46)
    found = [cached(one, usual=week, held=held).verdict for one in shares]
    assert found == [BAD, BAD, BETWEEN, BETWEEN, CALM]
    found_now = cached(0.0, usual=week, spans=2, held=held)  # little was asked since
    assert (found_now.verdict, found_now.usual, found_now.bound) == (BAD, 0.6, 0.25)
    assert cached(0.0, tokens=0, held=held).verdict is CALM


def test_of_little_input_no_alert_opens_and_one_that_is_open_closes_where_that_is_cached() -> None:
    """A cache that is missed by day is not well at night, when hardly anybody calls."""
    little = {share: cached(share, tokens=199_999).verdict for share in (0.0, 0.44, 0.46)}
    assert little == {0.0: BETWEEN, 0.44: BETWEEN, 0.46: CALM}
    assert cached(0.0, tokens=0).verdict is CALM


def month(spent: str) -> Budgeted:
    return Budgeted(
        id="b",
        limit_usd=Decimal(100),
        spent_usd=Decimal(spent),
        starts_at=NOW,
        ends_at=NOW + 28 * DAY,
    )


def test_a_budget_heads_for_something_after_a_tenth_of_its_period() -> None:
    profile = even_profile()
    assert len(profile) == 168
    assert forecast(month("9"), at=NOW + 2.7 * DAY, profile=profile) is None
    found = forecast(month("9"), at=NOW + 2.9 * DAY, profile=profile)
    assert found == pytest.approx(Decimal("86.9"), abs=Decimal("0.1"))
    assert forecast(month("9"), at=NOW + 14 * DAY, profile=[0.0] * 168) is None


def test_a_budget_opens_beyond_a_tenth_more_than_its_limit_and_closes_at_its_limit() -> None:
    def heading(spent: str) -> RuleVerdict:
        at, profile = NOW + 14 * DAY, even_profile()
        return judge_budget(month(spent), at=at, profile=profile, bounds=BOUNDS).verdict

    spent = ("55.1", "54.9", "50.1", "50")
    assert [heading(one) for one in spent] == [BAD, BETWEEN, BETWEEN, CALM]
