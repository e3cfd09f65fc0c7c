"""What trials show is suggested where it is past each threshold, and not right before."""

from dataclasses import replace

import pytest

from tests.unit.test_suggesting import use
from turnmill.domain.analytics.differences import Difference, Proportion
from turnmill.domain.analytics.suggesting.findings import SuggestionRule, suggestion_of
from turnmill.domain.analytics.suggesting.models import ModelUse
from turnmill.domain.analytics.suggesting.trying import Tried, tried

DEAR = use("dear", price=1e-6)


def agreed(low: float | None) -> Proportion:
    return Proportion(n=200, clusters=50, mean=0.95, low=low, high=0.99)


def cheaper(high: float | None, *, n: int = 200) -> Difference:
    return Difference(
        n=n, clusters=50, before=0.03, after=0.01, difference=-0.02, low=-0.03, high=high
    )


PAST = Tried(
    name="smaller",
    before="p/dear",
    after="p/small",
    settings={"temperature": 0.2},
    template="t",
    asked=200,
    failed=3,  # at most 0.0431
    agreement=agreed(0.9),
    cost_usd=cheaper(-0.0001),
    at_once=200,
)


def test_what_a_trial_has_shown_is_suggested_with_what_it_saves() -> None:
    (found,) = tried([PAST], [DEAR])
    assert (found.rule, found.model, found.target) == (SuggestionRule.TRIED, "p/small", "p/dear")
    assert found.confidence == (0.9, 0.99)
    saves = found.improvement
    assert (saves.amount, saves.low, saves.high) == pytest.approx((8.0, 0.04, 12.0))
    whole = suggestion_of([found])
    assert (whole.suggested_model, whole.suggested_temperature) == ("p/small", 0.2)
    assert whole.suggested_settings == {}


@pytest.mark.parametrize(
    "one",
    [
        replace(PAST, agreement=agreed(0.8999)),
        replace(PAST, agreement=agreed(None)),
        replace(PAST, cost_usd=cheaper(0.0)),
        replace(PAST, cost_usd=cheaper(None)),
        replace(PAST, failed=5),  # at most 0.0572
        replace(PAST, at_once=199),  # one of them at the price of a batch
    ],
    ids=["agreement", "no_agreement", "cost", "no_cost", "failed", "batch"],
)
def test_what_it_has_not_shown_for_sure_is_not(one: Tried) -> None:
    assert list(tried([one], [DEAR])) == []


@pytest.mark.parametrize(
    "turns",
    [use("other", price=1e-6), use("dear", price=1e-6, task="u"), use("dear", price=1e-6, turns=0)],
    ids=["model", "template", "none"],
)
def test_a_trial_says_nothing_of_other_work(turns: ModelUse) -> None:
    assert list(tried([PAST], [turns])) == []


def test_a_trial_of_all_work_is_of_every_template() -> None:
    uses = [DEAR, use("dear", price=1e-6, task="", turns=100)]
    (found,) = tried([replace(PAST, template=None)], uses)
    assert found.improvement.amount == pytest.approx(0.02 * 500)


def test_settings_that_save_are_suggested_without_a_model() -> None:
    (found,) = tried([replace(PAST, after="p/dear")], [DEAR])
    assert found.model is None
    assert suggestion_of([found]).suggested_temperature == 0.2


def test_of_two_trials_of_one_model_the_greater_saving_is_told() -> None:
    less = replace(PAST, name="less", cost_usd=replace(PAST.cost_usd, difference=-0.01))
    assert [one.subject for one in tried([less, PAST], [DEAR])] == ["smaller: p/dear"]
