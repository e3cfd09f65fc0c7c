"""How a reply is shown while it comes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from turnmill.cli.context import say
from turnmill.domain.streaming import StreamKind
from turnmill.show.piecewise import Piecewise
from turnmill.show.tables import print_json

if TYPE_CHECKING:
    from turnmill.cli.held_up import HeldUp
    from turnmill.domain.streaming import StreamEvent
    from turnmill.sync.turns import Turn


def watch(turn: Turn, *, timeout: float | None = None, held_up: HeldUp | None = None) -> None:
    """Write the reply to stdout as it comes, until the turn has ended; raises TurnTimeout.

    What was written of an attempt that failed cannot be taken back: a line on stderr says that it
    begins again. `held_up` makes room for all that is written.
    """
    pieces, stands = Piecewise(), False
    if held_up is not None and sys.stdout.isatty():
        held_up.break_line = pieces.end
    try:
        for event in turn.stream(timeout=timeout):
            if event.kind is StreamKind.ATTEMPT_RESTARTED and stands:
                _tell(_AGAIN, pieces, held_up)
                stands = False
            elif event.kind is StreamKind.TOOL_CALL and event.call is not None:
                _tell(f"{event.call.name} is called", pieces, held_up)
                stands = False
            elif event.kind is StreamKind.DELTA:
                if held_up is not None:
                    held_up.text_comes()
                pieces.write(event.text)
                stands = True
    finally:
        if held_up is not None:
            held_up.text_comes()
        pieces.end()


_AGAIN = "it begins again; what stands above is void"


def _tell(line: str, pieces: Piecewise, held_up: HeldUp | None) -> None:
    """Say something on a line of its own, between what is written of a reply."""
    if held_up is not None:
        held_up.text_comes()
    pieces.end()
    say(line, dim=True)
    if held_up is not None:
        held_up.line_ends()


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
