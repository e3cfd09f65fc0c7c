"""What a reply has cost, by the price list of genai-prices; what is not listed has no price."""

from decimal import Decimal
from functools import cache, lru_cache
from types import ModuleType

from turnmill_worker.providers.base import Usage


def price(provider: str, model: str, usage: Usage) -> Decimal | None:
    """Return the cost in US dollars, or None when it is not known.

    Never 0 for want of a price: a budget must be able to tell "free" from "unknown". The list is
    the one that came with the installed package; nothing is fetched.
    """
    if not _is_listed(provider, model):
        return None
    genai_prices = _price_list()
    try:
        counted = genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
        )
        total = genai_prices.calc_price(counted, model, provider_id=provider).total_price
    except ValueError:  # counts that contradict each other, such as more cached than sent
        return None
    return Decimal(total)


def preload() -> None:
    """Import the price list now, so that no turn waits for it."""
    _price_list()


@lru_cache(maxsize=1024)
def _is_listed(provider: str, model: str) -> bool:
    nothing = _price_list().Usage(input_tokens=0, output_tokens=0)
    try:
        _price_list().calc_price(nothing, model, provider_id=provider)
    except LookupError:
        return False
    return True


@cache
def _price_list() -> ModuleType:
    import genai_prices  # noqa: PLC0415  takes 0.25 s, and many a process prices nothing

    return genai_prices
