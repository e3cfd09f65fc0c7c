"""Settling in single steps, by the same declarations."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Connection, Select, Update, and_, bindparam, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from turnmill.domain.ids import SessionId
from turnmill.domain.states import FINAL, EventKind, SessionStatus, TurnState
from turnmill.store.lite.charging import charge
from turnmill.store.lite.parameters import Riding, bring, by, given, riding, verdict
from turnmill.store.records import Fenced, Locked, Settled, Settlement
from turnmill.store.rules.closed_calls import close_calls
from turnmill.store.rules.endings import write_events
from turnmill.store.rules.happenings import UNENDED, write_session_events, write_turn_events
from turnmill.store.rules.heads import head_columns, settled
from turnmill.store.rules.riders import RIDERS
from turnmill.store.rules.sealing import sealer_for
from turnmill.store.rules.settling import (
    OF_ATTEMPT,
    OF_SESSION,
    OF_TURN,
    writing_content,
)
from turnmill.store.rules.tallies import count_ended
from turnmill.store.rules.wanted import is_wanted
from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.types import db_asof


def settle(conn: Connection, settlements: Sequence[Settlement]) -> list[Settled | Fenced | Locked]:
    """Write verdicts, one after the other."""
    return [_settle(conn, settlement) for settlement in settlements]


def _settle(conn: Connection, settlement: Settlement) -> Settled | Fenced | Locked:
    sealer = sealer_for(conn, writing_content((settlement,)))
    said = given(settlement, sealer)
    turn = conn.execute(_of_turn(), said).one_or_none()
    if turn is None:
        return Fenced(turn_id=settlement.turn_id)
    state = TurnState(turn.state)
    said["became"] = state
    conn.execute(_of_attempt(), said)
    bring(conn, _riders(), settlement, settlement, sealer)
    if settlement.budgeted:
        charge(conn, settlement)
    was = _status(conn, settlement.session_id)
    conn.execute(_of_session(), said)
    final = state in FINAL
    _tell(conn, settlement, state, was)
    if final and settlement.batched:
        count_ended(conn, [settlement.turn_id])
    if final and settlement.has_calls:
        close_calls(conn, [settlement.turn_id])
    ids = (settlement.session_id, settlement.turn_id)
    head = conn.execute(_head(), said).one()
    return settled((*ids, turn.state, final, turn.available_at, *head))


@cache
def _riders() -> Riding:
    return riding(RIDERS)


@cache
def _of_turn() -> ReturningUpdate[Any]:
    v = verdict()
    mine = (turns.c.id == v["turn_id"], turns.c.state == TurnState.RUNNING)
    return (
        update(turns)
        .where(*mine, turns.c.lease_fence == v["fence"])
        .values(by(OF_TURN, turns.c, v))
        .returning(turns.c.state, turns.c.available_at)
    )


@cache
def _of_attempt() -> Update:
    v = verdict()
    return (
        update(attempts)
        .where(attempts.c.turn_id == v["turn_id"], attempts.c.fence == v["fence"])
        .values(by(OF_ATTEMPT, attempts.c, v, _became()))
    )


@cache
def _of_session() -> Update:
    v = verdict()
    return (
        update(sessions)
        .where(sessions.c.id == v["session_id"])
        .values(by(OF_SESSION, sessions.c, v, _became()) | head_columns())
    )


@cache
def _head() -> Select[Any]:
    """Select the session's next turn, its lane, and whether it is due."""
    is_due = and_(sessions.c.head_due_at <= db_asof(), sessions.c.status == "active")
    return select(sessions.c.head_turn_id, sessions.c.head_lane, is_due).where(
        sessions.c.id == verdict()["session_id"]
    )


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
