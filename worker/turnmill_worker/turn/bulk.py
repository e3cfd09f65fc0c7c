"""The bulk lane: many turns under one task, which takes what is due until nothing is."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from turnmill.broker.publisher import TURNS_PER_HINT
from turnmill.domain.errors import StoreError
from turnmill.domain.ids import BatchId, TurnId
from turnmill.domain.states import Lane
from turnmill.store.records import Claim
from turnmill_worker.providers.boundary import name_of
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.run import Ended, Outcome, run_one
from turnmill_worker.turn.slots import Slots

logger = logging.getLogger("turnmill.bulk")

#: A task claims so many times, so that none of them lives for ever.
_MOST_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Ran:
    """What one task of many turns has done."""

    turns: list[TurnId] = field(default_factory=list)  #: that it claimed
    batches: set[BatchId] = field(default_factory=set)  #: that some of them belong to
    failed: list[Ended] = field(default_factory=list)

    def claimed(self, claim: Claim) -> None:
        """Keep which turn it is."""
        self.turns.append(claim.turn_id)
        if claim.batch_id is not None:
            self.batches.add(claim.batch_id)

    def ended(self, turn: asyncio.Task[Outcome | None]) -> None:
        """Keep what came of a turn, if it failed for good."""
        outcome = None if turn.cancelled() else turn.result()
        if isinstance(outcome, Ended) and outcome.is_failure:
            self.failed.append(outcome)


async def run_bulk(deps: Deps) -> Ran:
    """Claim and run due turns, as many at once as slots allow, until few are due.

    Returns at once when enough other tasks do so already.
    """
    slots = deps.slots
    ran = Ran()
    if slots.bulk_places() < 1:
        return ran
    with slots.bulk_task():
        async with asyncio.TaskGroup() as turns:
            with slots.claiming():
                for _ in range(_MOST_ROUNDS):
                    room = await slots.take_some(Lane.BULK, most=TURNS_PER_HINT[Lane.BULK])
                    begun = await _begin(await claim_many(deps, Lane.BULK, room), turns, deps, ran)
                    # What others have locked is passed over: a claim that is a little short is no
                    # sign that nothing is left, and the next task costs as much as ten turns.
                    if 2 * begun < room:
                        break
    return ran


async def _begin(claims: Sequence[Claim], turns: asyncio.TaskGroup, deps: Deps, ran: Ran) -> int:
    """Run each, and return how many they are; whoever waits for slots keeps no histories.

    A few in each round of the loop: what they begin with, and end with, comes in bursts otherwise,
    and whoever talks meanwhile waits behind it. While somebody does they are further apart.
    """
    waiting = deque(claims)
    spacing = deps.slots.spacing
    try:
        while waiting:
            for _ in range(await spacing.some(len(waiting))):
                _run(waiting.popleft(), turns, deps, ran)
    finally:  # cancelled or not: each claim has somebody who ends it
        while waiting:
            _run(waiting.popleft(), turns, deps, ran)
    return len(claims)


def _run(claim: Claim, turns: asyncio.TaskGroup, deps: Deps, ran: Ran) -> None:
    turn = turns.create_task(run_one(claim, deps))
    turn.add_done_callback(partial(_over, deps.slots, ran))
    ran.claimed(claim)


def _over(slots: Slots, ran: Ran, turn: "asyncio.Task[Outcome | None]") -> None:
    slots.give_back(lane=Lane.BULK)
    slots.spacing.ended()
    ran.ended(turn)


async def claim_many(deps: Deps, lane: Lane, room: int) -> Sequence[Claim]:
    """Claim due turns for slots that were taken, and give back those that are left over."""
    claims: Sequence[Claim] = ()
    try:
        if deps.accepting():
            claims = await deps.ledger.claim_due(lane, limit=room)
    except StoreError as error:
        logger.warning("cannot claim: %s; the dispatcher will announce them again", error.code)
    except Exception as error:  # noqa: BLE001
        # The edge to the turns that run already: they must not be cancelled for it.
        logger.error("a claim failed: %s", name_of(error))
    finally:
        deps.slots.give_back(room - len(claims), lane=lane)
    return claims
