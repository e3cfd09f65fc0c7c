"""What a reply has cost."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any

import genai_prices
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnmill_worker.providers.port import Usage
from turnmill_worker.providers.pricing import price, source

LIST = f"genai-prices {version('genai-prices')}"

#: Flat ones of both vendors, and ones that are dearer for a long input.
MODELS = (
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-5"),
    ("anthropic", "claude-haiku-4-5"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-pro"),
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    fresh, cached, written, output = (draw(st.integers(0, 10**6)) for _ in range(4))
    return Usage(
        cache_write_1h_tokens=draw(st.integers(0, written)),
        input_tokens=fresh + cached + written,
        output_tokens=output,
        cached_tokens=cached,
        cache_write_tokens=written,
    )


def test_a_listed_model_has_its_price() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    assert price("openai", "gpt-4o-mini", usage) == Decimal("0.75")


@settings(deadline=None)  # a shared machine has its moments
@given(st.sampled_from(MODELS), usages())
def test_a_price_is_the_one_of_the_list_to_the_last_digit(
    model: tuple[str, str], usage: Usage
) -> None:
    if model[0] != "anthropic":  # nobody else has a price of what is kept for an hour
        usage = replace(usage, cache_write_1h_tokens=0)
    listed = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
        ),
        model[1],
        provider_id=model[0],
    )
    assert price(*model, usage) == listed.total_price


def test_a_long_input_is_dearer_where_the_list_says_so() -> None:
    short = price("google", "gemini-2.5-pro", Usage(input_tokens=100_000, output_tokens=0))
    long = price("google", "gemini-2.5-pro", Usage(input_tokens=1_000_000, output_tokens=0))
    assert short is not None
    assert long is not None
    assert long > short * 10


def test_nothing_used_costs_nothing() -> None:
    assert price("openai", "gpt-4o-mini", Usage(input_tokens=0, output_tokens=0)) == 0


@pytest.mark.parametrize(
    "unknown", ["input_tokens", "output_tokens", "cached_tokens", "cache_write_1h_tokens"]
)
def test_what_is_unknown_has_no_price(unknown: str) -> None:
    known: dict[str, Any] = {"input_tokens": 10, "output_tokens": 10}
    assert price("openai", "gpt-4o-mini", Usage(**known)) is not None
    assert price("openai", "gpt-4o-mini", Usage(**{**known, unknown: None})) is None


@pytest.mark.parametrize(
    ("provider", "model", "tier", "cost"),
    [
        ("openai", "gpt-5-mini", "", "0.00225"),
        ("openai", "gpt-5-mini", "default", "0.00225"),
        ("openai", "gpt-5-mini", "flex", "0.001125"),
        ("openai", "gpt-5-mini", "priority", "0.00405"),
        ("openai", "gpt-5-mini", "batch", "0.001125"),
        ("openai", "gpt-5-mini", "scale", None),
        ("openai", "gpt-4.1-nano", "flex", None),
        ("anthropic", "claude-sonnet-4-5", "standard", "0.018"),
        ("anthropic", "claude-sonnet-4-5", "batch", "0.009"),
        ("anthropic", "claude-sonnet-4-5", "priority", None),
    ],
)
def test_the_tier_that_served_the_call_decides_its_price(
    provider: str, model: str, tier: str, cost: str | None
) -> None:
    usage = Usage(input_tokens=1000, output_tokens=1000, service_tier=tier)
    assert price(provider, model, usage) == (None if cost is None else Decimal(cost))


@pytest.mark.parametrize(
    ("model", "heard", "spoken", "cost"),
    [
        ("gpt-audio", 0, 0, "0.0125"),
        ("gpt-audio", 1000, 0, "0.042"),
        ("gpt-audio", 400, 250, "0.0378"),
        ("gpt-audio", 1001, 0, None),
        ("gpt-audio", None, 0, None),
        ("gpt-4o-audio-preview", 0, 0, "0.0125"),
        ("gpt-4o-audio-preview", 400, 0, None),
        ("gpt-4o-audio-preview", 0, 400, None),
    ],
)
def test_sound_is_dearer_than_words_and_of_unknown_cost_where_no_list_has_its_price(
    model: str, heard: int | None, spoken: int | None, cost: str | None
) -> None:
    # 2.50 and 10 dollars for a million words told and said, 32 and 64 for as many of sound
    usage = Usage(
        input_tokens=1000, output_tokens=1000, audio_tokens=heard, audio_output_tokens=spoken
    )
    for at in (None, datetime.now(UTC)):
        found = price("openai", model, usage, at=at)
        assert found == (None if cost is None else Decimal(cost))


def test_what_is_kept_in_a_cache_for_an_hour_is_dearer_than_what_is_kept_for_minutes() -> None:
    written: dict[str, Any] = {"input_tokens": 10**5, "output_tokens": 0}
    written["cache_write_tokens"] = 10**5
    model = ("anthropic", "claude-sonnet-4-5-20250929")
    assert price(*model, Usage(**written)) == Decimal("0.375")
    assert price(*model, Usage(**written, cache_write_1h_tokens=10**5)) == Decimal("0.6")
    assert price(*model, Usage(**written, cache_write_1h_tokens=10**5 + 1)) is None


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "llama-of-my-own"), ("openai", ""), ("mock", "mock"), ("no-such-vendor", "gpt-4o")],
)
def test_what_is_not_listed_has_no_price_rather_than_none_to_pay(provider: str, model: str) -> None:
    assert price(provider, model, Usage(input_tokens=10, output_tokens=10)) is None


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=1, output_tokens=1, cached_tokens=2),
        Usage(input_tokens=1, output_tokens=1, cache_write_tokens=2),
        Usage(input_tokens=-1, output_tokens=1),
        Usage(input_tokens=1, output_tokens=-1),
    ],
)
def test_counts_that_make_no_sense_have_no_price_and_harm_nobody(usage: Usage) -> None:
    assert price("openai", "gpt-4o-mini", usage) is None


def test_what_the_list_has_no_price_of_is_not_taken_for_free() -> None:
    searched = Usage(input_tokens=10, output_tokens=10, searches=2)
    plain = Usage(input_tokens=10, output_tokens=10)
    cost, more = (price("anthropic", "claude-haiku-4-5", one) for one in (plain, searched))
    assert cost is not None
    assert more == cost + Decimal("0.02")
    assert price("openai", "o1", plain) is not None
    assert price("openai", "o1", searched) is None
    found = Usage(input_tokens=10, output_tokens=10, file_searches=2)
    cost, more = (price("openai", "gpt-5-mini", one) for one in (plain, found))
    assert cost is not None
    assert more == cost + Decimal("0.005")
    assert price("openai", "o1", found) is None
    ran = Usage(input_tokens=10, output_tokens=10, containers=1)
    assert price("openai", "gpt-5-mini", ran) is None
    for odd in (None, -1):
        assert price("openai", "gpt-5-mini", replace(plain, file_searches=odd)) is None
        assert price("openai", "gpt-5-mini", replace(plain, containers=odd)) is None
    day = datetime(2026, 11, 1, tzinfo=UTC)
    assert price("openai", "gpt-5-mini", found, at=day) == more
    assert price("openai", "gpt-5-mini", ran, at=day) is None
    kept = Usage(input_tokens=10, output_tokens=1, cache_write_tokens=9, cache_write_1h_tokens=9)
    assert price("openai", "gpt-5-mini", kept) is None
    assert price("openai", "gpt-live-1", plain) is None  # it is paid by the minute


@pytest.mark.parametrize("model", ["gpt-5", "gpt-5-mini", "gpt-4o-mini", "gpt-4.1", "o3"])
def test_the_tier_that_is_named_default_costs_what_no_tier_does(model: str) -> None:
    used: dict[str, Any] = {"input_tokens": 10**6, "output_tokens": 10**6, "cached_tokens": 10**5}
    assert price("openai", model, Usage(**used)) == price(
        "openai", model, Usage(**used, service_tier="default")
    )


def test_a_price_says_what_it_is_by() -> None:
    assert source("openai", "gpt-5-mini-2025-08-07", "") == f"{LIST} openai/gpt-5-mini"
    assert source("openai", "gpt-5-mini", "flex") == f"{LIST} openai/gpt-5-mini@flex"
    assert source("openai", "gpt-5-mini", "scale") == ""
    assert source("mock", "mock", "") == ""


def test_what_was_used_before_a_price_has_changed_costs_what_it_did() -> None:
    usage = Usage(input_tokens=250_000, output_tokens=1000)
    early = price("anthropic", "claude-opus-4-6", usage, at=datetime(2026, 2, 10, tzinfo=UTC))
    late = price("anthropic", "claude-opus-4-6", usage, at=datetime(2026, 11, 1, tzinfo=UTC))
    assert early is not None
    assert late is not None
    assert early > late
