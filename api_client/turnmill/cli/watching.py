"""How a reply is shown while it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from turnmill.cli.context import say
from turnmill.domain.streaming import StreamKind
from turnmill.show.piecewise import Piecewise
from turnmill.show.tables import print_json

if TYPE_CHECKING:
    from turnmill.domain.streaming import StreamEvent
    from turnmill.sync.turns import Turn


def watch(
    turn: Turn, *, timeout: float | None = None, begins: Callable[[], None] = lambda: None
) -> None:
    """Write the reply to stdout as it comes, until the turn has ended; raises TurnTimeout.

    What was written of an attempt that failed cannot be taken back: a line on stderr says that it
    begins again. `begins` is called before the first of it is written.
    """
    pieces = Piecewise()
    try:
        for event in turn.stream(timeout=timeout):
            if event.kind is StreamKind.ATTEMPT_RESTARTED and pieces.has_written:
                pieces.end()
                say("it begins again; what stands above is void", dim=True)
            elif event.kind is StreamKind.TOOL_CALL and event.call is not None:
                begins()
                pieces.end()
                say(f"{event.call.name} is called", dim=True)
            elif event.kind is StreamKind.DELTA:
                begins()
                pieces.write(event.text)
    finally:
        pieces.end()


def print_events(turn: Turn, *, timeout: float | None = None) -> None:
    """Print each event as one line of JSON; raises TurnTimeout."""
    for event in turn.stream(timeout=timeout):
        print_json(_document(event))


def _document(event: StreamEvent) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": event.id,
        "kind": event.kind,
        "attempt": event.attempt,
        "step": event.step,
    }
    if event.kind is StreamKind.DELTA:
        found["text"] = event.text
    if event.call is not None:
        found["call"] = {
            "id": event.call.id,
            "name": event.call.name,
            "arguments": event.call.arguments,
        }
    if event.output is not None:
        found["output"] = {
            "call_id": event.output.call_id,
            "output": event.output.output,
            "is_error": event.output.is_error,
        }
    if event.state is not None:
        found |= {"state": event.state, "error_code": event.error_code}
    return found
