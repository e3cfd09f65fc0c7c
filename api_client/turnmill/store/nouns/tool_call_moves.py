"""What somebody outside says to the call of a tool: what came of it, or whether it may be run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, case, insert, select, update

from turnmill.domain.content import Message, ToolOutput
from turnmill.domain.errors import (
    MoveRefused,
    OutputConflict,
    ToolCallExpired,
    ToolCallNotFound,
    TurnmillError,
    TurnNotFound,
)
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import (
    BETWEEN_STEPS,
    FINAL,
    FOR_APPROVAL,
    FOR_TOOL,
    OPEN_CALLS,
    WAITING_CALLS,
    SessionStatus,
    ToolCallState,
    TurnState,
)
from turnmill.store.codec import content_of, rows_of
from turnmill.store.line.head import lock_sessions, move_lines
from turnmill.store.nouns.tool_calls import FAILED_OUTSIDE
from turnmill.store.readable import read_one
from turnmill.store.records import Head
from turnmill.store.rules.sealing import sealed_in, sealed_messages
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import messages, sessions, turns
from turnmill.store.types import db_now
from turnmill.store.vaults import plain

REJECTED = "rejected"

#: Where a call stands that somebody has agreed to, whatever has become of it since.
_AGREED_TO = frozenset(
    {
        ToolCallState.PENDING,
        ToolCallState.RUNNING,
        ToolCallState.DONE,
        ToolCallState.FAILED,
        ToolCallState.UNKNOWN,
    }
)


@dataclass(frozen=True, slots=True)
class Given:
    """What somebody says that came of a call."""

    output: str = field(repr=False)
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a call may be run."""

    agreed: bool
    by: str | None = field(default=None, repr=False)  #: who says so
    why: str = field(default="", repr=False)  #: it may not

    def document(self, at: str) -> dict[str, Any]:
        """Return what is kept of it."""
        said = {"by": self.by, "why": self.why or None, "at": at}
        return {name: one for name, one in said.items() if one is not None}


class _Place(NamedTuple):
    """A turn whose line is ours until the transaction ends."""

    turn_id: TurnId
    session_id: SessionId
    state: TurnState


def submit(conn: Connection, turn_id: TurnId, given: Mapping[str, Given]) -> list[Head]:
    """Write what came of calls that are answered from outside; return the heads due now.

    All of it, or nothing after an error. What stands already in the same words is no error. The
    turn goes on as soon as there is something for a worker to do.
    """
    place = _lock(conn, turn_id)
    new = []
    for index, (call_id, one) in enumerate(given.items()):
        try:
            receipt = _receipt(conn, turn_id, call_id)
            if not _stands(conn, place, receipt, one):
                new.append((receipt, one))
        except TurnmillError as error:
            error.index = index
            raise
    for receipt, one in new:
        state = ToolCallState.FAILED if one.is_error else ToolCallState.DONE
        code = FAILED_OUTSIDE if one.is_error else None
        _end(conn, receipt, one, state=state, error_code=code)
    return _go_on(conn, place)


def decide(conn: Connection, turn_id: TurnId, call_id: str, decision: Decision) -> list[Head]:
    """Let a call be run that waits for approval, or tell the model that it may not; see `submit`.

    The same decision again is no error, and the first one stands.
    """
    place = _lock(conn, turn_id)
    receipt = _receipt(conn, turn_id, call_id)
    if _is_decided(place, receipt, decision):
        return []
    said = decision.document(conn.execute(select(db_now())).scalar_one().isoformat())
    if decision.agreed:
        _move(conn, receipt, {"state": ToolCallState.PENDING, "decision": said})
    else:
        words = Given(f"refused: {decision.why}" if decision.why else "refused", is_error=True)
        _end(
            conn,
            receipt,
            words,
            state=ToolCallState.REJECTED,
            error_code=REJECTED,
            decision=said,
        )
    return _go_on(conn, place)


