"""What becomes of calls that are open when their turn ends: nobody has an answer to them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, select, update

from turnmill.domain.ids import TurnId
from turnmill.domain.states import CUT_SHORT, OPEN_CALLS, ToolCallState
from turnmill.store.rules.endings import in_chunks
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import turns
from turnmill.store.types import db_now


def close_calls(conn: Connection, turn_ids: Sequence[TurnId]) -> None:
    """End the calls that nobody has an answer to, of those of these turns that never run again.

    What a retry would go on with stays as it is. Nobody is told: there is no model that would be.
    """
    of_its_turn = select(turns.c.state).where(turns.c.id == tool_calls.c.turn_id).scalar_subquery()
    for some in in_chunks(turn_ids):
        mine = tool_calls.c.turn_id.in_(some)
        statement = update(tool_calls).where(mine, *is_closed_by(of_its_turn))
        conn.execute(statement.values(closed_call(of_its_turn)))


def is_closed_by(state: Any) -> tuple[ColumnElement[bool], ...]:
    """Return which calls are closed when their turn ends in this state."""
    over, still_open = (sorted(one.value for one in states) for states in (CUT_SHORT, OPEN_CALLS))
    return (tool_calls.c.state.in_(still_open), state.in_(over))


def closed_call(state: Any) -> dict[str, Any]:
    """Return what a call becomes that is open when its turn ends in this state."""
    was = tool_calls.c.state
    unknown, expired = ToolCallState.UNKNOWN.value, ToolCallState.EXPIRED.value
    return {
        "state": case((was == ToolCallState.RUNNING.value, unknown), else_=expired),
        "error_code": state,
        "ended_at": db_now(),
    }
