"""Why a turn does not run: what stands in its way, as rows say it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Integer, func, literal, select

from turnmill.domain.errors import TurnNotFound
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import (
    BETWEEN_STEPS,
    FINAL,
    UNFINISHED,
    OnAmbiguous,
    SessionStatus,
    TurnState,
)
from turnmill.store.readable import read_one
from turnmill.store.rules.claiming import LANE, PROVIDER
from turnmill.store.schema.tables import attempts, pauses, sessions, turns
from turnmill.store.types import Timestamp, db_after, db_asof

#: More turns before one than this are not counted.
MOST_COUNTED = 10_000
#: A turn that could run for longer than this should have been taken by a worker.
_SOON = timedelta(seconds=5)
#: From what ended in it, it is estimated when the turns that wait will run.
_RATE_WITHIN = timedelta(minutes=1)


class Cause(StrEnum):
    """What a turn waits for."""

    ENDED = "ended"  #: for nothing: it is final
    RUNNING = "running"  #: for its provider, or its tools: a worker holds it
    BEHIND = "behind"  #: for an earlier turn of its session
    SESSION_PAUSED = "session_paused"  #: for somebody who resumes its session
    LANE_PAUSED = "lane_paused"  #: for somebody who resumes the lane
    PROVIDER_PAUSED = "provider_paused"  #: for somebody who resumes the provider
    HELD = "held"  #: for a decision: its request may have been executed
    TOOL = "tool"  #: for the output of a tool, from outside
    APPROVAL = "approval"  #: for somebody who agrees that a tool is run
    LAYER = "layer"  #: for what a layer has named
    RETRY = "retry"  #: for its next attempt, after an error
    QUESTION = "question"  #: for the next time that its provider is asked what became of it
    BACKGROUND = "background"  #: for what the provider does in the background
    LATER = "later"  #: for the moment that it was sent for
    LANE_BUSY = "lane_busy"  #: for turns that were due before it
    NO_WORKER = "no_worker"  #: for a worker: none has begun anything in its lane meanwhile
    DUE = "due"  #: for nothing: a worker is about to take it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that a turn waits for."""

    cause: Cause
    turn_id: TurnId  #: that it is a reason of: the turn itself, or the head of its session's line
    name: str = ""  #: of the lane, the provider or what a layer named; the code of an error
    since: datetime | None = None  #: it has been so
    until: datetime | None = None  #: it is so at the least; None: nobody knows
    ahead: int = 0  #: turns that come before it, in its session or in its lane; 10,000: or more


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """What a turn waits for, and until when."""

    turn_id: TurnId
    session_id: SessionId
    state: TurnState
    now: datetime  #: by the database's clock
    reasons: tuple[Reason, ...]  #: what stands in the way of the turn, then of the head before it
    likely_at: datetime | None  #: when it is likely to begin; None where nobody can tell


def why(conn: Connection, turn_id: TurnId) -> Why:
    """Return what the turn waits for; raises TurnNotFound."""
    row = _turn(conn, turn_id)
    state = read_one(row.state, TurnState)
    reasons = [*_behind(conn, row)]
    if state not in FINAL and reasons:
        row = _turn(conn, TurnId(row.head_turn_id))
    found = _of_head(conn, row, read_one(row.state, TurnState))
    reasons += found
    return Why(
        turn_id=turn_id,
        session_id=SessionId(row.session_id),
        state=state,
        now=row.now,
        reasons=tuple(reasons),
        likely_at=None if len(reasons) != len(found) else _likely(conn, row, found),
    )


def _turn(conn: Connection, turn_id: TurnId) -> Any:
    s = sessions.c
    row = conn.execute(
        select(
            *(turns.c[name] for name in _COLUMNS),
            *(s.provider, s.status, s.on_ambiguous, s.head_turn_id, s.head_lane, s.head_due_at),
            db_asof().label("now"),
        )
        .join(sessions, s.id == turns.c.session_id)
        .where(turns.c.id == turn_id, s.status != SessionStatus.DELETED)
    ).one_or_none()
    if row is None:
        raise TurnNotFound()
    return row


_COLUMNS = (
    *("id", "session_id", "seq", "state", "lane", "lost", "available_at", "sent_at", "started_at"),
    *("finished_at", "error_code", "waits_for", "created_at"),
)


def _behind(conn: Connection, row: Any) -> list[Reason]:
    """Return the reason of a turn that is not the head of its session's line."""
    if row.state in FINAL or row.head_turn_id in (None, row.id):
        return []
    before = select(literal(1)).where(
        turns.c.session_id == row.session_id, turns.c.seq < row.seq, turns.c.state.in_(UNFINISHED)
    )
    ahead = _counted(conn, before)
    return [Reason(cause=Cause.BEHIND, turn_id=TurnId(row.id), ahead=ahead, since=row.created_at)]


def _counted(conn: Connection, rows: Any) -> int:
    return conn.scalar(select(func.count()).select_from(rows.limit(MOST_COUNTED).subquery())) or 0


