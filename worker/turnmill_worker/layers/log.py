"""Log: one line for each call to a provider, with ids, outcome and time, and never a word of it."""

import logging
from datetime import timedelta

from turnmill_worker.layers.call import Call, Layer
from turnmill_worker.layers.measure import measure

logger = logging.getLogger("turnmill.calls")


def log() -> Layer:
    """Return the layer: the factory of the entry point `log`."""
    return measure(_write)


def _write(call: Call, outcome: str, code: str | None, took: timedelta) -> None:
    claim, ms = call.claim, round(took.total_seconds() * 1000)
    logger.info(
        "%s of turn %s: %s%s in %d ms",
        call.kind,
        claim.turn_id,
        outcome,
        f" ({code})" if code else "",
        ms,
        extra={
            "action": "called",
            "turn_id": str(claim.turn_id),
            "session_id": str(claim.session_id),
            "attempt": claim.attempt,
            "kind": call.kind,
            "outcome": outcome,
            "code": code,
            "ms": ms,
        },
    )
