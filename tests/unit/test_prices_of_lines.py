"""What lines of a vendor's batch cost where no list has a price of batches: one half, and fees."""

from decimal import Decimal

from tests.claims import a_claim
from turnmill_worker.native.taking import Prices
from turnmill_worker.providers.port import Done, Usage


def standard(provider: str, model: str, usage: Usage) -> Decimal | None:
    """Return a dollar a token and ten a search, in the standard tier alone."""
    if usage.service_tier or usage.searches is None or usage.input_tokens is None:
        return None
    return Decimal(usage.input_tokens + 10 * usage.searches)


def cost(usage: Usage) -> Decimal | None:
    found, _ = Prices(price=standard, source=lambda *_: "a list").of(
        a_claim(), Done(text="", usage=usage)
    )
    return found


def test_tokens_cost_one_half_and_searches_what_they_always_do() -> None:
    used = Usage(input_tokens=8, output_tokens=0, service_tier="batch")
    assert cost(used) == 4
    assert cost(Usage(input_tokens=8, searches=3, service_tier="batch")) == 34
    assert cost(Usage(input_tokens=8, searches=None, service_tier="batch")) is None