def _of_head(conn: Connection, row: Any, state: TurnState) -> list[Reason]:
    """Return what stands in the way of the first turn of a line."""
    turn_id = TurnId(row.id)
    if state in FINAL:
        return [Reason(cause=Cause.ENDED, turn_id=turn_id, since=row.finished_at)]
    if state is TurnState.RUNNING:
        since = conn.scalar(
            select(func.max(attempts.c.started_at, type_=Timestamp)).where(
                attempts.c.turn_id == turn_id
            )
        )
        return [Reason(cause=Cause.RUNNING, turn_id=turn_id, since=since)]
    braked = _brakes(conn, row)
    waits = _waits(row, state)
    return [*braked, *waits] or _due(conn, row)


def _brakes(conn: Connection, row: Any) -> list[Reason]:
    """Return what somebody has paused."""
    turn_id, lane = TurnId(row.id), row.head_lane
    found = []
    if row.status == SessionStatus.PAUSED:
        found.append(Reason(cause=Cause.SESSION_PAUSED, turn_id=turn_id))
    for one in conn.execute(select(pauses).order_by(pauses.c.kind, pauses.c.name)):
        named = {"turn_id": turn_id, "name": one.name, "since": one.since}
        if (one.kind, one.name) == (LANE, lane):
            found.append(Reason(cause=Cause.LANE_PAUSED, **named))
        if (one.kind, one.name) == (PROVIDER, row.provider):
            found.append(Reason(cause=Cause.PROVIDER_PAUSED, **named))
    return found


def _waits(row: Any, state: TurnState) -> list[Reason]:
    """Return what the turn itself has to wait for."""
    turn_id = TurnId(row.id)
    is_held = row.on_ambiguous == OnAmbiguous.HOLD and row.sent_at is not None
    if state is TurnState.UNKNOWN and is_held:
        return [Reason(cause=Cause.HELD, turn_id=turn_id, name=row.error_code or "")]
    if row.available_at <= row.now:
        return []
    until = {"turn_id": turn_id, "until": row.available_at}
    if row.waits_for in BETWEEN_STEPS:
        return [Reason(cause=Cause(row.waits_for), **until)]
    if row.waits_for is not None:
        return [Reason(cause=Cause.LAYER, name=row.waits_for, **until)]
    return [Reason(cause=_LATER.get(state, Cause.LATER), name=row.error_code or "", **until)]


#: What a turn waits for that is due at a later moment.
_LATER = {
    TurnState.RETRYING: Cause.RETRY,
    TurnState.WAITING: Cause.BACKGROUND,
    TurnState.UNKNOWN: Cause.QUESTION,
}


def _due(conn: Connection, row: Any) -> list[Reason]:
    """Return why a turn that could run does not: others come before it, or nobody takes any."""
    due_at = row.head_due_at or row.available_at
    said = {"turn_id": TurnId(row.id), "name": str(row.head_lane), "since": due_at}
    if row.now - due_at > _SOON and not _at_work(conn, row.head_lane, since=due_at):
        return [Reason(cause=Cause.NO_WORKER, **said)]
    s = sessions.c
    before = select(literal(1)).where(
        s.head_lane == row.head_lane, s.status == SessionStatus.ACTIVE, s.head_due_at < due_at
    )
    ahead = _counted(conn, before)
    return [Reason(cause=Cause.LANE_BUSY if ahead else Cause.DUE, ahead=ahead, **said)]


def _at_work(conn: Connection, lane: str, *, since: datetime) -> bool:
    """Tell whether a worker holds a turn of the lane, or has begun one since then."""
    held = select(turns.c.id).where(turns.c.state == TurnState.RUNNING, turns.c.lane == lane)
    if conn.execute(held.limit(1)).first() is not None:
        return True
    begun = select(turns.c.id).where(turns.c.finished_at >= since, turns.c.lane == lane)
    return conn.execute(begun.limit(1)).first() is not None


def _likely(conn: Connection, row: Any, reasons: list[Reason]) -> datetime | None:
    """Return when the turn is likely to begin, where its reasons say so."""
    causes = {one.cause for one in reasons}
    if causes == {Cause.DUE}:
        found: datetime = row.now
        return found
    if causes <= _TIMED:
        return max((one.until for one in reasons if one.until is not None), default=None)
    if causes != {Cause.LANE_BUSY}:
        return None
    ended = select(func.count(type_=Integer)).where(
        turns.c.finished_at >= db_after(-_RATE_WITHIN.total_seconds()), turns.c.lane == row.lane
    )
    rate = (conn.scalar(ended) or 0) / _RATE_WITHIN.total_seconds()
    ahead = reasons[0].ahead
    if not rate or ahead >= MOST_COUNTED:
        return None
    begins: datetime = row.now + timedelta(seconds=ahead / rate)
    return begins


#: They end at a moment that is known.
_TIMED = frozenset({Cause.LAYER, Cause.RETRY, Cause.QUESTION, Cause.BACKGROUND, Cause.LATER})
