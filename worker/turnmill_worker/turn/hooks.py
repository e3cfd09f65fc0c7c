"""What others may do when a turn was settled. The built-in hook writes one line to the log."""

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from turnmill.store.records import Claim, Settled
from turnmill_worker.providers.boundary import attempted

logger = logging.getLogger("turnmill.turn")

Hook = Callable[[Claim, Settled], None]


def log_settled(claim: Claim, settled: Settled) -> None:
    """Log ids and state, never content."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
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
            made: object = attempted("a hook", partial(hook, claim, settled))
            if inspect.iscoroutine(made):
                made.close()
                logger.error("a hook is async def and was not run: hooks are plain functions")
