"""Settling in single steps, by the same declarations."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Connection, Select, Update, and_, bindparam, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from turnmill.domain.ids import SessionId
from turnmill.domain.states import FINAL, EventKind, SessionStatus, TurnState
from turnmill.store.lite.charging import charge
from turnmill.store.records import Fenced, Locked, Settled, Settlement
from turnmill.store.rules.closed_calls import close_calls
from turnmill.store.rules.endings import write_events
from turnmill.store.rules.happenings import UNENDED, write_session_events, write_turn_events
from turnmill.store.rules.heads import head_columns, settled
from turnmill.store.rules.riders import RIDERS, insert_of, sealed_rows
from turnmill.store.rules.sealing import Sealer, sealer_for
from turnmill.store.rules.settling import (
    FIELDS,
    OF_ATTEMPT,
    OF_SESSION,
    OF_TURN,
    Verdict,
    row_of,
    writing_content,
)
from turnmill.store.rules.tallies import count_ended
from turnmill.store.rules.wanted import is_wanted
from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.types import db_asof

#: Before the name of what a settlement says, as a parameter: columns have these names, too.
_SAID = "said_"


def settle(conn: Connection, settlements: Sequence[Settlement]) -> list[Settled | Fenced | Locked]:
    """Write verdicts, one after the other."""
    return [_settle(conn, settlement) for settlement in settlements]


def _settle(conn: Connection, settlement: Settlement) -> Settled | Fenced | Locked:
    sealer = sealer_for(conn, writing_content((settlement,)))
    said = row_of(settlement, sealer)
    given = {_SAID + field.name: said.get(field.name) for field in FIELDS}
    turn = conn.execute(_of_turn(), given).one_or_none()
    if turn is None:
        return Fenced(turn_id=settlement.turn_id)
    state = TurnState(turn.state)
    given["became"] = state
    conn.execute(_of_attempt(), given)
    _bring(conn, settlement, sealer)
    if settlement.budgeted:
        charge(conn, settlement)
    was = _status(conn, settlement.session_id)
    conn.execute(_of_session(), given)
    final = state in FINAL
    _tell(conn, settlement, state, was)
    if final and settlement.batched:
        count_ended(conn, [settlement.turn_id])
    if final and settlement.has_calls:
        close_calls(conn, [settlement.turn_id])
    ids = (settlement.session_id, settlement.turn_id)
    head = conn.execute(_head(), given).one()
    return settled((*ids, turn.state, final, turn.available_at, *head))


# Each is made once in a process: making one takes longer than all that SQLite does with it.


@cache
def _of_turn() -> ReturningUpdate[Any]:
    v = _verdict()
    mine = (turns.c.id == v["turn_id"], turns.c.state == TurnState.RUNNING)
    return (
        update(turns)
        .where(*mine, turns.c.lease_fence == v["fence"])
        .values(_by(OF_TURN, turns.c, v))
        .returning(turns.c.state, turns.c.available_at)
    )


@cache
def _of_attempt() -> Update:
    v = _verdict()
    return (
        update(attempts)
        .where(attempts.c.turn_id == v["turn_id"], attempts.c.fence == v["fence"])
        .values(_by(OF_ATTEMPT, attempts.c, v, _became()))
    )


@cache
def _of_session() -> Update:
    v = _verdict()
    return (
        update(sessions)
        .where(sessions.c.id == v["session_id"])
        .values(_by(OF_SESSION, sessions.c, v, _became()) | head_columns())
    )


@cache
def _head() -> Select[Any]:
    """Select the session's next turn, its lane, and whether it is due."""
    is_due = and_(sessions.c.head_due_at <= db_asof(), sessions.c.status == "active")
    return select(sessions.c.head_turn_id, sessions.c.head_lane, is_due).where(
        sessions.c.id == _verdict()["session_id"]
    )


def _verdict() -> Verdict:
    """Return what is said, as parameters."""
    return Verdict({one.name: bindparam(_SAID + one.name, type_=one.type) for one in FIELDS})


def _became() -> BindParameter[Any]:
    return bindparam("became", type_=turns.c.state.type)


def _tell(conn: Connection, settlement: Settlement, state: TurnState, was: str | None) -> None:
    """Write the event of what the turn has come to, and of a session that was paused by that."""
    if state in FINAL:
        write_events(conn, [settlement.turn_id])
    elif (kind := UNENDED.get(state)) is not None:
        write_turn_events(conn, [(settlement.session_id, settlement.turn_id)], kind)
    if was == SessionStatus.ACTIVE and _status(conn, settlement.session_id) != was:
        write_session_events(conn, [settlement.session_id], EventKind.PAUSED)


def _status(conn: Connection, session_id: SessionId) -> str | None:
    """Return the session's status, if a failure in it is to be told; else nobody needs it."""
    if not is_wanted(conn, EventKind.PAUSED):
        return None
    return conn.scalar(select(sessions.c.status).where(sessions.c.id == session_id))


def _by(rules: Mapping[str, Callable[..., Any]], *of: Any) -> dict[str, Any]:
    return {name: rule(*of) for name, rule in rules.items()}


def _bring(conn: Connection, settlement: Settlement, sealer: Sealer | None) -> None:
    """Write the rows that go with the verdict."""
    for n, rider in enumerate(RIDERS):
        rows = sealed_rows(rider, settlement, settlement, sealer)
        if rows:
            mine = {_SAID + "turn_id": settlement.turn_id}
            given = [mine | {_SAID + name: row[name] for name in rider.says} for row in rows]
            conn.execute(_of_rider(n), given)


@cache
def _of_rider(n: int) -> Any:
    """Return what inserts one row of a rider."""
    rider = RIDERS[n]
    turn_id = bindparam(_SAID + "turn_id", type_=turns.c.id.type).label("turn_id")
    says = (bindparam(_SAID + name, type_=kind).label(name) for name, kind in rider.says.items())
    brought = select(turn_id, *says).subquery("r")
    return insert_of(rider, brought=brought, turn=turns, dialect="sqlite")
