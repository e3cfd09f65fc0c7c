"""Fallback: a target that is closed before anything was sent is passed over, in the same attempt.

It is closed where a gate says that its account or its breaker is, and where this worker cannot ask
its provider at all. What a whole attempt has failed for is a verdict's business: see
`turnmill_worker.turn.fallback`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeGuard

from turnmill.domain.errors import ProviderError
from turnmill.domain.states import AT_A_CLOSED_TARGET
from turnmill.store.records import Claim
from turnmill_worker.layers.call import Call, Go, Layer, from_store
from turnmill_worker.layers.holding import Stop
from turnmill_worker.layers.targets import (
    bits,
    has_targets,
    moved,
    next_after,
    of_provider,
    targets_of,
)
from turnmill_worker.providers.boundary import Answer, provided, taken_by
from turnmill_worker.providers.port import NotNow, Provider

#: Returns the providers that an operator has paused.
Paused = Callable[[], Awaitable[frozenset[str]]]

#: Of an operator's: looked at again so often.
_PAUSED = NotNow(until=timedelta(seconds=5), waits_for="paused")


def fallback(find: Callable[[str], Provider], paused: Paused) -> Layer:
    """Return the layer. It stands outside of all that asks one target."""

    def layer(call: Call, go: Go) -> Awaitable[Answer]:
        if call.kind == "send" and has_targets(call.claim):
            return _asked_in_turn(partial(_open, find, paused), call, go)
        return go(call)  # a question is for whoever was asked to execute it

    return layer


_Asks = Callable[[Call, Go], Awaitable[Answer | ProviderError]]


async def _asked_in_turn(ask: _Asks, call: Call, go: Go) -> Answer:
    """Ask the claim's target, and the next one where it is closed; the last word where all are."""
    first = call.claim
    closed: list[NotNow] = []
    missing: list[ProviderError] = []
    while True:
        found = await ask(call, go)
        if isinstance(found, ProviderError):
            missing.append(found)
        elif _is_closed(found, call):
            closed.append(found)
        else:
            return found
        after = _after(call.claim, found)
        following = next_after(after.target, among=len(targets_of(after)), benched=after.benched)
        if following is None:
            break
        call = _moved(call, moved(after, following, because=_why(found)))
    if closed:
        call.holding.claim = first  # it is put off as it came
        return min(closed, key=_wait)
    call.holding.claim = replace(first, benched=after.benched, given_up=after.given_up)
    raise missing[0]


async def _open(
    find: Callable[[str], Provider], paused: Paused, call: Call, go: Go
) -> Answer | ProviderError:
    """Return what asking comes to; an error where there is nobody to ask here."""
    claim = call.claim
    provider = provided(find, claim.provider)
    if isinstance(provider, ProviderError):
        return provider
    # Sessions of a paused provider are not claimed; those of others must not go there instead.
    if claim.target and claim.provider in await from_store(paused()):
        return _PAUSED
    return await go(replace(call, takes=taken_by(provider)))


def _is_closed(answer: Answer, call: Call) -> TypeGuard[NotNow]:
    return (
        isinstance(answer, NotNow)
        and (answer is _PAUSED or answer.waits_for in AT_A_CLOSED_TARGET)
        and not call.holding.sent
    )


def _after(claim: Claim, found: NotNow | ProviderError) -> Claim:
    """Return the claim with this target benched; with its provider, where that is not there."""
    if isinstance(found, ProviderError):
        gone = of_provider(claim)
        return replace(claim, benched=claim.benched | gone, given_up=claim.given_up | gone)
    return replace(claim, benched=claim.benched | bits([claim.target]))


def _moved(call: Call, claim: Claim) -> Call:
    """Return the call to another target: with the whole history, and nothing of a vendor's own."""
    call.holding.claim = claim
    request = replace(
        call.request,
        model=claim.model,
        settings=claim.settings,
        history=() if claim.history is None else claim.history,
        thread_ref="",
        native_ref="",
        continues=0,
    )
    return replace(call, claim=claim, request=request)


def _why(found: NotNow | ProviderError) -> str:
    return found.waits_for if isinstance(found, NotNow) else found.error_code


def _wait(answer: NotNow) -> timedelta:
    until = answer.until
    return until if isinstance(until, timedelta) else until - datetime.now(UTC)


def noted(mark: Callable[[Claim], Awaitable[bool]]) -> Layer:
    """Return the layer right before the provider: who is asked is written down before it is.

    Nothing is where the row says so already. `mark` is False when the turn is no longer ours.
    """

    def layer(call: Call, go: Go) -> Awaitable[Answer]:
        if call.kind != "send" or call.claim.target == call.holding.target:
            return go(call)
        return _marked(mark, call, go)

    return layer


async def _marked(mark: Callable[[Claim], Awaitable[bool]], call: Call, go: Go) -> Answer:
    if not await from_store(mark(call.claim)):
        call.holding.stop = call.holding.stop or Stop.LEASE_LOST
        raise asyncio.CancelledError
    call.holding.target = call.claim.target
    return await go(call)
