"""Steps in single steps, by the same declarations."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Update,
    and_,
    case,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from turnmill.domain.ids import TurnId
from turnmill.domain.states import WAITING_CALLS, Effects, ToolCallState, TurnState
from turnmill.store.lite.charging import charge
from turnmill.store.lite.parameters import Riding, bring, by, given, riding, verdict
from turnmill.store.records import Fenced, Locked
from turnmill.store.rules.sealing import sealer_for, sealer_of_turns
from turnmill.store.rules.settling import writing_content
from turnmill.store.rules.stepping import OF_ATTEMPT, OF_SESSION, OF_TURN, RIDERS, end_of
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import attempts, messages, sessions, turns
from turnmill.store.step_records import Advanced, CallEnd, Step, ToBegin
from turnmill.store.types import db_asof, db_now

_RUNNING = literal(TurnState.RUNNING.value)


def advance(conn: Connection, steps: Sequence[Step]) -> list[Advanced | Fenced | Locked]:
    """Write steps, one after the other."""
    return [_advance(conn, step) for step in steps]


def _advance(conn: Connection, step: Step) -> Advanced | Fenced:
    settlement = step.settlement
    sealer = sealer_for(conn, writing_content((settlement,)))
    said = given(settlement, sealer)
    turn = conn.execute(_of_turn(), said).one_or_none()
    if turn is None:
        return Fenced(turn_id=settlement.turn_id)
    asked = conn.execute(_of_attempt(), said).one()
    n = _open(conn, turn, asked)
    conn.execute(_of_session(), said)
    bring(conn, _riders(), step, settlement, sealer)
    if settlement.budgeted:
        charge(conn, settlement)
    ids = {"turn_id": settlement.turn_id, "fence": turn.lease_fence}
    return Advanced(**ids, step=turn.step, attempt=turn.attempt, n=n)


@cache
def _riders() -> Riding:
    return riding(RIDERS)


@cache
def _of_turn() -> ReturningUpdate[Any]:
    v = verdict()
    return (
        update(turns)
        .where(*_ours(v["turn_id"], v["fence"]), ~turns.c.cancel_requested)
        .values(by(OF_TURN, turns.c, v))
        .returning(*turns.c)
    )


@cache
def _of_attempt() -> ReturningUpdate[Any]:
    v = verdict()
    return (
        update(attempts)
        .where(attempts.c.turn_id == v["turn_id"], attempts.c.fence == v["fence"])
        .values({"ended_at": db_now()} | by(OF_ATTEMPT, attempts.c, v, _RUNNING))
        .returning(attempts.c.provider, attempts.c.asked_model)
    )


@cache
def _of_session() -> Update:
    v = verdict()
    return (
        update(sessions)
        .where(sessions.c.id == v["session_id"])
        .values(by(OF_SESSION, sessions.c, v, _RUNNING))
    )


def _open(conn: Connection, turn: Row[Any], asked: Row[Any]) -> int:
    """Write the attempt of the turn's next step, which asks whom the one before asked."""
    n: int = turn.claims - turn.put_off
    conn.execute(
        insert(attempts).values(
            turn_id=turn.id,
            fence=turn.lease_fence,
            n=n,
            kind="send",
            worker=turn.lease_owner,
            step=turn.step,
            **asked._mapping,
        )
    )
    return n


def _ours(turn_id: Any, fence: Any) -> tuple[ColumnElement[bool], ...]:
    return (
        turns.c.id == turn_id,
        turns.c.state == TurnState.RUNNING,
        turns.c.lease_fence == fence,
    )


def begin_calls(conn: Connection, calls: Sequence[ToBegin]) -> set[tuple[TurnId, int]]:
    """Note that these are about to be run; return (turn, position) of those that may be."""
    rows = tool_calls.c
    begun: set[tuple[TurnId, int]] = set()
    for one in calls:
        again = and_(rows.state == ToolCallState.RUNNING, rows.fence == one.fence)
        may_run_again = and_(
            rows.state == ToolCallState.RUNNING, rows.effects != Effects.AT_MOST_ONCE
        )
        found = conn.execute(
            update(tool_calls)
            .where(
                rows.turn_id == one.turn_id,
                rows.position == one.position,
                or_(rows.state == ToolCallState.PENDING, again, may_run_again),
                _held(one.turn_id, one.fence, ~turns.c.cancel_requested),
            )
            .values(
                state=ToolCallState.RUNNING,
                fence=one.fence,
                runs=rows.runs + case((again, 0), else_=1),
                started_at=db_now(),
            )
        )
        if found.rowcount:
            begun.add((one.turn_id, one.position))
    return begun


def end_calls(conn: Connection, ends: Sequence[CallEnd]) -> set[tuple[TurnId, int]]:
    """Write what became of these; return (turn, position) of those that stand."""
    return {(one.turn_id, one.position) for one in ends if _end(conn, one)}


def _end(conn: Connection, end: CallEnd) -> bool:
    row = end_of(end, sealer_of_turns(conn, (end.turn_id,)))
    receipt = conn.execute(
        update(tool_calls)
        .where(
            tool_calls.c.turn_id == end.turn_id,
            tool_calls.c.position == end.position,
            *_may_end(end),
            _held(end.turn_id, end.fence, true()),
        )
        .values(state=end.state, error_code=end.error_code, ended_at=db_now())
        .returning(tool_calls.c.session_id)
    ).one_or_none()
    if receipt is None:
        return False
    conn.execute(
        insert(messages).values(
            id=row["id"],
            session_id=receipt.session_id,
            turn_id=end.turn_id,
            position=end.position,
            role="tool",
            content=row["content"],
        )
    )
    return True


def _may_end(end: CallEnd) -> Iterator[ColumnElement[bool]]:
    rows = tool_calls.c
    match end.state:
        case ToolCallState.UNKNOWN:
            yield and_(rows.state == ToolCallState.RUNNING, rows.fence != end.fence)
        case ToolCallState.EXPIRED:
            yield and_(rows.state.in_(WAITING_CALLS), rows.expires_at <= db_asof())
        case _:
            ours = and_(rows.state == ToolCallState.RUNNING, rows.fence == end.fence)
            yield or_(rows.state == ToolCallState.PENDING, ours)


def _held(turn_id: TurnId, fence: int, *more: ColumnElement[bool]) -> ColumnElement[bool]:
    return select(turns.c.id).where(*_ours(turn_id, fence), *more).exists()
