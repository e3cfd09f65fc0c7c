"""Adoption: the first turn of a session that goes on with a vendor's thread reads what it holds.

That is written down before the turn, so that the session survives its thread: whenever the vendor
has lost it, the history is whole all the same.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from turnmill.domain.content import Message
from turnmill.domain.errors import MaybeSent, NotSent, ProviderError, Rejected
from turnmill.store.records import Claim
from turnmill.store.thread_records import Adoption
from turnmill_worker.layers.call import Call, Go, Layer, from_store
from turnmill_worker.layers.holding import Stop
from turnmill_worker.providers.boundary import Answer, error_of, provided
from turnmill_worker.providers.port import Adopts, Provider


class AdoptionLedger(Protocol):
    """What adopting a thread needs of the store."""

    async def adoption(self, claim: Claim) -> Adoption:
        """Return how far the session has come with it."""
        ...

    async def keep_adopted(self, claim: Claim, said: Sequence[Message]) -> bool:
        """Write down what was said in it before; False: the turn is no longer ours."""
        ...


def adoption(find: Callable[[str], Provider], ledger: AdoptionLedger) -> Layer:
    """Return the layer. It stands outside of all that may need the history."""

    async def layer(call: Call, go: Go) -> Answer:
        if call.claim.adopted is not None and call.kind == "send" and _is_first(call.claim):
            call = await _adopted(call, find, ledger)
        return await go(call)

    return layer


def _is_first(claim: Claim) -> bool:
    """Tell whether nothing has succeeded on the thread yet, and no call is to go on in another."""
    refs = claim.provider_ref or claim.step_ref
    return not refs and claim.history is not None and not len(claim.history)


async def _adopted(call: Call, find: Callable[[str], Provider], ledger: AdoptionLedger) -> Call:
    """Return the call as one that goes on with the thread, or with what was said in it."""
    claim = call.claim
    found = await from_store(ledger.adoption(claim))
    said = claim.before or found.said
    goes_on = claim.step == 1 and not found.was_lent
    if not said and goes_on:
        said = await _read(call, find)
    if said and not claim.before and not await from_store(ledger.keep_adopted(claim, said)):
        call.holding.stop = call.holding.stop or Stop.LEASE_LOST
        raise asyncio.CancelledError
    claim = replace(claim, before=said)
    ref, history = (claim.adopted or "", ()) if goes_on else ("", said)
    request = replace(call.request, thread_ref=ref, history=history)
    return replace(call, claim=claim, request=request)


async def _read(call: Call, find: Callable[[str], Provider]) -> Sequence[Message]:
    """Return what the vendor's thread holds. Nothing is executed by that."""
    provider = provided(find, call.claim.provider)
    if isinstance(provider, ProviderError):
        raise provider
    if not isinstance(provider, Adopts):
        raise Rejected(
            "cannot_adopt",
            detail="the provider of this session goes on with no threads but its own",
            hint="create a session without adopt=",
        )
    if not call.holding.may_begin():
        raise asyncio.CancelledError
    return await _undone(provider.read_thread(call.claim.adopted or ""))


async def _undone(reading: Awaitable[Sequence[Message]]) -> Sequence[Message]:
    try:
        return await reading
    except Exception as raised:  # noqa: BLE001
        # The edge to a provider, which may be a user's own.
        error = error_of(raised)
    if isinstance(error, MaybeSent):
        raise NotSent(error.error_code, detail=error.detail, request_id=error.request_id)
    raise error
