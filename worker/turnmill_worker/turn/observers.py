"""Observers: told of each verdict after it was committed, without a word of its content."""

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.store.records import Claim, Settled, Settlement
from turnmill_worker.providers.boundary import attempted

logger = logging.getLogger("turnmill.turn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was written about one claim of a turn: ids, names, states and numbers."""

    turn_id: TurnId
    session_id: SessionId
    provider: str
    model: str
    kind: str  #: send, check or resume
    attempt: int
    state: TurnState  #: where the turn stands now
    outcome: str  #: what the attempt says
    error_code: str | None
    waits_for: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cost_usd: Decimal | None


Observer = Callable[[Observed], None]


def tell(
    observers: Sequence[Observer], claim: Claim, settlement: Settlement, settled: Settled
) -> None:
    """Tell every observer; one that fails does not keep the others from being told.

    They are called on the event loop, and must not block.
    """
    if logger.isEnabledFor(logging.DEBUG):
        _log(claim, settled)
    if not observers:
        return
    seen = _observed(claim, settlement, settled)
    for observer in observers:
        made: object = attempted("an observer", partial(observer, seen))
        if inspect.iscoroutine(made):
            made.close()
            logger.error("an observer is async def and was not run: observers are plain functions")


def _observed(claim: Claim, settlement: Settlement, settled: Settled) -> Observed:
    return Observed(
        turn_id=claim.turn_id,
        session_id=claim.session_id,
        provider=claim.provider,
        model=settlement.model,
        kind=claim.kind,
        attempt=claim.attempt,
        state=settled.state,
        outcome=settlement.outcome,
        error_code=settlement.error_code,
        waits_for=settlement.waits_for,
        input_tokens=settlement.input_tokens,
        output_tokens=settlement.output_tokens,
        cached_tokens=settlement.cached_tokens,
        cost_usd=settlement.cost_usd,
    )


def _log(claim: Claim, settled: Settled) -> None:
    """Log ids and state, never content."""
    logger.debug(
        "turn %s %s",
        claim.turn_id,
        settled.state,
        extra={
            "action": "settled",
            "turn_id": str(claim.turn_id),
            "session_id": str(claim.session_id),
            "state": settled.state.value,
            "attempt": claim.attempt,
        },
    )
