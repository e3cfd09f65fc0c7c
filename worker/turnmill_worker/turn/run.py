"""Running a turn: claim, ask, settle. Knows nothing of Celery."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from turnmill.domain.errors import ProviderError, StoreError
from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane, TurnState
from turnmill.store.records import Claim, Fenced, Head, Settled, Settlement
from turnmill_worker.layers.holding import Holding, Stop
from turnmill_worker.layers.targets import aimed
from turnmill_worker.providers import boundary, calls
from turnmill_worker.providers.port import Done, Unknowable
from turnmill_worker.turn import aloud, settlements
from turnmill_worker.turn.attempt import attempt, judged
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.failing import FAILING, warn_of_failure
from turnmill_worker.turn.ledger import UNSTORABLE
from turnmill_worker.turn.rounds import unanswered
from turnmill_worker.turn.steps import Asking
from turnmill_worker.turn.written import tell

logger = logging.getLogger("turnmill.turn")

#: Turns of other users that one hint lets go first.
_MOST_BEFORE = 10


@dataclass(frozen=True, slots=True)
class NotOurs:
    """Somebody else runs the turn, or nobody may: nothing was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The verdict stands in the store."""

    turn_id: TurnId
    state: TurnState
    due_at: datetime | None  #: when the turn comes again; None when it is final
    error_code: str | None

    @property
    def is_failure(self) -> bool:
        return self.state in FAILING


@dataclass(frozen=True, slots=True)
class Outrun:
    """What we found out changes nothing: the lease was lost before it could be written."""


Outcome = NotOurs | Ended | Outrun


async def run_turn(turn_id: TurnId, deps: Deps) -> Outcome:
    """Run the turn if it is ours to run. May be called any number of times for one turn.

    Where it is another one's turn first, that one gets the slot, and this one the next.
    """
    for before in range(_MOST_BEFORE):
        await deps.slots.take_one(again=before > 0)
        is_lent = False
        try:
            # Where we accept nothing the hint is gone, and the row is not: another dispatcher
            # announces it.
            claim = await _claim(turn_id, deps) if deps.accepting() else None
            if claim is None:
                return NotOurs()
            if claim.turn_id == turn_id:
                return await run_claim(claim, deps)
            deps.beside.begin(run_one(claim, deps), then=deps.slots.give_back)
            is_lent = True
        finally:
            if not is_lent:
                deps.slots.give_back()
    return NotOurs()  # the dispatcher announces it again


async def _claim(turn_id: TurnId, deps: Deps) -> Claim | None:
    crowded = deps.slots.free(Lane.INTERACTIVE) < 1
    try:
        return await deps.ledger.claim(turn_id, crowded=crowded)
    except StoreError as error:
        logger.warning("cannot claim: %s", error.code, extra={"turn_id": str(turn_id)})
    except Exception as error:  # noqa: BLE001
        # The edge to Celery, which would log the words of the error: they may quote a row.
        name = boundary.name_of(error)
        logger.error("a claim failed: %s", name, extra={"turn_id": str(turn_id)})
    return None


async def run_one(claim: Claim, deps: Deps) -> Outcome | None:
    """Run one of many turns, and raise nothing; None where not even its outcome is known."""
    try:
        return await run_claim(claim, deps)
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001
        # The edge to its neighbours: whatever is wrong with one turn must not stop the others.
        logger.error("a turn ended with %s", boundary.name_of(error))
    return None


async def run_claim(claim: Claim, deps: Deps) -> Outcome:
    """Ask the provider and write down what came of it, whatever it is.

    Where the session has others who may answer, they are asked one after the other: whoever waits
    for a reply does not wait in line for each.
    """
    while True:
        claim, settlement, settled = await _run_once(claim, deps)
        again = None if settlement.benched is None else await _at_once(settlement, settled, deps)
        if again is None or isinstance(settled, Fenced):
            return _report(claim, settlement, settled, deps)
        _tell(claim, settlement, settled, deps)
        claim = again


async def _at_once(settlement: Settlement, settled: Settled | Fenced, deps: Deps) -> Claim | None:
    """Take the turn again where it goes on with another target, and nobody has taken it."""
    if settlement.delay or isinstance(settled, Fenced) or settled.due_at is None:
        return None
    return await _claim_again(settlement.turn_id, deps) if deps.accepting() else None


async def _claim_again(turn_id: TurnId, deps: Deps) -> Claim | None:
    try:
        return await deps.ledger.claim_again(turn_id)
    except Exception as error:  # noqa: BLE001
        # The edge to Celery: it is announced then, as any other turn.
        name = boundary.name_of(error)
        logger.warning("cannot claim again: %s", name, extra={"turn_id": str(turn_id)})
        return None


async def _run_once(claim: Claim, deps: Deps) -> tuple[Claim, Settlement, Settled | Fenced]:
    with deps.in_hand.holding(claim) as holding:
        if claim.target:
            claim = holding.claim = aimed(claim)
        if claim.stream and claim.kind == "send":
            holding.publish(deps.carrier.begin(claim, first=_begins_step(claim)))
        if deps.steps.are_taken(claim):
            settlement, settled = await deps.steps.run(holding, _asking(holding, deps))
        else:
            settlement = await attempt(holding, deps)
            settled = await _written(settlement, deps)
        if holding.publishing is not None:
            holding.publishing.ended(None if isinstance(settled, Fenced) else settled.state)
    if isinstance(settled, Fenced) and settlement.kept:
        await calls.shielded(deps.ledger.keep_late(settlement))
    return holding.claim, settlement, settled


def _begins_step(claim: Claim) -> bool | None:
    """Tell whether the step is tried for the first time; None: who counts attempts knows."""
    # While calls have no outputs, no model can have been asked to go on.
    return True if claim.step > 1 and unanswered(claim.messages) else None


def _asking(holding: Holding, deps: Deps) -> Asking:
    judge, told = partial(_judged, holding, deps), partial(_told_step, deps)
    return Asking(
        ask=lambda: attempt(holding, deps),
        judge=judge,
        write=lambda settlement: _written(settlement, deps),
        told=told,
        again=partial(_streams_on, holding, deps),
        aloud=aloud.Asking(
            ask=partial(_ask_aloud, holding, deps),
            whom=deps.whom,
            timed=deps.timed,
            judge=judge,
            told=told,
            end=lambda settlement: _written_aloud(settlement, deps),
        ),
    )


def _judged(
    holding: Holding, deps: Deps, found: Stop | ProviderError | Unknowable | Done
) -> Settlement:
    return settlements.settlement(
        holding.claim,
        judged(found, holding, deps),
        provider_ms=0,
        cost_usd=None,
        reserved=holding.reserved,
        may_have_cost=bool(holding.last_cost()[0]),
    )


def _told_step(deps: Deps, claim: Claim, settlement: Settlement) -> None:
    stands = Settled(turn_id=claim.turn_id, state=settlement.state, due_at=None, next=None)
    tell(deps.told, claim, settlement, stands)


def _streams_on(holding: Holding, deps: Deps) -> None:
    if holding.publishing is not None:
        holding.publishing.ended(None)
    if holding.claim.stream:
        holding.publish(deps.carrier.begin(holding.claim, first=True))


async def _ask_aloud(holding: Holding, deps: Deps, kind: str, claim: Claim) -> Settlement:
    holding.partial = None  # what was streamed before stands by now
    with holding.asked_as(claim):
        return await attempt(holding, deps.voice(kind))


async def _written(settlement: Settlement, deps: Deps) -> Settled | Fenced:
    return await _lastingly(settlement, deps.ledger.settle(settlement))


async def _written_aloud(settlement: Settlement, deps: Deps) -> Settled | Fenced:
    assert deps.voice_ledger is not None  # it has begun the attempt
    return await _lastingly(settlement, calls.shielded(deps.voice_ledger.end(settlement)))


async def _lastingly(
    settlement: Settlement, writing: Coroutine[Any, Any, Settled | Fenced]
) -> Settled | Fenced:
    """Return what came of writing a verdict. One that cannot be written is as good as fenced.

    Whoever takes the lease when it has run out goes on with the turn.
    """
    try:
        return await writing
    except Exception as error:  # noqa: BLE001
        # The edge to Celery, which would log the words of the error: they may quote a reply.
        code = error.code if isinstance(error, StoreError) else boundary.name_of(error)
        logger.error(
            "a verdict cannot be written: %s",
            code,
            extra={"action": "unwritten", "turn_id": str(settlement.turn_id)},
        )
        return Fenced(turn_id=settlement.turn_id)


def _tell(claim: Claim, settlement: Settlement, settled: Settled, deps: Deps) -> None:
    """Tell those within this process who listen."""
    tell(deps.told, claim, settlement, settled)
    if deps.failing is not None:
        deps.failing.note(settlement, settled)


def _report(claim: Claim, settlement: Settlement, settled: Settled | Fenced, deps: Deps) -> Outcome:
    if isinstance(settled, Fenced):
        logger.warning(
            "lease lost before the verdict; nothing was changed",
            extra={"action": "fenced", "turn_id": str(claim.turn_id), "fence": claim.fence},
        )
        return Outrun()
    if settled.next is not None or settled.due_at is not None:
        boundary.attempted("an announcement", lambda: _announce(claim, settled, deps))
    _tell(claim, settlement, settled, deps)
    code = settlement.error_code
    if settled.state in FAILING:
        # A reply that the tables do not take fails its turn, whatever the verdict said.
        code = code or UNSTORABLE
        warn_of_failure(claim, settled.state, code)
    return Ended(turn_id=claim.turn_id, state=settled.state, due_at=settled.due_at, error_code=code)


def _announce(claim: Claim, settled: Settled, deps: Deps) -> None:
    if settled.next is not None:
        deps.announce(settled.next)
    elif settled.due_at is not None:
        head = Head(turn_id=claim.turn_id, session_id=claim.session_id, lane=claim.lane)
        deps.announce_at(head, settled.due_at)
