"""Calls of tools as they are read: what a model wanted, and what became of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, or_, select

from turnmill.domain.content import Part, ToolCall, ToolOutput
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.json_values import Unreadable, lenient_json
from turnmill.domain.states import FINAL, WAITING_CALLS, WAITS_FOR, Effects, ToolCallState
from turnmill.store.codec import shown_parts
from turnmill.store.nouns import turns as turn_rows
from turnmill.store.readable import readable
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import messages, turns
from turnmill.store.vaults import plain

#: The error code of a call whose output somebody outside could not give.
FAILED_OUTSIDE = "failed_outside"

#: More than looking something up.
_EFFECTIVE = frozenset({Effects.IDEMPOTENT, Effects.AT_MOST_ONCE})


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallRecord:
    """A call of a tool that a model has made, and what became of it."""

    turn_id: TurnId
    session_id: SessionId
    position: int  #: of its output among the messages of the turn
    step: int  #: whose reply made the call
    call_id: str  #: the vendor's name of it, by which it is answered, approved or rejected
    tool: str
    arguments: Any = field(repr=False)  #: as JSON reads; a text where the model wrote none
    state: ToolCallState
    effects: Effects
    approval: bool  #: somebody has to agree, or had to
    runs: int  #: how often it was begun by a worker
    error_code: str | None
    output: str | None = field(repr=False)  #: what the model is told; None: nothing so far
    decided_by: str | None = field(repr=False)  #: who agreed, or did not, where that was said
    decided_at: datetime | None
    why: str | None = field(repr=False)  #: in the words of who did not agree
    created_at: datetime
    started_at: datetime | None  #: before the last run began
    ended_at: datetime | None
    expires_at: datetime | None  #: until then its output, or its approval, is waited for
    made_in: TurnId | None  #: another turn, of which this one is the retry; None: in this one

    @property
    def waits_for(self) -> str | None:
        """Return `tool` or `approval` where somebody outside has to answer it, or to agree."""
        return WAITS_FOR.get(self.state)


def calls_of(conn: Connection, turn_id: TurnId) -> list[ToolCallRecord]:
    """Return all calls of the turn in the order in which they were made. Raises TurnNotFound."""
    turn_rows.get(conn, turn_id)
    return _records(conn, tool_calls.c.turn_id == turn_id)


def effects_of(conn: Connection, turn_id: TurnId) -> list[ToolCallRecord]:
    """Return the calls by which the turn has changed the world, or may have.

    That is what a worker has begun, and what somebody outside has answered.
    """
    turn_rows.get(conn, turn_id)
    happened = or_(
        tool_calls.c.runs > 0,
        tool_calls.c.state == ToolCallState.DONE,
        tool_calls.c.error_code == FAILED_OUTSIDE,
    )
    effective = tool_calls.c.effects.in_(_EFFECTIVE)
    return _records(conn, tool_calls.c.turn_id == turn_id, effective, happened)


def waiting_of(conn: Connection, turn_ids: Sequence[TurnId]) -> list[ToolCallRecord]:
    """Return the calls of these turns that wait for somebody outside, those of a turn together."""
    if not turn_ids:
        return []
    waits = tool_calls.c.state.in_(WAITING_CALLS)
    return _records(conn, tool_calls.c.turn_id.in_(turn_ids), waits)


def _records(conn: Connection, *which: Any) -> list[ToolCallRecord]:
    query = (
        select(tool_calls, turns.c.state.in_(FINAL).label("is_final"))
        .join(turns, turns.c.id == tool_calls.c.turn_id)
        .where(*which)
        .order_by(tool_calls.c.turn_id.desc(), tool_calls.c.position)
    )
    rows = conn.execute(query).all()
    said = _said(conn, {row.turn_id for row in rows})
    return list(readable(rows, lambda row: _record(row, said.get(row.turn_id, {}))))


def _record(row: Any, said: Mapping[int, Sequence[Part]]) -> ToolCallRecord:
    call, output = _of_kind(ToolCall, said, row), _of_kind(ToolOutput, said, row)
    decision = plain(row.decision) or {}
    state = ToolCallState(row.state)
    if state is ToolCallState.RUNNING and row.is_final:
        state = ToolCallState.UNKNOWN  # nobody runs it: its worker was lost
    return ToolCallRecord(
        turn_id=TurnId(row.turn_id),
        session_id=SessionId(row.session_id),
        arguments=None if call is None else _parsed(call.arguments),
        state=state,
        effects=Effects(row.effects),
        made_in=None if row.made_in is None else TurnId(row.made_in),
        output=None if output is None else output.output,
        decided_by=decision.get("by"),
        decided_at=datetime.fromisoformat(decision["at"]) if decision else None,
        why=decision.get("why"),
        **{name: getattr(row, name) for name in _AS_STORED},
    )


_AS_STORED = (
    *("position", "step", "call_id", "tool", "approval", "runs", "error_code"),
    *("created_at", "started_at", "ended_at", "expires_at"),
)


def _said(conn: Connection, turn_ids: Iterable[UUID]) -> dict[UUID, dict[int, list[Part]]]:
    """Return, of each turn, the call and the output that belong to the receipt at a position.

    The outputs of a message follow it in the order of its calls.
    """
    found: dict[UUID, dict[int, list[Part]]] = {one: {} for one in turn_ids}
    if not found:
        return found
    rows = conn.execute(
        select(messages.c.turn_id, messages.c.position, messages.c.role, messages.c.content)
        .where(messages.c.turn_id.in_(found), messages.c.role.in_(("assistant", "tool")))
        .order_by(messages.c.turn_id, messages.c.position)
    )
    for row in rows:
        parts = shown_parts(row.content)
        first = row.position + (1 if row.role == "assistant" else 0)
        wanted = [one for one in parts if isinstance(one, ToolCall | ToolOutput)]
        for position, part in enumerate(wanted, first):
            found[row.turn_id].setdefault(position, []).append(part)
    return found


def _of_kind(kind: Any, said: Mapping[int, Sequence[Part]], row: Any) -> Any:
    return next((one for one in said.get(row.position, ()) if isinstance(one, kind)), None)


def _parsed(arguments: str) -> Any:
    found = lenient_json(arguments)
    return arguments if isinstance(found, Unreadable) else found
