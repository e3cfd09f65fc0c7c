"""What a reply has cost, by the price list of genai-prices; what is not listed has no price."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, lru_cache
from types import ModuleType
from typing import Any, NamedTuple

from turnmill_worker.providers.port import Usage

#: How long a price is believed: some models are cheaper at night, and all may change with a day.
_BELIEVED_SECONDS = 300

_MILLION = 1_000_000

#: As the vendors name the tier that costs what the list says without more ado.
STANDARD_TIERS = frozenset({"", "default", "standard"})


def price(provider: str, model: str, usage: Usage) -> Decimal | None:
    """Return the cost in US dollars, or None when it is not known.

    Never 0 for want of a price, of a number of tokens, or of the price of the tier that served the
    call: a budget must be able to tell "free" from "unknown". The list is the one that came with
    the installed package; nothing is fetched.
    """
    counts = counts_of(usage)
    if counts is None or not _is_listed(provider, model, usage.service_tier):
        return None
    terms = (provider, model, usage.service_tier)
    rates = _rates(*terms, int(time.time() // _BELIEVED_SECONDS))
    return rates.cost(counts) if rates else _calculated(*terms, counts)


def preload() -> None:
    """Import the price list now, so that no turn waits for it."""
    _price_list()


class Counts(NamedTuple):
    """Tokens, all of them known; those of a cache are contained in the input."""

    told: int
    said: int = 0
    cached: int = 0
    written: int = 0
    written_1h: int = 0  #: contained in `written`


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """US dollars a token, where they do not depend on how many there are."""

    call: Decimal
    fresh: Decimal
    cached: Decimal
    written: Decimal
    written_1h: Decimal
    output: Decimal

    def cost(self, counts: Counts) -> Decimal:
        """Return the cost of one call."""
        return (
            self.call
            + self.fresh * (counts.told - counts.cached - counts.written)
            + self.cached * counts.cached
            + self.written * (counts.written - counts.written_1h)
            + self.written_1h * counts.written_1h
            + self.output * counts.said
        )


def counts_of(usage: Usage) -> Counts | None:
    """Return the counts, or None where one is unknown or they contradict each other."""
    told, said, cached = usage.input_tokens, usage.output_tokens, usage.cached_tokens
    written, written_1h = usage.cache_write_tokens, usage.cache_write_1h_tokens
    if told is None or said is None or cached is None or written is None or written_1h is None:
        return None
    makes_sense = min(said, cached, written_1h) >= 0 and written_1h <= written
    if not makes_sense or cached + written > told:
        return None
    return Counts(told, said, cached, written, written_1h)


@lru_cache(maxsize=1024)
def _rates(provider: str, model: str, tier: str, _slot: int) -> Rates | None:
    """Find the rates by asking the list for round numbers; None where they change with the size.

    The list takes 0.1 ms for each answer, as much as a whole turn may cost in the bulk lane.
    """

    def cost(told: int, **also: int) -> Decimal:
        return _calculated(provider, model, tier, Counts(told, **also))

    call = cost(0)
    if cost(1000 * _MILLION) - call != (cost(1) - call) * 1000 * _MILLION:
        return None
    if cost(1000 * _MILLION, said=_MILLION) - cost(1000 * _MILLION) != (
        cost(0, said=_MILLION) - call
    ):
        return None
    kept_1h = {"written": _MILLION, "written_1h": _MILLION}
    return Rates(
        call=call,
        fresh=(cost(_MILLION) - call) / _MILLION,
        cached=(cost(_MILLION, cached=_MILLION) - call) / _MILLION,
        written=(cost(_MILLION, written=_MILLION) - call) / _MILLION,
        written_1h=(cost(_MILLION, **kept_1h) - call) / _MILLION,
        output=(cost(0, said=_MILLION) - call) / _MILLION,
    )


@lru_cache(maxsize=1024)
def _is_listed(provider: str, model: str, tier: str) -> bool:
    """Tell whether the list knows the model, and a price of its own for the tier."""
    try:
        found = _asked(provider, model, tier, Counts(0))
    except LookupError:
        return False
    return tier in STANDARD_TIERS or any(way in _variants_of(found) for way in _ways_of(tier))


def _variants_of(found: Any) -> list[dict[str, str]]:
    """Return what a price of its own is chosen by now; a borrowed model has none."""
    if not any(found.model is one for one in found.provider.models):
        return []
    now = datetime.now(UTC)
    return [
        variant.when
        for variant in found.model.price_variants or ()
        if variant.constraint is None or variant.constraint.active(now)
    ]


def window(provider: str, model: str) -> int | None:
    """Return how many tokens the model takes in, or None where the list does not say."""
    try:
        found: int | None = _asked(provider, model, "", Counts(0)).model.context_window
    except LookupError:
        return None
    return found


def _calculated(provider: str, model: str, tier: str, counts: Counts) -> Decimal:
    return Decimal(_asked(provider, model, tier, counts).total_price)


def _asked(provider: str, model: str, tier: str, counts: Counts) -> Any:
    counted = _price_list().Usage(
        input_tokens=counts.told,
        output_tokens=counts.said,
        cache_read_tokens=counts.cached,
        cache_write_tokens=counts.written,
        cache_write_1h_tokens=counts.written_1h,
    )
    # What no variant of the price is chosen by is passed over.
    terms = {name: value for way in _ways_of(tier) for name, value in way.items()}
    return _price_list().calc_price(counted, model, provider_id=provider, price_context=terms)


def _ways_of(tier: str) -> list[dict[str, str]]:
    """Return the ways in which the list tells a tier from the standard one."""
    if tier in STANDARD_TIERS:
        return []
    return [{"service_tier": tier}, {"speed": tier}, {"processing": tier}]


@cache
def _price_list() -> ModuleType:
    import genai_prices  # noqa: PLC0415  takes 0.25 s, and many a process prices nothing

    return genai_prices
