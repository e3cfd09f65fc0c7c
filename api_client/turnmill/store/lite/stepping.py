"""Steps in single steps, by the same declarations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    case,
    insert,
    literal,
    or_,
    select,
    true,
    union_all,
    update,
)

from turnmill.domain.ids import TurnId
from turnmill.domain.states import WAITING_CALLS, Effects, ToolCallState, TurnState
from turnmill.store.lite.charging import charge
from turnmill.store.records import Fenced, Locked
from turnmill.store.rules.riders import insert_of, sealed_rows
from turnmill.store.rules.sealing import Sealer, sealer_for, sealer_of_turns
from turnmill.store.rules.settling import FIELDS, row_of, writing_content
from turnmill.store.rules.stepping import OF_ATTEMPT, OF_SESSION, OF_TURN, RIDERS, end_of
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import attempts, messages, sessions, turns
from turnmill.store.step_records import Advanced, CallEnd, Step, ToBegin
from turnmill.store.types import db_asof, db_now


class _Said(dict[str, Any]):
    """What a settlement says, as values that an expression takes for columns."""

    __getattr__ = dict.__getitem__


def advance(conn: Connection, steps: Sequence[Step]) -> list[Advanced | Fenced | Locked]:
    """Write steps, one after the other."""
    return [_advance(conn, step) for step in steps]


def _advance(conn: Connection, step: Step) -> Advanced | Fenced:
    said = step.settlement
    sealer = sealer_for(conn, writing_content((said,)))
    row = row_of(said, sealer)
    v = _Said({field.name: literal(row.get(field.name), field.type) for field in FIELDS})
    running = literal(TurnState.RUNNING.value)
    turn = conn.execute(
        update(turns)
        .where(*_ours(said.turn_id, said.fence), ~turns.c.cancel_requested)
        .values(_by(OF_TURN, turns.c, v))
        .returning(*turns.c)
    ).one_or_none()
    if turn is None:
        return Fenced(turn_id=said.turn_id)
    asked = conn.execute(
        update(attempts)
        .where(attempts.c.turn_id == said.turn_id, attempts.c.fence == said.fence)
        .values({"ended_at": db_now()} | _by(OF_ATTEMPT, attempts.c, v, running))
        .returning(attempts.c.provider, attempts.c.asked_model)
    ).one()
    n = _open(conn, turn, asked)
    conn.execute(
        update(sessions)
        .where(sessions.c.id == said.session_id)
        .values(_by(OF_SESSION, sessions.c, v, running))
    )
    _bring(conn, step, sealer)
    if said.budgeted:
        charge(conn, said)
    return Advanced(
        turn_id=said.turn_id, fence=turn.lease_fence, step=turn.step, attempt=turn.attempt, n=n
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


def _ours(turn_id: TurnId, fence: int) -> tuple[ColumnElement[bool], ...]:
    return (
        turns.c.id == turn_id,
        turns.c.state == TurnState.RUNNING,
        turns.c.lease_fence == fence,
    )


def _by(rules: Mapping[str, Callable[..., Any]], *of: Any) -> dict[str, Any]:
    return {name: rule(*of) for name, rule in rules.items()}


def _bring(conn: Connection, step: Step, sealer: Sealer | None) -> None:
    turn_id = literal(step.settlement.turn_id, turns.c.id.type).label("turn_id")
    for rider in RIDERS:
        values = [
            select(turn_id, *(literal(row[name], kind).label(name) for name, kind in says))
            for says in [rider.says.items()]
            for row in sealed_rows(rider, step, step.settlement, sealer)
        ]
        if values:
            brought = union_all(*values).subquery("r")
            conn.execute(insert_of(rider, brought=brought, turn=turns, dialect="sqlite"))


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
