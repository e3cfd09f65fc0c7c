"""Budget: before each paid call, the most that it may cost is reserved; then it may leave.

It stands right before the call leaves, so that it sees what will be sent: of a turn, of each of its
steps, of a summary. What the call has cost in fact is charged with its verdict. A claim that makes
several calls owes for those before, which its next reservation contains.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial

from turnmill.domain.content import Message
from turnmill.domain.errors import MaybeSent, ProviderError, Rejected
from turnmill.domain.ids import SessionId
from turnmill.domain.states import FOR_BUDGET
from turnmill.store.budget_records import Ask, Found, Reserved
from turnmill_worker.layers.call import Call, Go, Layer, from_store
from turnmill_worker.layers.holding import Stop
from turnmill_worker.providers.boundary import (
    LONGEST_NOT_NOW,
    Answer,
    BadAnswer,
    cost_of,
    provided,
)
from turnmill_worker.providers.counting import Price, most_cost, most_of
from turnmill_worker.providers.port import Done, NotNow, Provider, Running

_SHORTEST_WAIT = timedelta(seconds=0.1)
_NOTHING = Decimal(0)
#: Of replies that came, and are of no use: they are paid for all the same.
_PAID = frozenset({BadAnswer.code, "reply_too_large", "unreadable_reply"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgeting:
    """What the layer needs of the world."""

    find: Callable[[str], Provider]  #: raises where there is none of the name
    price: Price
    reserve: Callable[[Ask], Awaitable[Reserved]]
    read_thread: Callable[[SessionId], Awaitable[Sequence[Message]]]  #: what a vendor has kept


def budget(needs: Budgeting) -> Layer:
    """Return the layer. It stands inside of all that may still put the call off."""

    def layer(call: Call, go: Go) -> Awaitable[Answer]:
        return paid(call, go) if call.kind == "send" and call.claim.budgeted else go(call)

    async def paid(call: Call, go: Go) -> Answer:
        call.holding.owes()
        most = await _most(needs, call)
        amount = None if most is None else most + call.holding.owed
        ask = Ask(turn_id=call.claim.turn_id, fence=call.claim.fence, amount_usd=amount)
        call.holding.reserved = True  # or nobody would ever know of one that was not acknowledged
        found = await from_store(needs.reserve(ask))
        if found.found is Found.LATER:
            return NotNow(until=_wait(found.wait), waits_for=FOR_BUDGET)
        _refuse(call, found.found)
        if found.found is Found.FREE or most is None:
            call.holding.reserved = False
            return await go(call)
        return await _made(needs, call, go, most=most)

    return layer


async def _most(needs: Budgeting, call: Call) -> Decimal | None:
    """Return the most that the call may cost; None where nobody knows.

    What the provider would refuse, it refuses here: nobody is told that it has no price.
    """
    provider = provided(needs.find, call.claim.provider)
    if isinstance(provider, ProviderError):
        raise provider
    request = call.request
    thread: Sequence[Message] = ()
    if request.thread_ref:
        thread = await from_store(needs.read_thread(request.session_id))
    most = most_of(provider, request, thread, raises=True)
    return most_cost(needs.price, call.claim.provider, request.model, most)


def _refuse(call: Call, found: Found) -> None:
    """Raise why the call must not be made, if it must not."""
    if found is Found.FENCED:
        call.holding.stop = call.holding.stop or Stop.LEASE_LOST
        raise asyncio.CancelledError
    if found is Found.UNPRICED:
        raise Rejected(
            "price_unknown",
            detail=f"no price is known of {call.claim.provider}/{call.request.model}",
            hint="name it in TURNMILL_PRICES of every worker, or remove the budget; then"
            " `turnmill turns retry`; what has a max_cost_usd of its own may be sent anew without",
        )
    if found is Found.EXCEEDED:
        raise exceeded()


def exceeded() -> Rejected:
    """Return why a call is not made that does not fit into a budget."""
    return Rejected(
        "budget_exceeded",
        hint="`turnmill budget ls` shows what is spent; raise a limit, or wait for the next"
        " period, then `turnmill turns retry`; what has a max_cost_usd of its own is sent anew,"
        " with more",
    )


def _wait(wait: timedelta | None) -> timedelta:
    return LONGEST_NOT_NOW if wait is None else min(max(wait, _SHORTEST_WAIT), LONGEST_NOT_NOW)


async def _made(needs: Budgeting, call: Call, go: Go, *, most: Decimal) -> Answer:
    """Make the call, and note what it may have cost: what nobody knows is all of it."""
    holding = call.holding
    holding.last = most
    try:
        answer = await go(call)
    except ProviderError as error:
        if not _is_paid(error, call):
            holding.last = _NOTHING
        raise
    except asyncio.CancelledError:
        if not holding.sent:
            holding.last = _NOTHING
        raise
    if isinstance(answer, Done):
        holding.prices = partial(_cost_of, needs, call, answer)
    elif not isinstance(answer, Running):
        holding.last = _NOTHING
    return answer


def _is_paid(error: ProviderError, call: Call) -> bool:
    """Tell whether the call may have cost something: an error that a vendor tells of does not."""
    if not isinstance(error, MaybeSent):
        return error.error_code in _PAID
    partial = call.holding.partial
    return not error.answered or (partial is not None and partial.bytes > 0)


def _cost_of(needs: Budgeting, call: Call, answer: Done) -> Decimal | None:
    model = answer.model or call.request.model
    return cost_of(lambda: needs.price(call.claim.provider, model, answer.usage))
