"""Running a turn: claim, ask, settle. Knows nothing of Celery."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from turnmill.domain.errors import MaybeSent, ProviderError, StoreError, ThreadLost
from turnmill.domain.ids import TurnId
from turnmill.domain.retry import RetryPolicy
from turnmill.domain.states import OnAmbiguous, TurnState
from turnmill.store.records import Claim, Fenced, Head, Settled, Settlement
from turnmill_worker import verdict
from turnmill_worker.held import Held, Holding, Stop
from turnmill_worker.hooks import Hooks
from turnmill_worker.ledger import Ledger
from turnmill_worker.limits import Slots
from turnmill_worker.middleware import Middleware, pipeline
from turnmill_worker.providers.base import Part, Provider, Request, Usage
from turnmill_worker.verdict import Answer

logger = logging.getLogger("turnmill.turn")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """What running turns needs; one of it in each process."""

    ledger: Ledger
    held: Held
    slots: Slots
    provider: Callable[[str], Provider]  #: by name; raises ProviderUnknown or KeyMissing
    announce: Callable[[Head], None]  #: tells a worker; never blocks, never raises
    announce_at: Callable[[Head, datetime], None]  #: the same at a later moment, best effort
    price: Callable[[str, str, Usage], Decimal | None]  #: provider, model, usage
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    middleware: Sequence[Middleware] = ()
    hooks: Hooks = field(default_factory=Hooks)
    keep_on: Callable[[], bool] = lambda: True  #: whether a turn may still be claimed
    turn_timeout: timedelta = timedelta(minutes=10)
    background_timeout: timedelta = verdict.BACKGROUND_TIMEOUT
    jitter: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class NotOurs:
    """Somebody else runs the turn, or nobody may: nothing was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The verdict stands in the store."""

    state: TurnState
    due_at: datetime | None  #: when the turn comes again; None when it is final
    error_code: str | None


@dataclass(frozen=True, slots=True)
class Outrun:
    """The lease was lost meanwhile: what we found out changes nothing."""


Outcome = NotOurs | Ended | Outrun


async def run_turn(turn_id: TurnId, deps: Deps) -> Outcome:
    """Run the turn if it is ours to run. May be called any number of times for one turn."""
    async with deps.slots.one():
        if not deps.keep_on():
            return NotOurs()  # the hint is gone, the row is not: another dispatcher announces it
        try:
            claim = await deps.ledger.claim(turn_id)
        except StoreError as error:
            logger.warning("cannot claim: %s", error.code, extra={"turn_id": str(turn_id)})
            return NotOurs()
        if claim is None:
            return NotOurs()
        return await run_claim(claim, deps)


async def run_claim(claim: Claim, deps: Deps) -> Outcome:
    """Ask the provider and write down what came of it, whatever it is."""
    with deps.held.holding(claim) as holding:
        settlement = await attempt(claim, holding, deps)
        settled = await shielded(deps.ledger.settle(settlement))
    if isinstance(settled, Fenced) and settlement.kept:
        await shielded(deps.ledger.keep_late(settlement))
    return _report(claim, settlement, settled, deps)


async def attempt(claim: Claim, holding: Holding, deps: Deps) -> Settlement:
    """Return the verdict over one attempt; raises nothing of the provider's."""
    began = time.monotonic()
    try:
        answer = await _call(claim, holding, deps)
        found = verdict.of_answer(claim, answer, **_rules(deps))
    except ProviderError as error:
        found = verdict.of_error(claim, error, **_rules(deps))
    except asyncio.CancelledError:
        # Celery revoked the task or ends in a hurry: the row must not wait for its lease.
        found = verdict.of_stop(holding.stop or Stop.DRAINING, sent=holding.sent)
    reply = found.reply
    cost = deps.price(claim.provider, reply.model or claim.model, reply.usage) if reply else None
    elapsed = time.monotonic() - began
    return verdict.settlement(claim, found, provider_ms=round(elapsed * 1000), cost_usd=cost)


