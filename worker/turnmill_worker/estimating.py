"""Estimating for clients: what lines of a batch would have models read and say, and its price."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from uuid import UUID

from turnmill.domain.batch_estimates import AskedLine, LineEstimate, Money
from turnmill.domain.batch_modes import BATCHED
from turnmill.domain.batches import BatchMode
from turnmill.domain.content import Message, Text, strings_of
from turnmill.domain.counting import bytes_of
from turnmill.domain.errors import ProviderError, Rejected
from turnmill.domain.ids import SessionId, TurnId
from turnmill.settings import Settings
from turnmill_worker.providers.boundary import cost_of
from turnmill_worker.providers.counting import most_cost, most_of
from turnmill_worker.providers.own_prices import Prices, prices_in
from turnmill_worker.providers.port import Expects, Request, Usage
from turnmill_worker.providers.registry import ProviderRegistry

_NOBODY = UUID(int=0)
#: As the price list names the tiers.
_TIERS: Mapping[BatchMode, str] = MappingProxyType(
    {BatchMode.LIVE: "", BatchMode.NATIVE: "batch", BatchMode.FLEX: "flex"}
)
#: Of English prose, in bytes; of other scripts.
_OF_TOKEN, _OF_OTHER = 4, 3
_AROUND_MESSAGE = 4
#: Stands for what nobody has said yet: its tokens are added.
_REPLY = Message("assistant", (Text(""),))
#: A reply of a model that has never answered here.
_TYPICAL_REPLY = 400


class Estimator:
    """Estimates line by line; what is found out of a model is kept."""

    def __init__(self, settings: Settings, typical: Mapping[tuple[str, str], int]) -> None:
        """`typical` is how many tokens replies of a model have had here. Raises InvalidSetting."""
        self._providers = ProviderRegistry()
        self._prices = prices_in(settings.prices, Prices())
        self._typical = typical
        self._provider = lru_cache(maxsize=64)(self._found)

    def of(self, line: AskedLine) -> LineEstimate | None:
        """Return what the line may take; None where nobody can tell."""
        provider = self._provider(line.provider)
        told, said, own, costs, bounds = 0, 0, 0, _Sums(), _Sums()
        history, replies, most_replies = [*line.before], 0, 0
        for messages in line.turns:
            request = _request(line, history, messages)
            try:
                most = most_of(provider, request, ())
            except ProviderError:
                return None
            if most.input_tokens is None or most.output_tokens is None:
                return None
            expected = self._expected(line, request, most)
            own = most.input_tokens
            # A later turn reads the replies to those before it, too, and all what stood before.
            before = line.read // _OF_TOKEN + replies
            expected = replace(expected, input_tokens=(expected.input_tokens or 0) + before)
            awaited = line.awaited * most.output_tokens
            most = _grown(most, by=line.read + awaited + most_replies)
            for mode, tier in _TIERS.items():
                costs.add(mode, self._cost(line, expected, tier))
                bounds.add(mode, self._bound(line, most, tier))
            told += expected.input_tokens or 0
            said += expected.output_tokens or 0
            replies += expected.output_tokens or 0
            most_replies += most.output_tokens or 0
            history += [*messages, _REPLY]
        money = {mode: Money(costs.of(mode), bounds.of(mode)) for mode in _TIERS}
        return LineEstimate(told, said, money, grows=own + most_replies)

    def priced(
        self, provider: str, model: str, *, input_tokens: int, output_tokens: int
    ) -> Mapping[BatchMode, Decimal | None]:
        """Return what so many tokens cost in each way of running; None where nobody knows."""
        line = AskedLine(
            provider=provider, model=model, system_prompt=None, settings={}, before=(), turns=()
        )
        usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
        return {mode: self._cost(line, usage, tier) for mode, tier in _TIERS.items()}

    def _found(self, name: str) -> object:
        """Return the provider; None where it cannot be used here: then bytes are what is known."""
        try:
            return self._providers.get(name)
        except Rejected:
            return None

    def _expected(self, line: AskedLine, request: Request, most: Usage) -> Usage:
        provider = self._provider(line.provider)
        if isinstance(provider, Expects):
            return provider.expected(request)
        typical = self._typical.get((line.provider, line.model), _TYPICAL_REPLY)
        said = min(typical, most.output_tokens or typical)
        return Usage(input_tokens=_told(request), output_tokens=said)

    def _cost(self, line: AskedLine, usage: Usage, tier: str) -> Decimal | None:
        priced = replace(usage, service_tier=tier)
        found = cost_of(lambda: self._prices.price(line.provider, line.model, priced))
        if found is None and tier == _TIERS[BatchMode.NATIVE] and line.provider in BATCHED:
            usual = self._cost(line, usage, "")
            return None if usual is None else usual / 2
        return found

    def _bound(self, line: AskedLine, most: Usage, tier: str) -> Decimal | None:
        priced = most if tier == "" else replace(most, service_tier=tier)
        if tier and self._cost(line, most, tier) is None:
            return None
        return most_cost(self._prices.price, line.provider, line.model, priced)


class _Sums:
    """Sums by mode, of which an unknown part makes an unknown sum."""

    def __init__(self) -> None:
        self._sums: dict[BatchMode, Decimal | None] = {}

    def add(self, mode: BatchMode, amount: Decimal | None) -> None:
        before = self._sums.get(mode, Decimal(0))
        self._sums[mode] = None if amount is None or before is None else before + amount

    def of(self, mode: BatchMode) -> Decimal | None:
        return self._sums.get(mode)


def _grown(most: Usage, *, by: int) -> Usage:
    told = (most.input_tokens or 0) + by
    written = None if most.cache_write_tokens is None else most.cache_write_tokens + by
    return replace(most, input_tokens=told, cache_write_tokens=written or 0)


def _request(line: AskedLine, history: Sequence[Message], messages: Sequence[Message]) -> Request:
    schema = line.settings.get("response_format")
    return Request(
        turn_id=TurnId(_NOBODY),
        session_id=SessionId(_NOBODY),
        attempt=1,
        fence=0,
        model=line.model,
        messages=tuple(messages),
        history=tuple(history),
        system_prompt=line.system_prompt,
        settings=line.settings,
        output_schema=schema if isinstance(schema, dict) else None,
    )


def _told(request: Request) -> int:
    said = (*request.history, *request.messages)
    texts = [one for message in said for part in message.parts for one in strings_of(part)]
    if request.system_prompt:
        texts.append(request.system_prompt)
    tokens = sum(
        len(one) // _OF_TOKEN if one.isascii() else bytes_of(one) // _OF_OTHER for one in texts
    )
    return tokens + _AROUND_MESSAGE * len(texts)
