"""What others may do when a turn was settled. The built-in hook writes one line to the log."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from turnmill.store.records import Claim, Settled

logger = logging.getLogger("turnmill.turn")

Hook = Callable[[Claim, Settled], None]


def log_settled(claim: Claim, settled: Settled) -> None:
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


@dataclass(frozen=True, slots=True)
class Hooks:
    """Called after the commit, on the event loop: they must not block."""

    settled: Sequence[Hook] = (log_settled,)

    def turn_settled(self, claim: Claim, settled: Settled) -> None:
        """Call every hook; one that fails does not keep the others from being called."""
        for hook in self.settled:
            try:
                hook(claim, settled)
            except Exception as error:  # noqa: BLE001
                # The edge to other people's code. The turn stands; its text may be in the error.
                logger.error("a hook failed: %s", type(error).__name__)
