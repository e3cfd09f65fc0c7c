"""Prices of an operator's own: a file that says what models cost, before any list is asked."""

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from turnmill.domain.errors import InvalidSetting
from turnmill.domain.price_names import names_model
from turnmill_worker.providers import pricing
from turnmill_worker.providers.port import Usage
from turnmill_worker.providers.pricing import (
    STANDARD_TIERS,
    Counts,
    Rates,
    characters_in,
    counts_of,
    seconds_in,
)

_VARIABLE = "TURNMILL_PRICES"
_MOST_BYTES = 1_000_000
_MOST_DOLLARS = Decimal(1_000_000)
_MILLION = 1_000_000
#: US dollars per million tokens, but for calls, searches and containers: for each.
_RATES = (
    *("input", "cached", "cache_write", "cache_write_1h", "output", "reasoning"),
    *("audio_input", "audio_output"),  # sound, where the model hears or speaks itself
    *("call", "search", "file_search", "container"),
    *("minute", "characters"),  # of sound; and per million of what is spoken
)
#: By what sound may be paid for, where it is not by tokens.
_OF_SOUND = frozenset({"minute", "characters"})
#: What may be all that is paid for.
_ALONE = frozenset({"call", "characters", "minute"})
_EXAMPLE = '{"openai/gpt-5": {"input": 1.25, "output": 10}}'


class Price(Protocol):
    """Says what a call has cost."""

    def __call__(
        self, provider: str, model: str, usage: Usage, *, at: datetime | None = None
    ) -> Decimal | None:
        """Return US dollars; None where nobody knows. `at` is when it was used; None: now."""
        ...


class Source(Protocol):
    """Says what a price is by."""

    def __call__(self, provider: str, model: str, tier: str) -> str:
        """Return the list, or the file, and its name of the model; "" where it has none."""
        ...


@dataclass(frozen=True, slots=True)
class Prices:
    """What calls cost, and by what that is known."""

    price: Price = pricing.price
    source: Source = pricing.source
    names: Callable[[str, str], bool] = lambda *_: False  #: is a price of the model an operator's?
    models: tuple[str, ...] = ()  #: what an operator's prices are of, as they name it


def prices_in(file: Path | None, otherwise: Prices) -> Prices:
    """Return the file's prices, and `otherwise`'s for what it does not name.

    Without a file these are `otherwise` itself. Raises InvalidSetting for a file that cannot be
    read, or says what is no price; it quotes names of models, and no prices.
    """
    if file is None:
        return otherwise
    own = OwnPrices(_read(file))

    def price(
        provider: str, model: str, usage: Usage, *, at: datetime | None = None
    ) -> Decimal | None:
        if not own.names(provider, model):
            return otherwise.price(provider, model, usage, at=at)
        return own.price(provider, model, usage)

    def source(provider: str, model: str, tier: str) -> str:
        if not own.names(provider, model):
            return otherwise.source(provider, model, tier)
        return own.source(provider, model, tier)

    return Prices(price, source, own.names, own.patterns)


@dataclass(frozen=True, slots=True)
class _Own:
    """Rates, and what they are for."""

    pattern: str  #: provider/model, in which * stands for anything
    tier: str  #: as the vendor names it; "": the standard one
    rates: Rates
    of: frozenset[str]  #: what the file has a price of

    def knows(self, counts: Counts, said: Sequence[Mapping[str, Any]]) -> bool:
        """Tell whether it has a price of what was counted: of sound that may be one of three."""
        seconds, characters = seconds_in(said), characters_in(said)
        if "call" in self.of or not (seconds or characters or self.of & _OF_SOUND):
            return True
        return bool(
            ("input" in self.of and (counts.told or counts.said))
            or ("minute" in self.of and seconds)
            or ("characters" in self.of and characters)
        )


