"""The bulk lane: many turns under one task, which takes what is due until nothing is."""

import asyncio
import logging

from turnmill.domain.errors import StoreError
from turnmill.domain.states import Lane
from turnmill.queue import TURNS_PER_HINT
from turnmill.store.records import Claim
from turnmill_worker.turn import Deps, run_claim

logger = logging.getLogger("turnmill.bulk")

#: A task ends after so many rounds, so that none of them lives for ever.
_MOST_ROUNDS = 20


async def run_bulk(deps: Deps) -> int:
    """Take and run due turns, as many at once as slots allow, until none are; return how many."""
    most = TURNS_PER_HINT[Lane.BULK]
    total = 0
    for _ in range(_MOST_ROUNDS):
        slots = await deps.slots.some(Lane.BULK, most=most)
        if not slots or not deps.keep_on():
            deps.slots.give_back(slots)
            break
        ran = await _round(deps, slots)
        total += ran
        if ran < slots:
            break
    return total


async def _round(deps: Deps, slots: int) -> int:
    """Run one round. Each turn gives its slot back when it ends, not when the round does."""
    unused = slots
    try:
        claims = await deps.ledger.claim_due(Lane.BULK, limit=slots)
        deps.slots.give_back(unused - len(claims))
        unused = 0
    except StoreError as error:
        logger.warning("cannot claim: %s; the dispatcher will announce them again", error.code)
        return 0
    finally:
        deps.slots.give_back(unused)
    await asyncio.gather(*(_in_slot(claim, deps) for claim in claims))
    return len(claims)


async def _in_slot(claim: Claim, deps: Deps) -> None:
    try:
        await run_claim(claim, deps)
    finally:
        deps.slots.give_back()
