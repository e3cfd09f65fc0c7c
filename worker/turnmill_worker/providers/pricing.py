"""What a reply has cost, by the price list of genai-prices; what is not listed has no price."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, lru_cache
from importlib.metadata import version
from types import ModuleType
from typing import Any, NamedTuple

from turnmill_worker.providers.port import Usage

#: How long a price is believed: some models are cheaper at night, and all may change with a day.
BELIEVED_SECONDS = 300

_MILLION = 1_000_000
_MOST = 10**9  # seconds or characters of one call

#: As the vendors name the tier that costs what the list says without more ado.
STANDARD_TIERS = frozenset({"", "default", "standard"})


def price(provider: str, model: str, usage: Usage, *, at: datetime | None = None) -> Decimal | None:
    """Return the cost in US dollars, or None when it is not known; `at` is when it was used.

    Never 0 for want of a price, of a number of tokens, or of the price of the tier that served the
    call: a budget must be able to tell "free" from "unknown". The list is the one that came with
    the installed package; nothing is fetched.
    """
    counts = counts_of(usage)
    if counts is None or not _is_listed(provider, model, usage.service_tier):
        return None
    terms = _Terms(provider, model, usage.service_tier, at)
    if at is not None:
        return _calculated(terms, counts)
    rates = _rates(terms, int(time.time() // BELIEVED_SECONDS))
    return rates.cost(counts) if rates else _calculated(terms, counts)


@lru_cache(maxsize=1024)
def source(provider: str, model: str, tier: str) -> str:
    """Return what the price is by: the list, its version, and its name of the model."""
    if not _is_listed(provider, model, tier):
        return ""
    found = _asked(_Terms(provider, model, tier), Counts(0))
    served = "" if tier in STANDARD_TIERS else f"@{tier}"
    return f"genai-prices {version('genai-prices')} {found.provider.id}/{found.model.id}{served}"


@lru_cache(maxsize=1024)
def found(provider: str, model: str) -> Any | None:
    """Return the list's entry of a model, whatever it is paid by; None where there is none."""
    try:
        return _asked(_Terms(provider, model, ""), Counts(0))
    except LookupError:
        return None


def calculated(
    provider: str, model: str, counted: Mapping[str, Any], *, at: datetime | None = None
) -> Decimal:
    """Return the price of what was counted, under the list's own names of units."""
    usage = _price_list().Usage(**counted)
    price = _price_list().calc_price(usage, model, provider_id=provider, genai_request_timestamp=at)
    return Decimal(price.total_price)


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
    thought: int = 0  #: contained in `said`
    searches: int = 0
    heard: int = 0  #: sound, contained in `told`
    spoken: int = 0  #: the same in `said`
    file_searches: int = 0
    containers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """US dollars a token, where they do not depend on how many there are; None: not known."""

    call: Decimal
    fresh: Decimal
    cached: Decimal
    written: Decimal
    written_1h: Decimal | None
    output: Decimal
    thought: Decimal
    heard: Decimal | None = None  #: of sound, among what the model is told
    spoken: Decimal | None = None  #: the same among what it says
    search: Decimal | None = None  #: for each
    file_search: Decimal | None = None  #: the same of files that the vendor keeps
    container: Decimal | None = None  #: for each of the vendor's own
    minute: Decimal = Decimal(0)  #: of sound
    character: Decimal = Decimal(0)  #: that is spoken

    def cost_of_sound(self, said: Sequence[Mapping[str, Any]]) -> Decimal:
        """Return the cost of what was heard, or spoken, as far as that is counted so."""
        if not (self.minute or self.character) or not said:
            return Decimal(0)
        return self.minute * seconds_in(said) / 60 + self.character * characters_in(said)

    def cost(self, counts: Counts) -> Decimal | None:
        """Return the cost of one call."""
        dear = Decimal(0)
        if counts.written_1h:
            if self.written_1h is None:
                return None
            dear += self.written_1h * counts.written_1h
        fees = self._fees(counts)
        if fees is None:
            return None
        dear += fees
        for tokens, rate, plain in (
            (counts.heard, self.heard, self.fresh),
            (counts.spoken, self.spoken, self.output),
        ):
            if tokens:
                if rate is None:
                    return None
                dear += (rate - plain) * tokens
        return (
            self.call
            + self.fresh * (counts.told - counts.cached - counts.written)
            + self.cached * counts.cached
            + self.written * (counts.written - counts.written_1h)
            + self.output * (counts.said - counts.thought)
            + self.thought * counts.thought
            + dear
        )

    def _fees(self, counts: Counts) -> Decimal | None:
        """Return what is charged by the piece; None where the price of one is not known."""
        found = Decimal(0)
        for n, rate in (
            (counts.searches, self.search),
            (counts.file_searches, self.file_search),
            (counts.containers, self.container),
        ):
            if n:
                if rate is None:
                    return None
                found += rate * n
        return found


