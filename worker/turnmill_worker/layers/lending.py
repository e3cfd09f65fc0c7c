"""Lending: a vendor's thread that cannot fork is one call's alone, from before it until its reply.

Before the call, the thread is written down and taken away from its session, in one commit; the
reply brings it back, and so does the certainty that nothing was done. Whatever else becomes of the
call, also with its worker, the session stands on no thread in which half a turn may be.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from turnmill.domain.adoption import AS_CONVERSATION, THREAD
from turnmill.domain.errors import (
    NotSent,
    ProviderError,
    RateLimited,
    Rejected,
    StoreError,
    ThreadLocked,
    ThreadLost,
    Unreachable,
)
from turnmill.store.records import Claim
from turnmill_worker.layers.call import Call, Go, Layer, from_store
from turnmill_worker.layers.holding import Lent, Stop
from turnmill_worker.providers.boundary import Answer, error_of, provided
from turnmill_worker.providers.failures import class_of
from turnmill_worker.providers.port import KeepsThreads, NotNow, Provider

logger = logging.getLogger("turnmill.threads")

#: The code of a thread that could not be begun, or used.
UNAVAILABLE = "thread_unavailable"
#: From this try of a turn on, a thread in which it has failed is not tried any more.
LAST_TRY = 3

#: That somebody else was at it, that there were too many requests, or no connection.
_NOT_ITS_FAULT = frozenset({RateLimited, ThreadLocked, Unreachable})

_BEGUN_WITHIN = timedelta(seconds=30)
_GIVEN_UP_WITHIN = timedelta(seconds=10)


class LendingLedger(Protocol):
    """What lending needs of the store."""

    async def lend(self, claim: Claim, ref: str, *, opened: bool) -> bool:
        """Take the thread away from its session; False: the turn is no longer ours."""
        ...

    async def give_back(self, claim: Claim, ref: str) -> bool:
        """Bring it back as it was; False: the turn is no longer ours."""
        ...


def lending(find: Callable[[str], Provider], ledger: LendingLedger) -> Layer:
    """Return the layer. It stands inside of all that may keep a call back."""

    async def layer(call: Call, go: Go) -> Answer:
        if call.kind != "send" or call.request.settings.get(THREAD) != AS_CONVERSATION:
            return await go(call)
        provider = provided(find, call.claim.provider)
        if not isinstance(provider, KeepsThreads) or call.holding.own_history is not None:
            return await go(call)
        if not provider.lends(call.request):
            return await go(call)
        return await _within(await _with_thread(call, provider, ledger), go, ledger)

    return layer


async def _with_thread(call: Call, provider: KeepsThreads, ledger: LendingLedger) -> Call:
    """Return the call with a thread that is lent to it; raises ThreadLost where there is none."""
    claim, ref = call.claim, call.request.thread_ref
    if _has_failed_in_it(claim):
        raise ThreadLost(UNAVAILABLE)
    opened = not ref
    if opened:
        ref = await _begun(call, provider)
    if not await from_store(ledger.lend(claim, ref, opened=opened)):
        if opened:
            await _given_up(provider, ref)
        call.holding.stop = call.holding.stop or Stop.LEASE_LOST
        raise asyncio.CancelledError
    call.holding.lent = Lent(ref, goes_on=not opened)
    continues = 0 if opened else call.request.continues
    return replace(call, request=replace(call.request, thread_ref=ref, continues=continues))


async def _within(call: Call, go: Go, ledger: LendingLedger) -> Answer:
    """Ask; where the thread is certainly as it was before, it is given back."""
    try:
        answer = await go(call)
    except ProviderError as error:
        if _leaves_it(error):
            await _give_back(call, ledger)
        raise
    if isinstance(answer, NotNow):
        await _give_back(call, ledger)
    return answer


async def _give_back(call: Call, ledger: LendingLedger) -> None:
    """Give it back; one that was begun for this call holds nothing, and is not worth it.

    Where the store does not let us, it is lost to its session, and nothing else is.
    """
    lent = call.holding.lent
    if lent is None or not lent.goes_on:
        return
    with suppress(StoreError):
        await ledger.give_back(call.claim, lent.ref)
        call.holding.lent = None


def _leaves_it(error: ProviderError) -> bool:
    """Tell whether the vendor has certainly done nothing: it was not asked, or has refused."""
    if error.kept:
        return False  # there is a response, whatever became of it
    return isinstance(error, NotSent) or (isinstance(error, Rejected) and error.answered)


def _has_failed_in_it(claim: Claim) -> bool:
    """Tell whether tries before this one have failed, and it may have been for the thread."""
    if claim.attempt < min(LAST_TRY, claim.max_attempts) or claim.attempt == 1:
        return False
    return class_of(claim.error_code or "") not in _NOT_ITS_FAULT


async def _begun(call: Call, provider: KeepsThreads) -> str:
    """Begin a thread. Where the vendor can be reached, and begins none, there is no thread."""
    if not call.holding.may_begin():
        raise asyncio.CancelledError
    try:
        async with asyncio.timeout(_BEGUN_WITHIN.total_seconds()):
            return await provider.begin_thread(call.request)
    except Exception as raised:  # noqa: BLE001
        # The edge to a provider, which may be a user's own.
        error = NotSent("timeout") if isinstance(raised, TimeoutError) else error_of(raised)
    if isinstance(error, Unreachable | RateLimited):
        raise error
    logger.warning(
        "a thread could not be begun: %s",
        error.error_code,
        extra={"action": "thread_unavailable", "session_id": str(call.claim.session_id)},
    )
    raise ThreadLost(UNAVAILABLE, detail=error.detail, request_id=error.request_id)


async def _given_up(provider: KeepsThreads, ref: str) -> None:
    """Delete a thread that nobody knows of, and that holds nothing; what fails leaves it there."""
    try:
        async with asyncio.timeout(_GIVEN_UP_WITHIN.total_seconds()):
            await provider.close(ref)
    except Exception as error:  # noqa: BLE001
        # The edge to a provider, which may be a user's own.
        logger.warning("an empty thread is left at the vendor: %s", error_of(error).error_code)
