"""What a reply has cost."""

from decimal import Decimal

import pytest

from turnmill_worker.pricing import price
from turnmill_worker.providers.base import Usage


def test_a_listed_model_has_its_price() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    assert price("openai", "gpt-4o-mini", usage) == Decimal("0.75")


def test_tokens_of_a_cache_have_a_price_of_their_own() -> None:
    plain = price("anthropic", "claude-sonnet-4-5", Usage(input_tokens=100_000))
    read = price(
        "anthropic", "claude-sonnet-4-5", Usage(input_tokens=100_000, cached_tokens=100_000)
    )
    written = price(
        "anthropic", "claude-sonnet-4-5", Usage(input_tokens=100_000, cache_write_tokens=100_000)
    )
    assert plain is not None
    assert read is not None
    assert written is not None
    assert read < plain < written


def test_nothing_used_costs_nothing() -> None:
    assert price("openai", "gpt-4o-mini", Usage()) == 0


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "llama-of-my-own"), ("openai", ""), ("mock", "mock"), ("no-such-vendor", "gpt-4o")],
)
def test_what_is_not_listed_has_no_price_rather_than_none_to_pay(provider: str, model: str) -> None:
    assert price(provider, model, Usage(input_tokens=10, output_tokens=10)) is None


@pytest.mark.parametrize("usage", [Usage(input_tokens=1, cached_tokens=2), Usage(input_tokens=-1)])
def test_counts_that_make_no_sense_have_no_price_and_harm_nobody(usage: Usage) -> None:
    assert price("openai", "gpt-4o-mini", usage) is None
