"""An observer that is a Celery task of the operator's: it is sent the event, ids alone."""

from collections.abc import Sequence
from typing import Any

from turnmill.store.nouns.events import Event


class CeleryTask:
    """Sends a task by its name for each event; whoever consumes the queue has it.

    The event is passed when the broker has the message, and sent again where it has not.
    """

    def __init__(
        self,
        task: str,
        *,
        kinds: Sequence[str] | None = None,
        queue: str | None = None,
        parts: int = 1,
    ) -> None:
        """`kinds`: as those of any observer; `queue`: None is the default one of the app."""
        self.kinds = kinds
        self.parts = parts
        self._task = task
        self._queue = queue

    def __call__(self, event: Event) -> None:
        """Send it. On a thread, as all plain functions: the broker may let us wait."""
        from celery import current_app  # noqa: PLC0415  an observer of one process needs none

        options: dict[str, Any] = {} if self._queue is None else {"queue": self._queue}
        current_app.send_task(
            self._task, kwargs={"event": said(event)}, ignore_result=True, retry=False, **options
        )


def said(event: Event) -> dict[str, Any]:
    """Return the event as a task is told it: ids, kinds and moments, as JSON has them."""
    names = ("session_id", "turn_id", "budget_id")
    ids = {name: None if (one := getattr(event, name)) is None else str(one) for name in names}
    return {
        "id": event.id,
        "kind": event.kind,
        "n": event.n,
        "state": None if event.state is None else event.state.value,
        "at": None if event.at is None else event.at.isoformat(),
        "share": event.share,
        "place": event.place,
        **ids,
    }
