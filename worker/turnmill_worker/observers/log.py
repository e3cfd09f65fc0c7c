"""Log: one line for each event, with ids and the kind."""

import logging

from turnmill.store.nouns.events import Event
from turnmill_worker.observers.port import Observer

logger = logging.getLogger("turnmill.events")


def log() -> Observer:
    """Return the observer; its lines are of the level INFO."""

    async def observer(event: Event) -> None:
        ids = {"turn_id": str(event.turn_id), "session_id": str(event.session_id)}
        logger.info(
            "%s: turn %s, number %d in session %s",
            event.kind,
            event.turn_id,
            event.n,
            event.session_id,
            extra={"action": "event", "kind": event.kind, "n": event.n, **ids},
        )

    return observer
