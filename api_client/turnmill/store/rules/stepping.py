"""What a step writes: its turn goes on, its attempt has ended, and calls of tools have receipts."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Double,
    Integer,
    Select,
    Text,
    Uuid,
    case,
    func,
    literal,
    null,
    select,
)
from sqlalchemy.types import TypeEngine

from turnmill.domain.states import Effects, ToolCallState
from turnmill.store.codec import rows_of
from turnmill.store.rules.riders import KEPT, Rider
from turnmill.store.rules.sealing import TurnSealer
from turnmill.store.rules.settling import OF_ATTEMPT as OF_EVERY_ATTEMPT
from turnmill.store.rules.settling import OF_SESSION as OF_EVERY_SESSION
from turnmill.store.rules.settling import added, spent
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import messages, turns
from turnmill.store.step_records import CallEnd, Step
from turnmill.store.types import db_after, db_now

#: Column → what it becomes, from the turn as it stands and what the model call came to. It is a
#: claim of its own: a step that was finished has cost no attempt, and what fails later does.
OF_TURN: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "step": lambda t, v: t.step + 1,
        "step_ref": lambda t, v: func.coalesce(v.provider_ref, ""),
        "native_ref": lambda t, v: literal(""),
        "attempt": lambda t, v: case((t.attempt < 1, 1), else_=t.attempt),
        "claims": lambda t, v: t.claims + 1,
        "claimed_for": lambda t, v: literal("send"),
        "sent_at": lambda t, v: null(),
        "waits_for": lambda t, v: null(),
        "error_code": lambda t, v: null(),
        "lease_fence": lambda t, v: t.lease_fence + 1,
        "own_history": lambda t, v: func.coalesce(v.own_history, t.own_history),
        **added(turns),
        "cost_usd": spent,
    }
)

#: The same of the attempt that has ended; when that is, each engine says.
OF_ATTEMPT: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {name: rule for name, rule in OF_EVERY_ATTEMPT.items() if name != "ended_at"}
)

_OF_LINES = ("unfinished", "status", "provider_ref", "turns_succeeded", "turns_failed")

#: The same of the session: its line stays as it is, and so does its thread.
OF_SESSION: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"fence": lambda s, v, state: s.fence + 1}
    | {name: rule for name, rule in OF_EVERY_SESSION.items() if name not in _OF_LINES}
)


def _message(step: Step) -> Sequence[Mapping[str, Any]]:
    return rows_of(step.settlement.replies, first=step.settlement.position)


def _message_rows(r: Any, turn: Any) -> Select[Any]:
    return select(
        turn.c.session_id, turn.c.id.label("turn_id"), *(r.c[name] for name in _MESSAGE)
    ).join_from(turn, r, r.c.turn_id == turn.c.id)


_MESSAGE: dict[str, TypeEngine[Any]] = {
    name: messages.c[name].type for name in ("id", "position", "role", "content")
}
_CALL: dict[str, TypeEngine[Any]] = {
    "position": Integer(),
    "call_id": Text(),
    "tool": Text(),
    "effects": Text(),
    "state": Text(),
    "approval": Boolean(),
}


def _calls(step: Step) -> Sequence[Mapping[str, Any]]:
    return [
        {
            "position": position,
            "call_id": call.call_id,
            "tool": call.tool,
            "effects": Effects(call.effects).value,
            "state": ToolCallState(call.state).value,
            "approval": call.approval,
            "expires_in": None if call.expires_in is None else call.expires_in.total_seconds(),
        }
        for position, call in enumerate(step.calls, step.first_output)
    ]


def _call_rows(r: Any, turn: Any) -> Select[Any]:
    expires_at = case((r.c.expires_in.is_not(None), db_after(r.c.expires_in)))
    return select(
        turn.c.session_id,
        turn.c.id.label("turn_id"),
        (turn.c.step - 1).label("step"),  # the turn stands at the next one
        *(r.c[name] for name in _CALL),
        expires_at.label("expires_at"),
        db_now().label("created_at"),
    ).join_from(turn, r, r.c.turn_id == turn.c.id)


MESSAGE = Rider(
    name="said",
    table=messages,
    says=_MESSAGE,
    rows_of=_message,
    writes=_message_rows,
    merges={},
    always=True,
)
CALLS = Rider(
    name="calls",
    table=tool_calls,
    says={**_CALL, "expires_in": Double()},
    rows_of=_calls,
    writes=_call_rows,
    merges={},
    always=True,
)
#: What a vendor keeps of the call, as of any other.
KEEPING = KEPT._replace(rows_of=lambda step: KEPT.rows_of(step.settlement))

RIDERS: tuple[Rider, ...] = (MESSAGE, CALLS, KEEPING)

#: What is said of a call that has ended.
END: Mapping[str, TypeEngine[Any]] = MappingProxyType(
    {
        "turn_id": Uuid(),
        "fence": BigInteger(),
        "position": Integer(),
        "state": Text(),
        "error_code": Text(),
        "id": messages.c.id.type,
        "content": messages.c.content.type,
    }
)


def end_of(end: CallEnd, sealer: TurnSealer | None) -> dict[str, Any]:
    """Return what is said of it, and the row of its message."""
    rows = rows_of([end.message], first=end.position)
    if sealer is not None:
        sealer.messages(end.turn_id, rows)
    (row,) = rows
    return {
        "turn_id": end.turn_id,
        "fence": end.fence,
        "position": end.position,
        "state": end.state.value,
        "error_code": end.error_code,
        "id": row["id"],
        "content": row["content"],
    }