def _lock(conn: Connection, turn_id: TurnId) -> _Place:
    """Lock the session, then the turn; raises TurnNotFound."""
    session_id = conn.scalar(
        select(turns.c.session_id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(turns.c.id == turn_id, sessions.c.status != SessionStatus.DELETED)
    )
    if session_id is None:
        raise TurnNotFound()
    lock_sessions(conn, [SessionId(session_id)])
    locked = select(turns.c.state).where(turns.c.id == turn_id).with_for_update(key_share=True)
    state = conn.scalar(locked)
    if state is None:
        raise TurnNotFound()
    return _Place(turn_id, SessionId(session_id), read_one(state, TurnState))


def _receipt(conn: Connection, turn_id: TurnId, call_id: str) -> Any:
    """Return the receipt of the call, or raise ToolCallNotFound.

    Vendors' names of calls may come again in later steps, and with some in the same one: then it is
    the first that waits, and otherwise the last.
    """
    waits = tool_calls.c.state.in_(WAITING_CALLS)
    row = conn.execute(
        select(tool_calls)
        .where(tool_calls.c.turn_id == turn_id, tool_calls.c.call_id == call_id)
        .order_by(waits.desc(), case((waits, tool_calls.c.position), else_=-tool_calls.c.position))
        .limit(1)
    ).one_or_none()
    if row is None:
        raise ToolCallNotFound()
    return row


def _stands(conn: Connection, place: _Place, receipt: Any, given: Given) -> bool:
    """Tell whether this output was submitted before; raises what keeps it from being written."""
    match ToolCallState(receipt.state):
        case ToolCallState.CALLER:
            _refuse_final(place)
            return False
        case ToolCallState.DONE | ToolCallState.FAILED if not receipt.runs:
            content = conn.scalar(
                select(messages.c.content).where(
                    messages.c.turn_id == place.turn_id, messages.c.position == receipt.position
                )
            )
            if plain(content) == content_of([_output(receipt, given)]):
                return True
            raise OutputConflict()
        case ToolCallState.EXPIRED:
            _refuse_final(place)
            raise ToolCallExpired()
        case ToolCallState.APPROVAL:
            raise MoveRefused(
                "the call waits for approval: a worker runs it then",
                hint="turn.approve(call_id), or turn.reject(call_id, why)",
            )
        case state:
            raise MoveRefused(
                f"a call that is {state} takes no output from outside",
                hint="only calls of tools that a session was given with their schema do",
            )


def _is_decided(place: _Place, receipt: Any, decision: Decision) -> bool:
    """Tell whether it was decided so before; raises what keeps it from being decided."""
    state = ToolCallState(receipt.state)
    if state is ToolCallState.APPROVAL:
        _refuse_final(place)
        return False
    if not receipt.approval:
        raise MoveRefused(
            "nobody has to agree to this call",
            hint="a tool with approval=True asks; turn.submit_tool_outputs answers one of yours",
        )
    if state is ToolCallState.EXPIRED:
        _refuse_final(place)
        raise ToolCallExpired()
    if (state in _AGREED_TO) is not decision.agreed:
        verb = "approved" if state in _AGREED_TO else "rejected"
        raise MoveRefused(f"the call was {verb} already", hint="the first decision stands")
    return True


def _refuse_final(place: _Place) -> None:
    if place.state in FINAL:
        raise MoveRefused(
            f"the turn is {place.state}: no model waits for it",
            hint="`turnmill turns retry ID` lets a failed one go on, where it stopped",
        )


def _output(receipt: Any, given: Given) -> ToolOutput:
    return ToolOutput(call_id=receipt.call_id, output=given.output, is_error=given.is_error)


def _end(conn: Connection, receipt: Any, given: Given, **values: Any) -> None:
    """Write the output, and that the call has ended."""
    _move(conn, receipt, values | {"ended_at": db_now()})
    rows = rows_of([Message("tool", (_output(receipt, given),))], first=receipt.position)
    (row,) = sealed_messages(conn, receipt.session_id, receipt.turn_id, rows)
    ids = {"session_id": receipt.session_id, "turn_id": receipt.turn_id}
    conn.execute(insert(messages).values(**ids, **row))


def _move(conn: Connection, receipt: Any, values: Mapping[str, Any]) -> None:
    """Move the receipt on from where it was seen; nobody else can have, under the turn's lock."""
    if "decision" in values:
        column, place = tool_calls.c.decision, f"{receipt.turn_id.hex}/{receipt.position}"
        sealed = sealed_in(conn, receipt.session_id, column, place, values["decision"])
        values = {**values, "decision": sealed}
    moved = conn.execute(
        update(tool_calls)
        .where(
            tool_calls.c.turn_id == receipt.turn_id,
            tool_calls.c.position == receipt.position,
            tool_calls.c.state == receipt.state,
        )
        .values(**values)
    )
    if moved.rowcount != 1:
        raise MoveRefused("the call was moved on meanwhile", hint="look again: turn.tool_calls()")


def _go_on(conn: Connection, place: _Place) -> list[Head]:
    """Let the turn be claimed where there is something to do, and otherwise at the next expiry.

    That is when nothing is waited for any more, or a call may be run while others still wait.
    """
    still_open = conn.execute(
        select(tool_calls.c.state, tool_calls.c.expires_at).where(
            tool_calls.c.turn_id == place.turn_id, tool_calls.c.state.in_(OPEN_CALLS)
        )
    ).all()
    states = {ToolCallState(one.state) for one in still_open}
    values: dict[str, Any] = {"available_at": db_now()}
    if states and states <= WAITING_CALLS:
        approval = ToolCallState.APPROVAL in states
        values = {"waits_for": FOR_APPROVAL if approval else FOR_TOOL}
        ends = [one.expires_at for one in still_open if one.expires_at is not None]
        values |= {"available_at": min(ends)} if ends else {}
    conn.execute(
        update(turns)
        .where(
            turns.c.id == place.turn_id,
            turns.c.state == TurnState.WAITING,
            turns.c.waits_for.in_(BETWEEN_STEPS),
        )
        .values(**values)
    )
    return move_lines(conn, [place.session_id])
