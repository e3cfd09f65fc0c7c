"""What a reply has cost, by the price list of genai-prices; what is not listed has no price."""

import time
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from types import ModuleType
from typing import NamedTuple

from turnmill_worker.providers.base import Usage

#: How long a price is believed: some models are cheaper at night, and all may change with a day.
_BELIEVED_SECONDS = 300

_MILLION = 1_000_000


def price(provider: str, model: str, usage: Usage) -> Decimal | None:
    """Return the cost in US dollars, or None when it is not known.

    Never 0 for want of a price: a budget must be able to tell "free" from "unknown". The list is
    the one that came with the installed package; nothing is fetched.
    """
    counts = _counts(usage)
    if counts is None or not _is_listed(provider, model):
        return None
    rates = _rates(provider, model, int(time.time() // _BELIEVED_SECONDS))
    return rates.cost(counts) if rates else _calculated(provider, model, usage)


def preload() -> None:
    """Import the price list now, so that no turn waits for it."""
    _price_list()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """US dollars a token, where they do not depend on how many there are."""

    call: Decimal
    fresh: Decimal
    cached: Decimal
    written: Decimal
    output: Decimal

    def cost(self, counts: "_Counts") -> Decimal:
        """Return the cost of one call."""
        return (
            self.call
            + self.fresh * counts.fresh
            + self.cached * counts.cached
            + self.written * counts.written
            + self.output * counts.output
        )


@lru_cache(maxsize=1024)
def _rates(provider: str, model: str, _slot: int) -> Rates | None:
    """Find the rates by asking the list for round numbers; None where they change with the size.

    The list takes 0.1 ms for each answer, as much as a whole turn may cost in the bulk lane.
    """

    def cost(tokens: int, **also: int) -> Decimal:
        return _calculated(provider, model, Usage(input_tokens=tokens, **also))

    call = cost(0)
    if cost(1000 * _MILLION) - call != (cost(1) - call) * 1000 * _MILLION:
        return None
    if cost(1000 * _MILLION, output_tokens=_MILLION) - cost(1000 * _MILLION) != (
        cost(0, output_tokens=_MILLION) - call
    ):
        return None
    return Rates(
        call=call,
        fresh=(cost(_MILLION) - call) / _MILLION,
        cached=(cost(_MILLION, cached_tokens=_MILLION) - call) / _MILLION,
        written=(cost(_MILLION, cache_write_tokens=_MILLION) - call) / _MILLION,
        output=(cost(0, output_tokens=_MILLION) - call) / _MILLION,
    )


class _Counts(NamedTuple):
    fresh: int
    cached: int
    written: int
    output: int


def _counts(usage: Usage) -> _Counts | None:
    """Return the tokens by their prices, or None where some are unknown or make no sense."""
    given, output = usage.input_tokens, usage.output_tokens
    cached, written = usage.cached_tokens, usage.cache_write_tokens
    if given is None or output is None or cached is None or written is None:
        return None
    counts = _Counts(fresh=given - cached - written, cached=cached, written=written, output=output)
    return counts if min(counts) >= 0 else None


@lru_cache(maxsize=1024)
def _is_listed(provider: str, model: str) -> bool:
    try:
        _calculated(provider, model, Usage())
    except LookupError:
        return False
    return True


def _calculated(provider: str, model: str, usage: Usage) -> Decimal:
    counted = _price_list().Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    return Decimal(_price_list().calc_price(counted, model, provider_id=provider).total_price)


@cache
def _price_list() -> ModuleType:
    import genai_prices  # noqa: PLC0415  takes 0.25 s, and many a process prices nothing

    return genai_prices
