"""Counting: what a call may take at the most, before anybody is paid.

A provider that knows how its vendor counts says it itself (`Bounds`). Of any other one the input is
bounded by its bytes: see `turnmill.domain.counting`.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache, partial
from typing import Any

from turnmill.domain.budgets import PLACES
from turnmill.domain.content import Message
from turnmill.domain.counting import OF_MESSAGE, Counted, most_tokens
from turnmill.domain.errors import Rejected
from turnmill.store.codec import StoredHistory
from turnmill_worker.providers.boundary import attempted, cost_of
from turnmill_worker.providers.decimals import MONEY
from turnmill_worker.providers.fields import usage_of
from turnmill_worker.providers.foreign import field
from turnmill_worker.providers.port import Bounds, Request, Usage
from turnmill_worker.providers.pricing import BELIEVED_SECONDS

#: Hardly a model says more in one call: a provider that knows one says so. The setting
#: `max_output_tokens` lets it say less.
MOST_OUTPUT = 131_072

#: Returns US dollars for provider, model and usage; None where nobody knows.
Price = Callable[[str, str, Usage], Decimal | None]

_Most = Callable[[Request, Sequence[Message]], object]


def most_of(
    provider: object, request: Request, thread: Sequence[Message], *, raises: bool = False
) -> Usage:
    """Return what the call may take at the most, the dearest kinds of tokens included.

    `thread` is what its vendor has kept of the conversation, and reads again. A request that the
    provider would refuse has no bound; where it `raises`, it raises that refusal.
    """
    # Asked for by name: `isinstance` of a protocol takes longer than most providers to tell.
    tells: _Most | None = field(provider, Bounds.most.__name__)
    if tells is not None:
        refusals: list[Rejected] = []
        found = attempted("a provider's bound", lambda: _told(tells, request, thread, refusals))
        if refusals and raises:
            raise refusals[0]
        return usage_of(found)
    told = input_bound(request, thread)
    return Usage(
        input_tokens=told,
        output_tokens=output_bound(request.settings, "max_output_tokens"),
        cache_write_tokens=told,
    )


def _told(
    tells: _Most, request: Request, thread: Sequence[Message], refusals: list[Rejected]
) -> object:
    try:
        return tells(request, thread)
    except Rejected as refusal:
        refusals.append(refusal)
        return None


def most_cost(
    price: Price, provider: str, model: str, most: Usage, *, serves_tier: bool = False
) -> Decimal | None:
    """Return the most that such a call may cost, rounded up; None where nobody knows.

    A part of the input may turn out to be dearer than the rest, in a cache, or cheaper, and so may
    sound; so may all of the output, if it was thought; and a call may be served in the standard
    tier, though another one was asked for, unless its vendor `serves_tier` whatever happens.
    """
    tier, keeps = most.service_tier, bool(most.cache_write_tokens)
    slot = int(time.time() // BELIEVED_SECONDS)
    plainly, thinks = _doubts(price, provider, model, tier, keeps, serves_tier, slot)
    kinds = [most]
    if plainly:
        served = tier if serves_tier else ""
        kept: Any = {"cache_write_tokens": 0, "cache_write_1h_tokens": 0}
        kinds.append(replace(most, service_tier=served, **kept))
    if most.audio_tokens:
        kinds += [replace(one, audio_tokens=0) for one in kinds]
    if most.audio_output_tokens:
        kinds += [replace(one, audio_output_tokens=0) for one in kinds]
    if thinks:
        kinds += [replace(one, reasoning_tokens=one.output_tokens) for one in kinds]
    costs = [cost_of(partial(price, provider, model, one)) for one in kinds]
    if costs[0] is None:
        return None
    known = [one for one in costs if one is not None]
    return max(known).quantize(PLACES, rounding=ROUND_CEILING, context=MONEY)


@lru_cache(maxsize=1024)
def _doubts(
    price: Price, provider: str, model: str, tier: str, keeps: bool, serves_tier: bool, _slot: int
) -> tuple[bool, bool]:
    """Tell whether input that is only read, or the standard tier, may be dearer; and thoughts."""
    plainly = (keeps and not _is_kept_dearer(price, provider, model)) or (
        bool(tier) and not serves_tier
    )
    tiers = {tier, tier if serves_tier else ""} if plainly else {tier}
    return plainly, any(_is_thought_dearer(price, provider, model, one) for one in tiers)


def _is_thought_dearer(price: Price, provider: str, model: str, tier: str) -> bool:
    """Tell whether what is thought costs more than what is said, as far as that is known."""
    said = Usage(input_tokens=0, output_tokens=1_000_000, service_tier=tier)
    plain, thought = (
        cost_of(partial(price, provider, model, one))
        for one in (said, replace(said, reasoning_tokens=said.output_tokens))
    )
    return plain is None or thought is None or thought > plain


def _is_kept_dearer(price: Price, provider: str, model: str) -> bool:
    """Tell whether what a cache keeps costs no less than what is only read, few tokens or many."""
    for told in (1_000, 1_000_000):
        read = Usage(input_tokens=told, output_tokens=0)
        plain, kept = (
            cost_of(partial(price, provider, model, one))
            for one in (read, replace(read, cache_write_tokens=told))
        )
        if plain is None or kept is None or kept < plain:
            return False
    return True


def input_bound(
    request: Request, thread: Sequence[Message] = (), *, counted: Counted | None = None
) -> int | None:
    """Return how many tokens are read at the most; None where there is what nobody can count.

    `counted` says of what is attached how many tokens it is.
    """
    others = [request.system_prompt or ""]
    for tool in request.tools:
        others += [tool.name, tool.description, json.dumps(tool.parameters)]
    if request.output_schema is not None:
        others.append(json.dumps(request.output_schema))
    forms = len(request.tools) + (request.output_schema is not None)
    history = request.history
    words = history.counted_words() if isinstance(history, StoredHistory) else None
    if words is not None:  # no messages need be made of them
        history = ()
        others += [text for _, text in words]
    said = (*thread, *history, *request.messages)
    told = most_tokens(said, others=others, tools=forms, counted=counted)
    return None if told is None else told + 2 * OF_MESSAGE * len(words or ())


def output_bound(settings: Mapping[str, Any], *names: str, most: int | None = None) -> int:
    """Return how many tokens may be said: the first of these settings that says it.

    No more than `most`, what the model says at all, where that is known.
    """
    most = MOST_OUTPUT if most is None else most
    for name in names:
        value = settings.get(name)
        if type(value) is int and 0 < value <= most:
            return value
    return most