class OwnPrices:
    """Rates by model and tier. A name that is written out goes before patterns, in their order."""

    def __init__(self, named: Mapping[str, tuple[Rates, frozenset[str]]]) -> None:
        """By `provider/model` or `provider/model@tier`, each with `*` where wanted.

        Some names of models have a version behind an `@`: a name as a whole may be one, too.
        """
        split = [(*name.partition("@")[::2], *found) for name, found in named.items()]
        split += [(name, "", *found) for name, found in named.items() if "@" in name]
        self._all = sorted(
            [_Own(*one) for one in split],
            key=lambda one: ("*" in one.pattern, "@" in one.pattern and "*" in one.pattern),
        )
        self._found = lru_cache(maxsize=1024)(self._find)

    @property
    def patterns(self) -> tuple[str, ...]:
        """Return what there are rates of: provider/model, in which * stands for anything."""
        return tuple(one.pattern for one in self._all)

    def names(self, provider: str, model: str) -> bool:
        """Tell whether the file has a price of the model, in whatever tier."""
        return bool(self._found(provider, model))

    def price(self, provider: str, model: str, usage: Usage) -> Decimal | None:
        """Return the cost in US dollars; None for a tier without a price, or unknown tokens."""
        counts = counts_of(usage)
        own = self._found(provider, model).get(_tier(usage.service_tier))
        if counts is None or own is None or not own.knows(counts, usage.said):
            return None
        cost = own.rates.cost(counts)
        return None if cost is None else cost + own.rates.cost_of_sound(usage.said)

    def source(self, provider: str, model: str, tier: str) -> str:
        """Return the entry of the file that is the price; "" for a tier without one."""
        own = self._found(provider, model).get(_tier(tier))
        if own is None:
            return ""
        return f"{_VARIABLE} {own.pattern}" + (f"@{own.tier}" if own.tier else "")

    def _find(self, provider: str, model: str) -> dict[str, _Own]:
        found: dict[str, _Own] = {}
        for one in self._all:
            if names_model(one.pattern, provider, model):
                found.setdefault(one.tier, one)
        return found


def _tier(named: str) -> str:
    return "" if named in STANDARD_TIERS else named


def _read(file: Path) -> dict[str, tuple[Rates, frozenset[str]]]:
    is_toml = file.suffix == ".toml"
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise _refused(f"is larger than {_MOST_BYTES} bytes", hint="name several models by *")
        said = _parsed(text, toml=is_toml)
    except OSError as error:
        why = f"cannot be read: {type(error).__name__}"
        raise _refused(why, hint="the path of a JSON or TOML file") from None
    except (ValueError, RecursionError):
        raise _refused("is no TOML" if is_toml else "is no JSON", hint=_EXAMPLE) from None
    if not isinstance(said, dict):
        raise _refused("holds no object", hint=_EXAMPLE)
    return {name: (_rates(name, found), frozenset(found)) for name, found in said.items()}


def _parsed(text: bytes, *, toml: bool) -> Any:
    if toml:
        return tomllib.loads(text.decode(), parse_float=Decimal)
    return json.loads(text, parse_float=Decimal, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object; one of two prices under one name would be passed over in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _rates(name: str, said: object) -> Rates:
    if "/" not in name and name != "*":
        raise _refused(f"names {_shown(name)}, which is no provider/model", hint=_EXAMPLE)
    if not isinstance(said, dict):
        raise _refused(f"says of {_shown(name)} what are no prices", hint=_EXAMPLE)
    if unknown := sorted(set(said) - set(_RATES)):
        raise _refused(
            f"says {_shown(unknown[0])} of {_shown(name)}", hint=f"known are {', '.join(_RATES)}"
        )
    if not ({"input", "output"} <= set(said) or _ALONE & set(said)):
        raise _refused(f"lacks input or output of {_shown(name)}", hint="0 for what costs nothing")
    dollars = {rate: _dollars(name, rate, value) for rate, value in said.items()}
    fresh, output = (dollars.get(rate, Decimal(0)) for rate in ("input", "output"))
    written = dollars.get("cache_write", fresh)
    return Rates(
        call=dollars.get("call", Decimal(0)),
        fresh=fresh / _MILLION,
        cached=dollars.get("cached", fresh) / _MILLION,
        written=written / _MILLION,
        written_1h=dollars.get("cache_write_1h", written) / _MILLION,
        output=output / _MILLION,
        thought=dollars.get("reasoning", output) / _MILLION,
        heard=dollars.get("audio_input", fresh) / _MILLION,
        spoken=dollars.get("audio_output", output) / _MILLION,
        search=dollars.get("search"),
        file_search=dollars.get("file_search"),
        container=dollars.get("container"),
        minute=dollars.get("minute", Decimal(0)),
        character=dollars.get("characters", Decimal(0)) / _MILLION,
    )


def _dollars(name: str, rate: str, value: object) -> Decimal:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        dollars = Decimal(value)
        if dollars.is_finite() and 0 <= dollars <= _MOST_DOLLARS:
            return dollars
    raise _refused(
        f"says of {_shown(name)} a price of {rate} that is none",
        hint="a number of US dollars from 0: per million tokens, call or search",
    )


def _shown(name: str) -> str:
    return repr(name[:100])


def _refused(why: str, *, hint: str) -> InvalidSetting:
    return InvalidSetting(f"{_VARIABLE}: the file {why}", hint=hint)
