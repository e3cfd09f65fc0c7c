"""The bulk lane: many turns under one task, which takes what is due until nothing is."""

import asyncio
import logging
from collections.abc import Sequence

from turnmill.broker.publisher import TURNS_PER_HINT
from turnmill.domain.errors import StoreError
from turnmill.domain.states import Lane
from turnmill.store.records import Claim
from turnmill_worker.providers.boundary import name_of
from turnmill_worker.turn.run import Deps, run_claim

logger = logging.getLogger("turnmill.bulk")

#: A task claims so many times, so that none of them lives for ever.
_MOST_ROUNDS = 20


async def run_bulk(deps: Deps) -> int:
    """Claim and run due turns, as many at once as slots allow, until none are; return how many.

    Returns at once when enough other tasks do so already.
    """
    slots = deps.slots
    if slots.bulk_places() < 1:
        return 0
    total = 0
    with slots.bulk_task():
        async with asyncio.TaskGroup() as turns:
            with slots.claiming():
                for _ in range(_MOST_ROUNDS):
                    room = await slots.some(Lane.BULK, most=TURNS_PER_HINT[Lane.BULK])
                    claims = await claim_many(deps, Lane.BULK, room)
                    for claim in claims:
                        turn = turns.create_task(run_one(claim, deps))
                        turn.add_done_callback(lambda _: slots.give_back())
                    total += len(claims)
                    if len(claims) < room:
                        break
    return total


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
        deps.slots.give_back(room - len(claims))
    return claims


async def run_one(claim: Claim, deps: Deps) -> None:
    """Run one of many turns, and raise nothing."""
    try:
        await run_claim(claim, deps)
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001
        # The edge to its neighbours: whatever is wrong with one turn must not stop the others.
        logger.error("a turn ended with %s", name_of(error))
