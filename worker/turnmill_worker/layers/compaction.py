"""Compaction: where a conversation is longer than its model takes, its oldest turns are left out.

Only where the session says so; see docs/context.md. A call that is refused for its length costs
nothing. What was found once to be short enough, and each summary, is written down beside the
messages: later turns begin with it, and so does the next try of one that was lost with its worker.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from turnmill.domain.errors import ContextFull, StoreError
from turnmill.domain.ids import SessionId
from turnmill.domain.states import CompactionKind
from turnmill.domain.summaries import opening
from turnmill.store.compaction_records import NewCompaction, Spoken
from turnmill.store.records import Claim
from turnmill.store.rules.settling import COUNTS
from turnmill_worker.layers.call import Call, Go, Layer, from_store
from turnmill_worker.layers.holding import Stop
from turnmill_worker.layers.shortening import cut, kind_of, said_in, size_of, tries
from turnmill_worker.layers.summary import Paid, Summed, summed_up
from turnmill_worker.providers.boundary import Answer, attempted, cost_of
from turnmill_worker.providers.figures import figures
from turnmill_worker.providers.port import Done, NotNow, Running, Usage

logger = logging.getLogger("turnmill.compaction")

_CHARACTERS = 4  # of a token, about
_ALONE = "what is said in this turn is too long by itself: say less, or take a larger model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortening:
    """What compaction needs of the world."""

    spoken: Callable[[SessionId], Awaitable[Spoken]]  #: what a session's model is to be shown
    keep: Callable[[Claim, NewCompaction], Awaitable[bool]]  #: False: the turn is no longer ours
    price: Callable[[str, str, Usage], Decimal | None]
    source: Callable[[str, str, str], str] = lambda *_: ""  #: what such a price is by


def compaction(needs: Shortening) -> Layer:
    """Return the layer. It stands outside of all that sends a history."""

    async def layer(call: Call, go: Go) -> Answer:
        kind = kind_of(call.claim.settings)
        if kind is None or call.kind != "send":
            return await go(call)
        refused = ContextFull()
        if call.claim.error_code != ContextFull.code:  # as work in the background has ended
            try:
                return await go(call)
            except ContextFull as error:
                refused = error
        call.holding.sent = False  # the vendor has executed nothing
        return await _shorter(needs, call, go, kind=kind, refused=refused)

    return layer


async def _shorter(
    needs: Shortening, call: Call, go: Go, *, kind: CompactionKind, refused: ContextFull
) -> Answer:
    """Ask with less and less before it, down to what is said in this turn alone."""
    session = await from_store(needs.spoken(call.claim.session_id))
    whole = sum(size_of(turn.messages) for turn in session.turns)
    if size_of(call.request.messages) > whole:
        kind = CompactionKind.TRUNCATE  # it may be too long by itself: no summary is paid for that
    for most in tries(whole):
        if not session.turns and session.summary is None:
            break
        summed = await _summed(call, go, session, left := _left(session, most), kind=kind)
        if isinstance(summed, NotNow):
            return summed
        session = _without(session, left, summed)
        made = _made(needs, call, session, summed)
        if summed.answers:
            await _keep(needs, call, made)
        try:
            answer = await go(_with(call, session))
        except ContextFull as error:
            refused, call.holding.sent = error, False
            continue
        if not summed.answers and isinstance(answer, Done | Running):
            await _note(needs, call, made)
        return answer
    raise ContextFull(detail=refused.detail, request_id=refused.request_id, hint=_ALONE)


def _left(session: Spoken, most: int) -> int:
    """Return how many turns are left out; 0 where there is no more than a summary to leave out."""
    return cut(session.turns, most=most) if session.turns else 0


async def _summed(
    call: Call, go: Go, session: Spoken, left: int, *, kind: CompactionKind
) -> Summed | NotNow:
    """Return what stands for all that is left out: what did before, unless more is asked for."""
    if not left:
        return Summed(told=None)
    if kind is CompactionKind.TRUNCATE:
        return Summed(told=session.summary)
    return await summed_up(call, go, session.turns[:left], before=session.summary)


def _without(session: Spoken, left: int, summed: Summed) -> Spoken:
    """Return the session without so many of its turns, and with what stands for them."""
    return Spoken(
        turns=session.turns[left:],
        summary=summed.told,
        up_to_seq=max([session.up_to_seq, *(one.seq for one in session.turns[:left])]),
        left_out=session.left_out + left,
    )


def _with(call: Call, session: Spoken) -> Call:
    """Return the call with this history. A vendor's thread is left for one that begins with it."""
    first = [] if session.summary is None else [opening(session.summary)]
    history = [*first, *said_in(session.turns)]
    request = replace(call.request, thread_ref="", continues=0, history=history)
    return replace(call, request=request)


def _made(needs: Shortening, call: Call, session: Spoken, summed: Summed) -> NewCompaction:
    """Return what is written down of it, and what it took."""
    given = bool(summed.answers) and summed.told is not None
    costs = [_cost(needs, call, one.answer) for one in summed.answers]
    known = [one for one in costs if one is not None]
    last = summed.answers[-1].answer if summed.answers else None
    return NewCompaction(
        kind=CompactionKind.SUMMARISE if given else CompactionKind.TRUNCATE,
        up_to_seq=session.up_to_seq,
        turns=session.left_out,
        summary=session.summary,
        usage=figures(tuple(said for one in summed.answers for said in one.answer.usage.said)),
        service_tier=last.usage.service_tier or None if last else None,
        cost_usd=sum(known, Decimal(0)) if known and len(known) == len(costs) else None,
        priced_by=_source(needs, call, last) if last and known else None,
        **{name: sum(_count(name, one) for one in summed.answers) for name in COUNTS},
    )


def _count(name: str, one: Paid) -> int:
    """Return how many tokens it took; where the vendor does not say, what it may have been."""
    said: int | None = getattr(one.answer.usage, name)
    told = {"input_tokens": one.asked, "output_tokens": len(one.answer.text)}
    return told.get(name, 0) // _CHARACTERS if said is None else said


def _cost(needs: Shortening, call: Call, answer: Done) -> Decimal | None:
    model = answer.model or call.claim.model
    return cost_of(lambda: needs.price(call.claim.provider, model, answer.usage))


def _source(needs: Shortening, call: Call, answer: Done) -> str | None:
    model = answer.model or call.claim.model
    tier = answer.usage.service_tier
    return attempted("a price list", lambda: needs.source(call.claim.provider, model, tier)) or None


async def _keep(needs: Shortening, call: Call, made: NewCompaction) -> None:
    """Write down what was paid for, before anything else can be lost."""
    if not await from_store(needs.keep(call.claim, made)):
        call.holding.stop = call.holding.stop or Stop.LEASE_LOST
        raise asyncio.CancelledError
    if made.cost_usd is not None:
        call.holding.note_booked()


async def _note(needs: Shortening, call: Call, made: NewCompaction) -> None:
    """Write down how much was short enough. That it fails costs the next turn a refused call."""
    try:
        await needs.keep(call.claim, made)
    except StoreError as error:
        logger.warning(
            "what is left out could not be noted: %s",
            error.code,
            extra={"action": "compaction_unnoted", "turn_id": str(call.claim.turn_id)},
        )
