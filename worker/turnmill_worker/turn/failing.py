"""The one line that a worker's log has on each turn that failed for good."""

import logging

from turnmill.domain.states import TurnState
from turnmill.store.records import Claim, Lost

logger = logging.getLogger("turnmill.turn")

#: Endings that somebody may have to look into.
FAILING = frozenset({TurnState.FAILED, TurnState.DEAD})


def warn_of_failure(claim: Claim, state: TurnState, code: str) -> None:
    """Say that a turn failed: ids, names and numbers, and never a word of anybody's."""
    _warn(
        state,
        code,
        turn_id=str(claim.turn_id),
        session_id=str(claim.session_id),
        spent=f"attempt {claim.attempt} of {claim.max_attempts}",
        provider=_one_line(claim.provider),
        model=_one_line(claim.model),
    )


def warn_of_loss(turn: Lost) -> None:
    """Say the same of a turn that died of its workers' losses: nobody came back with a verdict."""
    _warn(
        TurnState.DEAD,
        turn.error_code,
        turn_id=str(turn.turn_id),
        session_id=str(turn.session_id),
        spent=f"lost {turn.lost} times",
        provider=_one_line(turn.provider),
        model=_one_line(turn.model),
    )


def _warn(state: TurnState, code: str, **about: str) -> None:
    logger.warning(
        "turn %(turn_id)s %(became)s: %(code)s (session %(session_id)s, %(spent)s,"
        " provider %(provider)s, model %(model)s)",
        about | {"became": "is dead" if state is TurnState.DEAD else "failed", "code": code},
        extra={"action": "failed", "state": state.value, "code": code} | about,
    )


def _one_line(name: str) -> str:
    """Return a name that an application chose, such that it cannot look like another line."""
    return name if name.isprintable() else ascii(name)
