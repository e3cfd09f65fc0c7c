"""Steps of a turn: a model's reply that calls tools, their receipts, and what came of each call.

All of it is rows of the turn's own, committed as it comes: whoever claims the turn goes on where
they end. Every write stands under the fence of the turn's claim.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, case, func, select, update

from turnmill.domain.bounds import LONGEST_DELAY
from turnmill.domain.content import Message
from turnmill.domain.ids import TurnId
from turnmill.domain.states import (
    FINAL,
    FOR_APPROVAL,
    FOR_TOOL,
    OPEN_CALLS,
    WAITING_CALLS,
    Effects,
    ToolCallState,
    TurnState,
)
from turnmill.store.codec import parts_from
from turnmill.store.engine import engine_of
from turnmill.store.line.head import lock_sessions
from turnmill.store.line.settle import settle
from turnmill.store.readable import read_one
from turnmill.store.records import Fenced, Locked, Settled, Settlement
from turnmill.store.schema.named_turns import still_in
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import attempts, messages, turns
from turnmill.store.step_records import Advanced, CallEnd, Receipt, Step, ToBegin
from turnmill.store.types import Timestamp, db_asof, db_now

#: What an attempt says whose reply calls tools.
CALLED = "called"


def advance(conn: Connection, steps: Sequence[Step]) -> list[Advanced | Fenced | Locked]:
    """Write steps, at most one for each session, and take each turn for its next one.

    Fenced: nothing was written, since the turn is no longer ours or somebody wants it to end.
    Locked: nothing was written, give that step again. One statement, and its own transaction unless
    the caller began one.
    """
    return engine_of(conn).advance(conn, steps)


def was_advanced(conn: Connection, turn_id: TurnId, fence: int) -> Advanced | None:
    """Return the claim that a step under this fence has led to, if it did and still stands."""
    row = conn.execute(
        select(
            turns.c.lease_fence,
            turns.c.step,
            turns.c.attempt,
            (turns.c.claims - turns.c.put_off).label("n"),
        )
        .join(attempts, attempts.c.turn_id == turns.c.id)
        .where(
            turns.c.id == turn_id,
            still_in(TurnState.RUNNING),
            turns.c.lease_fence == fence + 1,
            attempts.c.fence == fence,
            attempts.c.outcome == CALLED,
        )
    ).one_or_none()
    if row is None:
        return None
    return Advanced(
        turn_id=turn_id, fence=row.lease_fence, step=row.step, attempt=row.attempt, n=row.n
    )


def begin_calls(conn: Connection, calls: Sequence[ToBegin]) -> set[tuple[TurnId, int]]:
    """Note that these calls are about to be run; return (turn, position) of those that may be.

    Not that of a turn which is no longer ours or is to end, nor what was begun by another claim and
    may happen once at most. From this commit on, a call may have had its effect.
    """
    return engine_of(conn).begin_calls(conn, calls)


def end_calls(conn: Connection, ends: Sequence[CallEnd]) -> set[tuple[TurnId, int]]:
    """Write what became of calls, each with the message that tells the model.

    Returns (turn, position) of those that stand. Left out is what is not ours any more, and what
    has moved on meanwhile: an answer that came before the time was over, say.
    """
    return engine_of(conn).end_calls(conn, ends)


def receipts_of(conn: Connection, turn_id: TurnId) -> list[Receipt]:
    """Return the receipts of all calls that the turn's model has made, first one first."""
    rows = tool_calls.c
    columns = [rows[name] for name in _COLUMNS]
    overdue = case((rows.expires_at <= db_asof(), True), else_=False).label("overdue")
    found = conn.execute(
        select(*columns, overdue, turns.c.state.label("of_turn"))
        .join(turns, turns.c.id == rows.turn_id)
        .where(rows.turn_id == turn_id)
        .order_by(rows.position)
    )
    return [_receipt(row._mapping) for row in found]


_COLUMNS = tuple(name for name in Receipt.__dataclass_fields__ if name != "overdue")


def _receipt(row: Any) -> Receipt:
    state = ToolCallState(row["state"])
    if state is ToolCallState.RUNNING and row["of_turn"] in FINAL:
        state = ToolCallState.UNKNOWN
    values = {name: row[name] for name in _COLUMNS}
    return Receipt(
        **values
        | {"state": state, "effects": Effects(row["effects"]), "overdue": bool(row["overdue"])}
    )


def outputs_of(conn: Connection, turn_id: TurnId, *, first: int) -> dict[int, Message]:
    """Return the outputs of the turn's calls from this position on, by their positions."""
    rows = messages.c
    found = conn.execute(
        select(rows.position, rows.content).where(
            rows.turn_id == turn_id, rows.role == "tool", rows.position >= first
        )
    )
    return {row.position: Message("tool", read_one(row.content, parts_from)) for row in found}


def send_instead(conn: Connection, turn_id: TurnId, fence: int) -> bool:
    """Make a claim that was to ask about a call one that makes it; False where it is not ours.

    For a turn whose calls of tools have no outputs yet: nothing can have been sent.
    """
    more = turns.c.attempt + 1
    ours = conn.execute(
        update(turns)
        .where(
            turns.c.id == turn_id,
            still_in(TurnState.RUNNING),
            turns.c.lease_fence == fence,
        )
        .values(
            claimed_for="send",
            attempt=case((more > turns.c.max_attempts, turns.c.max_attempts), else_=more),
            native_ref="",
        )
    )
    if not ours.rowcount:
        return False
    conn.execute(
        update(attempts)
        .where(attempts.c.turn_id == turn_id, attempts.c.fence == fence)
        .values(kind="send")
    )
    return True


def wait_for_calls(conn: Connection, settlement: Settlement) -> Settled | Fenced | None:
    """Let the turn wait until the first of its calls has had its time; the caller's transaction.

    None: nothing was written, for somebody has answered or agreed meanwhile, or the time is over:
    there is something to be done at once. Whoever does so locks the session first, as this does.
    """
    if not lock_sessions(conn, [settlement.session_id]):
        return Fenced(turn_id=settlement.turn_id)
    rows = tool_calls.c
    open_calls = conn.execute(
        select(rows.state, func.min(rows.expires_at, type_=Timestamp).label("first"), db_now())
        .where(rows.turn_id == settlement.turn_id, rows.state.in_(OPEN_CALLS))
        .group_by(rows.state)
    ).all()
    if not open_calls or not {row[0] for row in open_calls} <= WAITING_CALLS:
        return None
    waits = [row[1] - row[2] for row in open_calls if row[1] is not None]
    delay = min(waits, default=LONGEST_DELAY)
    if delay <= timedelta(0):
        return None
    asked = any(row[0] == ToolCallState.APPROVAL for row in open_calls)
    waiting = replace(settlement, delay=delay, waits_for=FOR_APPROVAL if asked else FOR_TOOL)
    (result,) = settle(conn, [waiting])
    assert not isinstance(result, Locked)  # the lock is ours
    return result
