"""Many turns under one task: the bulk lane and quarantine take what is due until nothing is."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from turnmill.domain.errors import StoreError
from turnmill.domain.states import Lane
from turnmill.queue import TURNS_PER_HINT
from turnmill.store.records import Claim
from turnmill_worker.turn import Deps, run_claim

logger = logging.getLogger("turnmill.bulk")

#: A task ends after so many rounds, so that none of them lives for ever.
_MOST_ROUNDS = 20

Take = Callable[[int], Awaitable[Sequence[Claim]]]


async def run_bulk(deps: Deps, *, keep_on: Callable[[], bool]) -> int:
    """Run due turns of the bulk lane, as many at once as slots allow; return how many."""
    lane = Lane.BULK

    async def take(most: int) -> Sequence[Claim]:
        return await deps.ledger.claim_due(lane, limit=most)

    return await run_rounds(deps, lane, take, most=TURNS_PER_HINT[lane], keep_on=keep_on)


async def run_rounds(
    deps: Deps, lane: Lane, take: Take, *, most: int, keep_on: Callable[[], bool]
) -> int:
    """Take and run up to `most` turns at once, round after round, until less than that is due."""
    total = 0
    for _ in range(_MOST_ROUNDS):
        slots = await deps.slots.some(lane, most=most)
        if not keep_on():
            deps.slots.give_back(slots)
            return total
        ran = await _round(deps, take, slots)
        total += ran
        if ran < slots:
            return total
    return total


async def _round(deps: Deps, take: Take, slots: int) -> int:
    """Run one round. Each turn gives its slot back when it ends, not when the round does."""
    unused = slots
    try:
        claims = await take(slots)
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
