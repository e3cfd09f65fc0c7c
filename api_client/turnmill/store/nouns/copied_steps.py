"""The steps of a turn that is retried as another one: they go along, and are not taken again."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, update

from turnmill.domain.content import Message, ToolOutput
from turnmill.domain.ids import TurnId
from turnmill.domain.states import OPEN_CALLS, ToolCallState
from turnmill.new_ids import new_id
from turnmill.store.codec import rows_of
from turnmill.store.rules.sealing import is_encrypted, sealed_in, sealed_messages
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import messages, turns
from turnmill.store.types import db_now

#: Of a call that another turn makes now.
TAKEN_ALONG = "taken_along"
_WORDS = "The outcome of this call is unknown here: another turn has taken it along."


def first_step(conn: Connection, turn_id: TurnId) -> int | None:
    """Return the position of the first message of the turn's steps; None where it has none."""
    first: int | None = conn.scalar(
        select(func.min(messages.c.position)).where(
            messages.c.turn_id == turn_id,
            messages.c.role == "assistant",
            messages.c.position >= 0,
        )
    )
    return first


def take_along(conn: Connection, turn_id: TurnId, copy: TurnId, *, first: int) -> None:
    """Copy what the turn's steps have said and done, from this position on.

    A call that may still be run is the copy's alone from then on: it is run by one of them. The
    copy begins a thread of its own, since the session's may have gone on meanwhile.
    """
    _copy_messages(conn, turn_id, copy, first)
    _copy_receipts(conn, turn_id, copy)
    step = select(turns.c.step).where(turns.c.id == turn_id).scalar_subquery()
    conn.execute(update(turns).where(turns.c.id == copy).values(step=step))
    still_open = conn.execute(
        select(tool_calls.c.position, tool_calls.c.call_id, tool_calls.c.session_id).where(
            tool_calls.c.turn_id == turn_id, tool_calls.c.state.in_(OPEN_CALLS)
        )
    ).all()
    _give_up(conn, turn_id, still_open)


def _copy_messages(conn: Connection, turn_id: TurnId, copy: TurnId, first: int) -> None:
    names = ("session_id", "position", "role", "content")
    found = conn.execute(
        select(*(messages.c[name] for name in names)).where(
            messages.c.turn_id == turn_id, messages.c.position >= first, ~messages.c.partial
        )
    )
    rows = [dict(row._mapping) | {"id": new_id(), "turn_id": copy} for row in found]
    if rows:
        conn.execute(insert(messages), sealed_messages(conn, rows[0]["session_id"], copy, rows))


def _copy_receipts(conn: Connection, turn_id: TurnId, copy: TurnId) -> None:
    columns = [one for one in tool_calls.c if one.name not in ("turn_id", "made_in")]
    made_in = func.coalesce(tool_calls.c.made_in, tool_calls.c.turn_id)
    chosen = select(literal(copy, turns.c.id.type), made_in, *columns).where(
        tool_calls.c.turn_id == turn_id
    )
    names = ["turn_id", "made_in", *(one.name for one in columns)]
    conn.execute(insert(tool_calls).from_select(names, chosen))
    _copy_decisions(conn, turn_id, copy)


def _copy_decisions(conn: Connection, turn_id: TurnId, copy: TurnId) -> None:
    """Write anew what was sealed for the rows of before."""
    if not is_encrypted(conn):
        return
    receipts = tool_calls.c
    found = conn.execute(
        select(receipts.session_id, receipts.position, receipts.decision).where(
            receipts.turn_id == turn_id, receipts.decision.is_not(None)
        )
    )
    for row in found.all():
        place = f"{copy.hex}/{row.position}"
        decision = sealed_in(conn, row.session_id, receipts.decision, place, row.decision)
        mine = update(tool_calls).where(receipts.turn_id == copy, receipts.position == row.position)
        conn.execute(mine.values(decision=decision))


def _give_up(conn: Connection, turn_id: TurnId, calls: Sequence[Any]) -> None:
    for one in calls:
        conn.execute(
            update(tool_calls)
            .where(tool_calls.c.turn_id == turn_id, tool_calls.c.position == one.position)
            .values(state=ToolCallState.UNKNOWN, error_code=TAKEN_ALONG, ended_at=db_now())
        )
        output = ToolOutput(call_id=one.call_id, output=_WORDS, is_error=True)
        rows = rows_of([Message("tool", (output,))], first=one.position)
        (row,) = sealed_messages(conn, one.session_id, turn_id, rows)
        ids = {"turn_id": turn_id, "session_id": one.session_id}
        conn.execute(insert(messages).values(**ids, **row))
