"""Rules of suggestions: each speaks where its figure is past the threshold, not right before."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from turnmill.domain.analytics.intervals import Interval, difference, mean, ratio, share
from turnmill.domain.analytics.suggesting.failures import CallHour, dead_targets, retry_storms
from turnmill.domain.analytics.suggesting.findings import (
    Finding,
    Improvement,
    SuggestionRule,
    suggestion_of,
)
from turnmill.domain.analytics.suggesting.histories import (
    CacheUse,
    GrowthUse,
    growing_histories,
    unused_caches,
)
from turnmill.domain.analytics.suggesting.lengths import LengthUse, answers_cut, limits_too_high
from turnmill.domain.analytics.suggesting.models import ModelUse, cheaper_models
from turnmill.domain.analytics.suggesting.rounds import Patience, ToolUse, sent_again, tool_loops
from turnmill.domain.analytics.suggesting.waiting import (
    HastyWork,
    QueueHour,
    could_wait,
    few_workers,
)

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def use(model: str, *, price: float, turns: int = 400, bad: int = 4, task: str = "t") -> ModelUse:
    """Return turns of 900 to 1,100 tokens each, a tenth of which are replies; at two prices."""
    cost, told = price * 1000, 100.0
    spread = 1.01  # mean of squares by square of the mean
    return ModelUse(
        task=task,
        provider="p",
        model=model,
        turns=turns,
        bad=bad,
        ended=turns,
        cost_usd=turns * cost,
        cost_squares=turns * cost * cost * spread,
        input_tokens=turns * 900.0,
        output_tokens=turns * told,
        input_squares=turns * 900.0**2 * spread,
        output_squares=turns * told**2 * spread,
        input_by_output=turns * 900.0 * told * spread,
        input_by_cost=turns * 900.0 * cost * spread,
        output_by_cost=turns * told * cost * spread,
    )


def test_a_model_that_does_the_same_for_less_is_named_with_what_it_saves() -> None:
    (found,) = cheaper_models([use("dear", price=2e-6), use("cheap", price=1e-6)])
    assert (found.rule, found.model) == (SuggestionRule.CHEAPER_MODEL, "p/cheap")
    assert found.subject == "t: p/dear"
    assert found.improvement.amount == pytest.approx(0.4)
    assert found.improvement.low < 0.4 < found.improvement.high


@pytest.mark.parametrize(
    "other",
    [
        use("cheap", price=1.32e-6),  # two thirds, and no room for the interval
        use("cheap", price=1e-6, turns=199),
        use("cheap", price=1e-6, bad=20),  # five of a hundred fail, instead of one
        use("cheap", price=1e-6, task="other"),
        replace(use("cheap", price=1e-6), output_tokens=400 * 210.0),  # other work
        replace(use("cheap", price=1e-6), rated=100, disliked=20),
    ],
)
def test_a_model_that_may_be_no_cheaper_or_worse_is_not(other: ModelUse) -> None:
    one = replace(use("dear", price=2e-6), rated=100, disliked=2)
    assert not list(cheaper_models([one, other]))


def test_work_that_has_no_name_is_compared_with_nothing() -> None:
    uses = [use("dear", price=2e-6, task=""), use("cheap", price=1e-6, task="")]
    assert not list(cheaper_models(uses))


def test_prices_are_those_that_turns_have_paid() -> None:
    lengths = [(100, 50), (1000, 10), (400, 400), (50, 900)]
    costs = [said * 2e-6 + told * 8e-6 for said, told in lengths]
    pairs = list(zip(lengths, costs, strict=True))
    one = replace(
        use("m", price=1e-6),
        input_squares=sum(said * said for (said, _), _ in pairs),
        output_squares=sum(told * told for (_, told), _ in pairs),
        input_by_output=sum(said * told for (said, told), _ in pairs),
        input_by_cost=sum(said * cost for (said, _), cost in pairs),
        output_by_cost=sum(told * cost for (_, told), cost in pairs),
    )
    assert one.prices() == pytest.approx((2e-6, 8e-6))


def length(**options: int | None) -> LengthUse:
    values = {"limit": 300, "turns": 400, "cut": 0, "longest": 290} | options
    return LengthUse(provider="p", model="m", cost_usd=1.0, **values)  # type: ignore[arg-type]


def test_replies_that_are_cut_are_told_with_a_limit_that_is_twice_as_high() -> None:
    (found,) = answers_cut([length(cut=40)])
    assert found.settings == {"max_output_tokens": 600}
    assert found.confidence.low > found.threshold
    assert found.improvement.what == "turns"


def test_a_limit_that_only_the_vendor_knows_is_taken_from_replies_that_it_has_cut() -> None:
    (found,) = answers_cut([length(cut=40, limit=None, longest=90, longest_cut=4096)])
    assert found.settings == {"max_output_tokens": 8192}
    assert not list(answers_cut([length(cut=299, limit=None, longest=0, longest_cut=0)]))


@pytest.mark.parametrize("one", [length(cut=28), length(cut=10, turns=49), length(turns=0)])
def test_few_replies_that_are_cut_are_not(one: LengthUse) -> None:
    assert not list(answers_cut([one]))


def test_a_limit_of_four_times_the_longest_reply_is_too_high() -> None:
    (found,) = limits_too_high([length(limit=1160, turns=299)])
    assert found.settings == {"max_output_tokens": 580}
    assert found.improvement == Improvement.of("tokens", 580.0 * 299)


@pytest.mark.parametrize(
    "one",
    [
        length(limit=1159),
        length(limit=1160, turns=298),
        length(limit=1160, cut=1),
        length(limit=None),
    ],
)
def test_a_limit_is_left_alone_that_may_be_needed(one: LengthUse) -> None:
    assert not list(limits_too_high([one]))


def hour(n: int, calls: int, failed: int) -> CallHour:
    return CallHour(
        provider="p",
        model="m",
        hour=NOON + n * HOUR,
        calls=calls,
        failed=failed,
        wasted_usd=0.0,
        codes={"rate_limited": failed},
    )


def test_hours_in_which_a_quarter_of_all_calls_failed_are_a_storm() -> None:
    quiet = [hour(n, 100, 1) for n in range(20)]
    (found,) = retry_storms([*quiet, hour(20, 200, 120), hour(21, 200, 110)])
    assert found.subject == "p/m"
    assert "rate_limited" in found.says
    assert [one["failed"] for one in found.evidence] == [120, 110]
    assert found.improvement.amount == pytest.approx(230 - 0.01 * 400)


@pytest.mark.parametrize(
    "hours",
    [
        [hour(0, 200, 60), hour(1, 200, 60)],  # 0.30, and from 0.24 on
        [hour(0, 49, 49), hour(1, 49, 49), hour(2, 49, 49)],
        [hour(0, 100, 99)],
    ],
)
def test_a_few_failures_are_no_storm(hours: list[CallHour]) -> None:
    assert not list(retry_storms(hours))


def test_a_target_that_answers_nobody_for_six_hours_is_dead_and_no_storm() -> None:
    hours = [hour(n, 50, 49) for n in range(6)]
    (found,) = dead_targets(hours)
    assert found.improvement == Improvement.of("attempts", 294.0)
    assert not list(retry_storms(hours))


@pytest.mark.parametrize(
    "hours",
    [
        [hour(n, 50, 50) for n in range(5)],
        [hour(n, 50, 46) for n in range(6)],  # 0.92, and from 0.88 on
        [hour(n, 8, 8) for n in range(6)],
    ],
)
def test_a_target_that_may_answer_is_not(hours: list[CallHour]) -> None:
    assert not list(dead_targets(hours))


def cache(turns: int, cached: int, price: float | None = 1e-6) -> CacheUse:
    return CacheUse(
        provider="p",
        model="m",
        setting="",
        turns=turns,
        cached=cached,
        repeated_tokens=1_000_000.0,
        usd_a_token=price,
    )


def test_a_cache_that_nobody_reads_from_is_told_with_what_it_would_save() -> None:
    (found,) = unused_caches([cache(200, 3)])
    assert found.improvement.what == "usd"
    assert found.improvement.amount == pytest.approx(0.9)
    (found,) = unused_caches([cache(200, 3, price=None)])
    assert (found.improvement.what, found.improvement.amount) == ("tokens", 900_000)
    assert found.settings == {}
    (found,) = unused_caches([replace(cache(200, 3), setting="off")])
    assert found.settings == {"prompt_cache": "on"}


@pytest.mark.parametrize("one", [cache(99, 0), cache(200, 5)])
def test_a_cache_that_may_be_read_is_not(one: CacheUse) -> None:
    assert not list(unused_caches([one]))


def growth(ratios: float = 3.0, sessions: int = 10, late: float = 0.31) -> GrowthUse:
    return GrowthUse(
        provider="p",
        model="m",
        sessions=sessions,
        ratios=sessions * ratios,
        ratio_squares=sessions * (ratios**2 + 0.1),
        late_turns=100,
        late_tokens=late * 1e6,
        brim_tokens=1000.0,
        all_tokens=1e6,
        usd_a_token=1e-6,
    )


def test_histories_that_grow_are_told_with_what_is_beyond_the_twentieth_turn() -> None:
    (found,) = growing_histories([growth()])
    assert found.settings == {"on_context_full": "summarise"}
    assert found.improvement.amount == pytest.approx(0.21)


@pytest.mark.parametrize("one", [growth(ratios=1.65), growth(sessions=9), growth(late=0.29)])
def test_histories_that_hardly_grow_are_not(one: GrowthUse) -> None:
    assert not list(growing_histories([one]))


def hasty(**options: object) -> HastyWork:
    values = {"provider": "openai", "model": "m", "turns": 100, "cost_usd": 1.0, "all_usd": 10.0}
    return HastyWork(**(values | options))  # type: ignore[arg-type]


def test_a_tenth_of_all_cost_could_wait_for_half_the_price() -> None:
    (found,) = could_wait([hasty()])
    assert found.settings == {"service_tier": "flex"}
    assert found.improvement == Improvement.of("usd", 0.5)


@pytest.mark.parametrize("one", [hasty(turns=99), hasty(cost_usd=0.99), hasty(provider="mock")])
def test_what_is_cheap_already_need_not(one: HastyWork) -> None:
    assert not list(could_wait([one]))


def queue(n: int, turns: int, late: int) -> QueueHour:
    at = NOON + timedelta(days=n)
    return QueueHour(hour=at, turns=turns, late=late, waited=20.0 * late, worked=3600.0)


def test_hours_come_back_in_which_nobody_is_free() -> None:
    (found,) = few_workers([queue(n, 40, 8) for n in range(3)])
    assert "12:00 UTC" in found.says
    assert found.improvement == Improvement.of("seconds", 480.0)


@pytest.mark.parametrize(
    "hours",
    [
        [queue(n, 40, 8) for n in range(2)],
        [queue(0, 40, 8)] * 3,  # all of one day
        [queue(n, 19, 19) for n in range(9)],
        [queue(n, 40, 4) for n in range(9)],  # a tenth, and from 0.04 on
    ],
)
def test_an_accident_is_no_lack_of_workers(hours: list[QueueHour]) -> None:
    assert not list(few_workers(hours))


def tool(turns: int, looping: int) -> ToolUse:
    return ToolUse(
        provider="p",
        model="m",
        tool="lookup",
        turns=turns,
        looping=looping,
        calls=12 * looping,
        looping_usd=0.1 * looping,
        other_usd=0.02 * (turns - looping),
        most_rounds=3,
    )


def test_a_tool_that_is_called_again_and_again_is_told_with_what_the_loops_cost() -> None:
    (found,) = tool_loops([tool(100, 12)])
    assert found.settings == {"max_tool_rounds": 5}
    assert found.improvement.amount == pytest.approx(12 * 0.08)


@pytest.mark.parametrize("one", [tool(49, 20), tool(100, 9)])
def test_a_tool_that_loops_now_and_then_is_not(one: ToolUse) -> None:
    assert not list(tool_loops([one]))


def impatient(turns: int, again: int) -> Patience:
    return Patience(provider="p", model="m", turns=turns, again=again, waited=30.0 * again)


def test_users_who_do_not_wait_are_told() -> None:
    (found,) = sent_again([impatient(400, 40)])
    assert "30 s" in found.says


@pytest.mark.parametrize("one", [impatient(199, 100), impatient(400, 28)])
def test_users_who_hardly_ever_do_are_not(one: Patience) -> None:
    assert not list(sent_again([one]))


def finding(target: str, usd: float, **options: object) -> Finding:
    values: dict[str, object] = {
        "rule": SuggestionRule.CHEAPER_MODEL,
        "subject": target,
        "target": target,
        "says": "",
        "formula": "",
        "confidence": Interval(0, 1),
        "threshold": 1.0,
        "evidence": [],
        "improvement": Improvement.of("usd", usd),
    }
    return Finding(**(values | options))  # type: ignore[arg-type]


def test_of_one_model_the_greatest_saving_counts_and_of_several_all_do() -> None:
    found = suggestion_of([finding("a", 1.0), finding("a", 3.0), finding("b", 2.0)])
    assert found.estimated_improvement == Decimal("5.0")
    assert [one.improvement.amount for one in found.findings] == [3.0, 2.0, 1.0]


def test_what_findings_disagree_about_is_suggested_for_nobody() -> None:
    one = finding("a", 1.0, settings={"max_output_tokens": 100, "x": 1}, model="p/m")
    other = finding("b", 1.0, settings={"max_output_tokens": 200}, model="p/n")
    found = suggestion_of([one, other])
    assert (found.suggested_model, found.suggested_max_tokens) == (None, None)
    assert found.suggested_settings == {"x": 1}
    alone = suggestion_of([one])
    assert (alone.suggested_model, alone.suggested_max_tokens) == ("p/m", 100)
    assert suggestion_of([]).estimated_improvement is None
    by_another_name = finding("b", 1.0, settings={"max_tokens": 100}, model="p/n")
    assert suggestion_of([one, by_another_name]).suggested_max_tokens == 100
    assert suggestion_of([other, by_another_name]).suggested_max_tokens is None
    assert suggestion_of([by_another_name]).suggested_settings == {}


def test_intervals_are_those_of_the_books() -> None:
    assert share(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)  # Wilson
    assert share(0, 0) == (0.0, 1.0)
    # Newcombe 1998, table II, method 10: 56 of 70 and 48 of 80.
    assert difference(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert mean(4, 10.0, 30.0) == pytest.approx((2.5 - 1.2651, 2.5 + 1.2651), abs=1e-3)
    assert ratio(Interval(1, 2), Interval(4, 5)) == (0.2, 0.5)
    assert ratio(Interval(1, 2), Interval(-1, 5)).high == float("inf")
