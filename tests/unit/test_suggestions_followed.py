"""Suggestions do no harm to whom they are not of, nor by what else differs."""

from dataclasses import replace

import pytest

from turnmill.domain.analytics.intervals import Interval
from turnmill.domain.analytics.suggesting.findings import (
    Finding,
    Improvement,
    SuggestionRule,
    suggestion_of,
)
from turnmill.domain.analytics.suggesting.lengths import (
    LengthUse,
    answers_cut,
    limits_too_high,
    longest_of,
)
from turnmill.domain.analytics.suggesting.models import ModelUse, cheaper_models
from turnmill.domain.analytics.suggesting.rounds import ToolUse, tool_loops
from turnmill.domain.analytics.suggesting.waiting import HastyWork, could_wait


def length(model: str, limit: int | None, longest: int, *, cut: int = 0) -> LengthUse:
    return LengthUse(
        provider="p",
        model=model,
        limit=limit,
        turns=400,
        cut=0,
        longest=longest,
        cost_usd=1.0,
        longest_cut=cut,
    )


def test_a_limit_is_suggested_for_all_only_where_it_cuts_no_reply_of_another_model() -> None:
    labels, essays = length("labels", 4096, 20), length("essays", None, 900)
    found = list(limits_too_high([labels, essays]))
    assert [one.settings for one in found] == [{"max_output_tokens": 40}]
    assert suggestion_of(found, longest=longest_of([labels])).suggested_max_tokens == 40
    assert suggestion_of(found, longest=longest_of([labels, essays])).suggested_max_tokens is None
    assert longest_of([length("cut", 1000, 20, cut=1000)]) == 1000
    assert longest_of([]) == 0


def test_no_limit_is_suggested_that_a_vendor_refuses() -> None:
    (found,) = limits_too_high([length("labels", 4096, 3)])
    assert found.settings == {"max_output_tokens": 16}
    assert found.improvement.amount == 400 * (4096 - 16)
    assert not list(limits_too_high([length("labels", 16, 3)]))
    (found,) = limits_too_high([length("labels", 17, 3)])
    assert found.settings == {"max_output_tokens": 16}


@pytest.mark.parametrize(
    ("provider", "limit", "settings"),
    [
        ("openai", None, {}),
        ("openai", 300, {"max_output_tokens": 8192}),
        ("anthropic", None, {"max_output_tokens": 8192}),  # who is sent a limit in any case
    ],
)
def test_no_limit_is_suggested_above_what_a_model_can_say(
    provider: str, limit: int | None, settings: dict[str, int]
) -> None:
    cut = replace(length("m", limit, 4096, cut=4096), provider=provider, cut=80)
    (found,) = answers_cut([cut])
    assert found.settings == settings
    assert ("as long as the model can" in found.says) is not bool(settings)


def test_what_could_wait_is_no_setting_for_those_who_do_not() -> None:
    (found,) = could_wait(
        [HastyWork(provider="openai", model="m", turns=500, cost_usd=50, all_usd=100)]
    )
    assert found.settings == {"service_tier": "flex"}
    suggested = suggestion_of([found])
    assert suggested.suggested_settings == {} and suggested.findings == [found]


def tool(name: str, *, looping: int = 0, rounds: int, model: str = "m") -> ToolUse:
    return ToolUse(
        provider="p",
        model=model,
        tool=name,
        turns=100,
        looping=looping,
        calls=looping * 9,
        looping_usd=1.0,
        other_usd=1.0,
        most_rounds=rounds,
    )


@pytest.mark.parametrize(
    ("others", "settings"),
    [
        ([], {"max_tool_rounds": 4}),
        ([tool("other", rounds=5)], {"max_tool_rounds": 7}),
        ([tool("other", rounds=20, model="n")], {"max_tool_rounds": 4}),
        ([tool("other", rounds=6)], {"max_tool_rounds": 8}),
        ([tool("other", rounds=7)], {}),
    ],
)
def test_a_limit_of_rounds_leaves_those_that_turns_with_other_tools_take(
    others: list[ToolUse], settings: dict[str, int]
) -> None:
    (found,) = tool_loops([tool("search", looping=30, rounds=2), *others])
    assert found.settings == settings
    assert ("rounds at the most" in found.says) is bool(settings)


def use(model: str, *, price: float, cached: float) -> ModelUse:
    """Return turns of 1,000 tokens, of which so many were read from a cache, at a tenth."""
    said, told = 1000.0, 100.0
    cost = price * (said * (1 - 0.9 * cached) + 4 * told)
    return ModelUse(
        task="t",
        provider="p",
        model=model,
        turns=400,
        bad=4,
        ended=400,
        cost_usd=400 * cost,
        cost_squares=400 * cost**2,
        input_tokens=400 * said,
        output_tokens=400 * told,
        input_squares=400 * said**2,
        output_squares=400 * told**2,
        input_by_output=400 * said * told,
        input_by_cost=400 * said * cost,
        output_by_cost=400 * told * cost,
        cached_tokens=400 * said * cached,
    )


def test_a_model_is_not_cheaper_because_its_prompts_are_cached() -> None:
    bare, cached = use("a", price=1e-6, cached=0.0), use("b", price=1e-6, cached=0.9)
    assert cached.cost_usd < bare.cost_usd / 2
    assert not list(cheaper_models([bare, cached]))
    (found,) = cheaper_models([replace(bare, cached_tokens=bare.input_tokens * 0.9), cached])
    assert found.model == "p/b"  # both are, and it costs less all the same
    (found,) = cheaper_models([bare, use("b", price=1e-7, cached=0.9)])
    assert found.model == "p/b"
    assert [line["cached_share"] for line in found.evidence[:2]] == [0.0, 0.9]


def test_what_findings_say_of_themselves_stays_theirs() -> None:
    one = Finding(
        rule=SuggestionRule.LIMIT_TOO_HIGH,
        subject="p/m",
        target="p/m",
        says="",
        formula="",
        confidence=Interval(4, 4),
        threshold=4,
        evidence=[],
        improvement=Improvement.of("tokens", 1.0),
        settings={"max_output_tokens": 40, "x": 1},
    )
    found = suggestion_of([one], longest=41)
    assert (found.suggested_max_tokens, found.suggested_settings) == (None, {"x": 1})
    assert found.findings[0].settings == {"max_output_tokens": 40, "x": 1}
    assert suggestion_of([one], longest=40).suggested_max_tokens == 40
