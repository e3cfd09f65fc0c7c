"""What hearing and speaking cost: by tokens, seconds or characters, as the vendor counts them."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from turnmill_worker.providers import pricing
from turnmill_worker.providers.own_prices import Prices
from turnmill_worker.providers.port import Usage
from turnmill_worker.providers.pricing import characters_in, counts_of, seconds_in
from turnmill_worker.providers.untrusted import count, mapping


@dataclass(frozen=True, slots=True)
class VoicePrices:
    """Prices of sounds: an operator's own first, where he names the model, and then the list's."""

    prices: Prices = field(default_factory=Prices)

    def price(
        self, provider: str, model: str, usage: Usage, *, at: datetime | None = None
    ) -> Decimal | None:
        """Return the cost in US dollars; None where nobody knows."""
        if self._are_own(provider, model):
            return self.prices.price(provider, model, usage, at=at)
        return _listed(provider, model, usage, at)

    def source(self, provider: str, model: str, tier: str) -> str:
        """Return what such a price is by."""
        if self._are_own(provider, model):
            return self.prices.source(provider, model, tier)
        found = pricing.found(provider, model)
        if found is None:
            return ""
        return f"genai-prices {version('genai-prices')} {found.provider.id}/{found.model.id}"

    def _are_own(self, provider: str, model: str) -> bool:
        return self.prices.names(provider, model)


def _listed(provider: str, model: str, usage: Usage, at: datetime | None) -> Decimal | None:
    """Return the price by the list, of what the list counts the model by.

    A model that is paid by the minute has no price by its tokens, and the other way round: what
    was not counted so is unknown, and never 0.
    """
    found = pricing.found(provider, model)
    if found is None or counts_of(usage) is None:
        return None
    counted = _counted(found.model_price, usage)
    return None if counted is None else pricing.calculated(provider, model, counted, at=at)


def _counted(by: Any, usage: Usage) -> dict[str, Any] | None:
    """Return what was counted under the list's names; None where it counts something else."""
    seconds, characters = seconds_in(usage.said), characters_in(usage.said)
    if _has(by, "audio_hours", "input_audio_hours"):
        heard = {"audio_seconds": seconds, "input_audio_seconds": seconds}
        return heard if seconds else None
    if _has(by, "input_mchars"):
        return {"input_characters": int(characters)} if characters else None
    if not (_has(by, "input_mtok") and _has(by, "output_mtok") and usage.input_tokens):
        return None
    counted = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens or 0}
    if (sounds := _tokens_of_sound(usage)) and _has(by, "input_audio_mtok"):
        counted["input_audio_tokens"] = sounds
    return counted


def _has(by: Any, *names: str) -> bool:
    return any(getattr(by, name, None) is not None for name in names)


def _tokens_of_sound(usage: Usage) -> int:
    """Return how many of the tokens were sound, which is dearer than words."""
    told = sum(
        count(mapping(one.get("input_token_details")).get("audio_tokens")) or 0
        for one in usage.said
    )
    return min(told, usage.input_tokens or 0)
