"""Pricing anew: what a call that was kept would cost by the lists of this process."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from turnmill.store.nouns.repricing import PaidCall
from turnmill.verbs.repricing import NewPrice
from turnmill_worker.providers.boundary import attempted, cost_of
from turnmill_worker.providers.own_prices import Prices, prices_in
from turnmill_worker.providers.port import Usage
from turnmill_worker.providers.pricing import counts_of
from turnmill_worker.providers.usages import read_again, summed


def price_again(file: Path | None = None) -> Callable[[PaidCall], NewPrice]:
    """Return what prices calls by `file`, as TURNMILL_PRICES names one, and by the price list.

    By what the list said on the day of the call, and by the file as it is. Raises InvalidSetting.
    """
    prices = prices_in(file, Prices())

    def price(call: PaidCall) -> NewPrice:
        calls = _calls(call)
        if any(counts_of(usage) is None for _, usage in calls):
            return NewPrice(None, counted=False)
        costs = [_cost(prices, call, model, usage) for model, usage in calls]
        known = [cost for cost in costs if cost is not None]
        if len(known) < len(costs):
            return NewPrice(None)
        model, last = calls[-1]
        by = prices.source(call.provider, model, last.service_tier)
        return NewPrice(sum(known, Decimal(0)), by)

    return price


def _cost(prices: Prices, call: PaidCall, model: str, usage: Usage) -> Decimal | None:
    return cost_of(lambda: prices.price(call.provider, model, usage, at=call.at))


def _calls(call: PaidCall) -> list[tuple[str, Usage]]:
    """Return the model and usage of each call, as the vendor said it, or as it was counted.

    What the vendor said may be of a part only: a call that was cut has been estimated.
    """
    counted = Usage(
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        cached_tokens=call.cached_tokens,
        cache_write_tokens=call.cache_write_tokens,
        cache_write_1h_tokens=_kept_long(call),
        service_tier=call.service_tier,
    )
    found = attempted("usage that was kept", lambda: read_again(call.provider, call.usage or ()))
    if not found:
        return [(call.model, counted)]
    said = found[0][1]
    for _, usage in found[1:]:
        said = summed(said, usage)
    if (said.input_tokens, said.output_tokens) != (call.input_tokens, call.output_tokens):
        return [(call.model, counted)]
    return [(model or call.model, usage) for model, usage in found]


def _kept_long(call: PaidCall) -> int | None:
    """Return what was kept for an hour; of what was not kept at all that is known."""
    if call.cache_write_1h_tokens is None and call.cache_write_tokens == 0:
        return 0
    return call.cache_write_1h_tokens