def seconds_in(said: Sequence[Mapping[str, Any]]) -> Decimal:
    """Return how many seconds of sound a vendor says that it has counted."""
    return sum((_figure(one.get("seconds")) for one in said), Decimal(0))


def characters_in(said: Sequence[Mapping[str, Any]]) -> Decimal:
    """Return the same of characters that were spoken."""
    return sum((_figure(one.get("characters")) for one in said), Decimal(0))


def _figure(value: object) -> Decimal:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST:
        return Decimal(str(value))
    return Decimal(0)


def counts_of(usage: Usage) -> Counts | None:
    """Return the counts, or None where one is unknown or they contradict each other.

    What was thought decides nothing where it makes no sense: it is a part of the output.
    """
    told, said, cached = usage.input_tokens, usage.output_tokens, usage.cached_tokens
    written, written_1h = usage.cache_write_tokens, usage.cache_write_1h_tokens
    searches, thought = usage.searches, usage.reasoning_tokens
    if told is None or said is None or cached is None or written is None or written_1h is None:
        return None
    heard, spoken = usage.audio_tokens, usage.audio_output_tokens
    of_files, containers = usage.file_searches, usage.containers
    if searches is None or heard is None or spoken is None:
        return None
    if of_files is None or containers is None or min(of_files, containers) < 0:
        return None
    if min(said, cached, written_1h, searches, heard, spoken) < 0 or written_1h > written:
        return None
    if cached + written > told or heard > told or spoken > said:
        return None
    thought = thought if thought is not None and 0 <= thought <= said else 0
    sounds = (heard, spoken)
    return Counts(
        *(told, said, cached, written, written_1h, thought, searches, *sounds),
        file_searches=of_files,
        containers=containers,
    )


class _Terms(NamedTuple):
    """What a price is looked up by."""

    provider: str
    model: str
    tier: str
    at: datetime | None = None  #: None: now


@lru_cache(maxsize=1024)
def _rates(terms: _Terms, _slot: int) -> Rates | None:
    """Find the rates by asking the list for round numbers; None where they change with the size.

    The list takes 0.1 ms for each answer, as much as a whole turn may cost in the bulk lane.
    """

    def cost(told: int, **also: int) -> Decimal:
        return _sum(terms, Counts(told, **also))

    call = cost(0)
    if cost(1000 * _MILLION) - call != (cost(1) - call) * 1000 * _MILLION:
        return None
    if cost(1000 * _MILLION, said=_MILLION) - cost(1000 * _MILLION) != (
        cost(0, said=_MILLION) - call
    ):
        return None
    lists = _asked(terms, Counts(0)).model_price
    kept_1h = {"written": _MILLION, "written_1h": _MILLION}
    return Rates(
        call=call,
        fresh=(cost(_MILLION) - call) / _MILLION,
        cached=(cost(_MILLION, cached=_MILLION) - call) / _MILLION,
        written=(cost(_MILLION, written=_MILLION) - call) / _MILLION,
        written_1h=(cost(_MILLION, **kept_1h) - call) / _MILLION if _keeps(lists) else None,
        output=(cost(0, said=_MILLION) - call) / _MILLION,
        thought=(cost(0, said=_MILLION, thought=_MILLION) - call) / _MILLION,
        heard=(cost(_MILLION, heard=_MILLION) - call) / _MILLION if _hears(lists) else None,
        spoken=(cost(0, said=_MILLION, spoken=_MILLION) - call) / _MILLION
        if _speaks(lists)
        else None,
        search=(cost(0, searches=1000) - call) / 1000 if _searches(lists) else None,
        file_search=(cost(0, file_searches=1000) - call) / 1000 if _finds(lists) else None,
    )


