"""A call of a tool in one line: what a model wanted, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from turnmill.domain.states import FINAL, FOR_APPROVAL
from turnmill.show.listing import Listing
from turnmill.show.tables import fields
from turnmill.show.wording import clock_text, duration, json_text, relative, styled

if TYPE_CHECKING:
    from turnmill.store.nouns.tool_calls import ToolCallRecord
    from turnmill.store.turn_records import TurnRecord

#: Columns of a table of the calls of one turn.
OF_TURN = ("step", "call", "tool", "state", "reason", "took", "effects", "runs")


def waiting_calls(*, text: bool) -> Listing[ToolCallRecord]:
    """Return how calls are listed that wait for somebody; `text`: with what they were made with."""
    columns = ("turn", "call", "tool", "waits for", "since", "until", "session")
    return Listing(
        columns=(*columns, "arguments") if text else columns,
        row=_row_with_text if text else _row,
        document=_with(call_document, text=text),
        spare=("since", "session"),
    )


def call_document(call: ToolCallRecord, *, text: bool) -> dict[str, Any]:
    """Return what programs read of a call; content only where it was asked for."""
    said = fields(call, "arguments", "output", "decided_by", "why") if text else {}
    return {
        **fields(call, "turn_id", "session_id", "step", "position", "call_id", "tool", "state"),
        **fields(call, "waits_for", "effects", "approval", "runs", "error_code", "decided_at"),
        **fields(call, "created_at", "started_at", "ended_at", "expires_at", "made_in"),
        **said,
    }


def answers(turn: TurnRecord, calls: Sequence[ToolCallRecord]) -> list[str]:
    """Return the commands by which somebody says what the calls of a turn wait for."""
    if turn.state in FINAL:
        return []
    ids = [(one.waits_for, f"{turn.id} {one.call_id}") for one in calls if one.waits_for]
    return [
        f"turnmill tools approve {one}  (or reject)"
        if what == FOR_APPROVAL
        else f"turnmill tools submit {one} --output TEXT"
        for what, one in ids
    ]


def row_of_turn(call: ToolCallRecord) -> tuple[object, ...]:
    """Return the row of a call in the table of its turn's."""
    since = call.started_at or call.created_at
    return (
        call.step,
        call.call_id,
        call.tool,
        styled(call.state),
        call.error_code or _until(call),
        None if call.ended_at is None else duration(call.ended_at - since),
        call.effects,
        call.runs,
    )


def _until(call: ToolCallRecord) -> str | None:
    if call.waits_for is None or call.expires_at is None:
        return None
    return f"until {clock_text(call.expires_at)} UTC"


def _row(call: ToolCallRecord) -> tuple[object, ...]:
    now = datetime.now(UTC)
    return (
        call.turn_id,
        call.call_id,
        call.tool,
        call.waits_for,
        relative(call.created_at, now=now),
        None if call.expires_at is None else relative(call.expires_at, now=now),
        call.session_id,
    )


def _row_with_text(call: ToolCallRecord) -> tuple[object, ...]:
    return (*_row(call), json_text(call.arguments))


def _with(
    document: Callable[..., dict[str, Any]], *, text: bool
) -> Callable[[ToolCallRecord], dict[str, Any]]:
    return lambda call: document(call, text=text)
