"""What was written about a claim: told within this process, once it is committed."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.store.records import Claim, ClaimKind, Settled, Settlement
from turnmill_worker.providers.boundary import attempted

logger = logging.getLogger("turnmill.turn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written about one claim of a turn: ids, names, states and numbers."""

    turn_id: TurnId
    session_id: SessionId
    provider: str
    model: str
    kind: ClaimKind
    attempt: int
    state: TurnState  #: where the turn stands now
    outcome: str  #: what the attempt says
    error_code: str | None
    waits_for: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cost_usd: Decimal | None


#: Counts, say. It may miss one: what is to miss nothing reads events.
Told = Callable[[Written], None]


def tell(told: Told | None, claim: Claim, settlement: Settlement, settled: Settled) -> None:
    """Tell of it, on the event loop: who is told must not block. Where that fails, it is logged."""
    if logger.isEnabledFor(logging.DEBUG):
        _log(claim, settled)
    if told is not None:
        attempted("who counts verdicts", partial(told, _written(claim, settlement, settled)))


def _written(claim: Claim, settlement: Settlement, settled: Settled) -> Written:
    return Written(
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