@lru_cache(maxsize=1024)
def _is_listed(provider: str, model: str, tier: str) -> bool:
    """Tell whether the list knows the model, and a price of its own for the tier."""
    try:
        found = _asked(_Terms(provider, model, tier), Counts(0))
    except LookupError:
        return False
    lists = found.model_price
    if lists.input_mtok is None or lists.output_mtok is None:
        return False  # it is paid by the minute, say: its tokens are not free
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
        found = _asked(_Terms(provider, model, ""), Counts(0))
    except LookupError:
        return None
    most: int | None = found.model.context_window
    return most


def _keeps(lists: Any) -> bool:
    """Tell whether the list has a price of what a cache keeps for longer than usual."""
    return lists.cache_write_1h_mtok is not None


def _searches(lists: Any) -> bool:
    return lists.web_searches_kcount is not None


def _finds(lists: Any) -> bool:
    return getattr(lists, "storage_searches_kcount", None) is not None


def _hears(lists: Any) -> bool:
    return lists.input_audio_mtok is not None


def _speaks(lists: Any) -> bool:
    return lists.output_audio_mtok is not None


def _calculated(terms: _Terms, counts: Counts) -> Decimal | None:
    """Return the cost; None for what the list has no price of, and would take for nothing."""
    found = _asked(terms, counts)
    lists = found.model_price
    if (counts.searches and not _searches(lists)) or (counts.written_1h and not _keeps(lists)):
        return None
    if counts.containers or (counts.file_searches and not _finds(lists)):
        return None
    if (counts.heard and not _hears(lists)) or (counts.spoken and not _speaks(lists)):
        return None
    return Decimal(found.total_price)


def _sum(terms: _Terms, counts: Counts) -> Decimal:
    return Decimal(_asked(terms, counts).total_price)


def _asked(terms: _Terms, counts: Counts) -> Any:
    counted = _price_list().Usage(
        input_tokens=counts.told,
        output_tokens=counts.said,
        cache_read_tokens=counts.cached,
        cache_write_tokens=counts.written,
        cache_write_1h_tokens=counts.written_1h,
        output_reasoning_tokens=counts.thought,
        input_audio_tokens=counts.heard,
        output_audio_tokens=counts.spoken,
        web_searches=counts.searches,
        # What came later than the oldest list that is taken.
        **({"storage_searches": counts.file_searches} if counts.file_searches else {}),
    )
    # What no variant of the price is chosen by is passed over.
    context = {name: value for way in _ways_of(terms.tier) for name, value in way.items()}
    return _price_list().calc_price(
        counted,
        terms.model,
        provider_id=terms.provider,
        genai_request_timestamp=terms.at,
        price_context=context,
    )


def _ways_of(tier: str) -> list[dict[str, str]]:
    """Return the ways in which the list tells a tier from the standard one."""
    if tier in STANDARD_TIERS:
        return []
    return [{"service_tier": tier}, {"speed": tier}, {"processing": tier}]


@cache
def _price_list() -> ModuleType:
    import genai_prices  # noqa: PLC0415  takes 0.25 s, and many a process prices nothing

    return genai_prices