def _rules(deps: Deps) -> dict[str, Any]:
    return {
        "policy": deps.policy,
        "jitter": deps.jitter(),
        "patience": deps.background_timeout,
    }


async def _call(claim: Claim, holding: Holding, deps: Deps) -> Answer:
    """Make the call in a task of its own, so that it can be closed without us."""
    if not holding.may_begin():
        raise asyncio.CancelledError
    holding.call = asyncio.ensure_future(_guarded(_ask(claim, holding, deps)))
    try:
        async with asyncio.timeout(deps.turn_timeout.total_seconds()):
            return await holding.call
    except TimeoutError:
        raise MaybeSent("turn_timeout") from None


async def _ask(claim: Claim, holding: Holding, deps: Deps) -> Answer:
    provider = deps.provider(claim.provider)
    history = claim.history
    if history is None:
        history = await _history(claim, deps)
    request = request_of(claim, history=history)
    if claim.kind != "send":
        return await provider.check(request)
    if claim.on_ambiguous is OnAmbiguous.HOLD and not await deps.ledger.mark_sent(claim):
        raise asyncio.CancelledError
    if not holding.may_begin():
        raise asyncio.CancelledError
    holding.sent = True
    ask = pipeline(deps.middleware, provider.send)
    try:
        return await ask(request)
    except ThreadLost:
        # The vendor lost the chain and executed nothing: rebuild it once from what we hold.
        holding.sent = False
        history = await _history(claim, deps)
        if not holding.may_begin():
            raise asyncio.CancelledError from None
        holding.sent = True
        return await ask(request_of(claim, history=history, thread_ref=""))


async def _history(claim: Claim, deps: Deps) -> Sequence[Part]:
    try:
        return await deps.ledger.history(claim.session_id)
    except StoreError as error:
        # Nothing was sent, so nothing is owed: the turn is given back with its attempt, as soon as
        # the store takes that.
        logger.warning("cannot read a history: %s", error.code)
        raise asyncio.CancelledError from None


async def _guarded(asking: Awaitable[Answer]) -> Answer:
    """Turn whatever a provider raises into an error that says what is to be done."""
    try:
        return await asking
    except (ProviderError, asyncio.CancelledError):
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001
        # The edge to other people's code. Its text may quote the user: the type is all we keep.
        # One that wants to exit would take the event loop, and thousands of turns, with it.
        logger.error("a provider raised %s", type(error).__name__)
        raise MaybeSent(f"bug:{type(error).__name__}") from None


def request_of(claim: Claim, *, history: Sequence[Part], thread_ref: str | None = None) -> Request:
    """Return what the provider is given for this claim."""
    return Request(
        turn_id=claim.turn_id,
        session_id=claim.session_id,
        attempt=claim.attempt,
        fence=claim.fence,
        model=claim.model,
        text=claim.text,
        history=history,
        system_prompt=claim.system_prompt,
        thread_ref=claim.provider_ref if thread_ref is None else thread_ref,
        native_ref=claim.native_ref,
        settings=claim.settings,
        metadata=claim.metadata,
    )


async def shielded(settling: Awaitable[T]) -> T:
    """Finish writing even when the task is cancelled: a verdict in hand is not dropped."""
    task = asyncio.ensure_future(settling)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise


def _report(claim: Claim, settlement: Settlement, settled: Settled | Fenced, deps: Deps) -> Outcome:
    if isinstance(settled, Fenced):
        logger.warning(
            "lease lost before the verdict; nothing was changed",
            extra={"action": "fenced", "turn_id": str(claim.turn_id), "fence": claim.fence},
        )
        return Outrun()
    if settled.next is not None:
        deps.announce(settled.next)
    elif settled.due_at is not None:
        head = Head(turn_id=claim.turn_id, session_id=claim.session_id, lane=claim.lane)
        deps.announce_at(head, settled.due_at)
    deps.hooks.turn_settled(claim, settled)
    return Ended(state=settled.state, due_at=settled.due_at, error_code=settlement.error_code)
