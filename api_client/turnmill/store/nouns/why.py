"""Why a turn does not run: what stands in its way, as rows say it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Text, case, cast, func, literal, select

from turnmill.domain.closing import tier_in
from turnmill.domain.errors import TurnNotFound
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import (
    AT_A_CLOSED_TARGET,
    BETWEEN_STEPS,
    FINAL,
    FOR_ACCOUNT,
    FOR_BATCH,
    FOR_BUDGET,
    UNFINISHED,
    Lane,
    OnAmbiguous,
    SessionStatus,
    TurnState,
)
from turnmill.store.nouns.awaited_budgets import Awaited, awaited
from turnmill.store.nouns.load import MOST_COUNTED, Loads
from turnmill.store.readable import read_one
from turnmill.store.rules.claiming import LANE, PROVIDER
from turnmill.store.schema.tables import attempts, pauses, sessions, turns
from turnmill.store.schema_name import asked
from turnmill.store.types import Timestamp, db_asof

#: A turn that could run for longer than this should have been taken by a worker.
_SOON = timedelta(seconds=5)
#: Who waits for less waits for what is reserved, or for the last moment of a period.
_A_WHILE = timedelta(minutes=1)


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
    ACCOUNT = "account"  #: for an account at its provider, which is closed
    BREAKER = "breaker"  #: for its provider, which has failed again and again
    LIMIT = "limit"  #: for its place within what a provider takes a minute, or at once
    BUDGET = "budget"  #: for a period that begins anew, or a limit that is raised
    BATCH = "batch"  #: for its batch, which is at its vendor, or paused
    KEY = "key"  #: for a key of what is encrypted, which is missing
    LAYER = "layer"  #: for what a layer has named
    RETRY = "retry"  #: for its next attempt, after an error
    QUESTION = "question"  #: for the next time that its provider is asked what became of it
    BACKGROUND = "background"  #: for what the provider does in the background
    LATER = "later"  #: for the moment that it was sent for
    LANE_BUSY = "lane_busy"  #: for turns that are served before it
    NO_WORKER = "no_worker"  #: for a worker: none has begun anything in its lane meanwhile
    DUE = "due"  #: for nothing: a worker is about to take it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that a turn waits for."""

    cause: Cause
    turn_id: TurnId  #: that it is a reason of: the turn itself, or the head of its session's line
    #: of the lane, the provider or what a layer named; the code of an error; of a budget, whose it
    #: is and its period, as `user day`
    name: str = ""
    since: datetime | None = None  #: it has been so
    until: datetime | None = None  #: it is so at the least; None: nobody knows
    #: turns that come before it, in its session or in its lane; 10,000: or more; in a listing, of
    #: its session at the most, and of its lane 0
    ahead: int = 0
    running: int = 0  #: turns of its lane that workers hold; 0 unless the lane is busy


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """What a turn waits for, and until when."""

    turn_id: TurnId
    session_id: SessionId
    state: TurnState
    now: datetime  #: by the database's clock
    reasons: tuple[Reason, ...]  #: what stands in the way of the turn, then of the head before it
    #: when it is likely to begin, by what is known and has been so lately; None where nobody can
    #: tell, and in a listing
    likely_at: datetime | None


def why(conn: Connection, turn_id: TurnId) -> Why:
    """Return what the turn waits for; raises TurnNotFound."""
    rows = _rows(conn, [turn_id])
    if not rows:
        raise TurnNotFound()
    row, loads = rows[0], Loads(conn)
    reasons = _with_budgets(_reasons(row, loads), _awaited(conn, rows))
    for one in [one for one in reasons if one.cause is Cause.BEHIND]:
        reasons[0] = Reason(
            cause=one.cause, turn_id=one.turn_id, since=one.since, ahead=_before(conn, row)
        )
    reasons = [_counted(conn, one, row, loads) for one in reasons]
    return _why(row, reasons, likely_at=_likely(row, reasons, loads))


def why_each(
    conn: Connection, turn_ids: Collection[TurnId], *, sees_settings: bool = True
) -> dict[TurnId, Why]:
    """Return it for each of the turns that is there: one query, and one more for each lane.

    What comes before a turn in its lane is not counted, and nothing is estimated. A role that does
    not see settings asks a function whether another target may answer.
    """
    rows, loads = _rows(conn, turn_ids, sees_settings=sees_settings), Loads(conn)
    budgets = _awaited(conn, rows) if sees_settings else {}
    return {
        TurnId(row.id): _why(row, _with_budgets(_reasons(row, loads), budgets), likely_at=None)
        for row in rows
    }


def _why(row: Any, reasons: Sequence[Reason], *, likely_at: datetime | None) -> Why:
    return Why(
        turn_id=TurnId(row.id),
        session_id=SessionId(row.session_id),
        state=read_one(row.state, TurnState),
        now=row.now,
        reasons=tuple(reasons),
        likely_at=likely_at,
    )


_OWN = turns.alias("own").c
_HEAD = turns.alias("head")
_OF_HEAD = ("state", "seq", "available_at", "sent_at", "error_code", "waits_for")


def _rows(
    conn: Connection, turn_ids: Collection[TurnId], *, sees_settings: bool = True
) -> Sequence[Any]:
    """Return the turns, each with its session, the head of its line, and what is paused of both."""
    s, head = sessions.c, _HEAD.c
    begun = select(func.max(attempts.c.started_at, type_=Timestamp)).where(
        attempts.c.turn_id == head.id
    )
    falls_back: ColumnElement[Any] = cast(s.settings, Text).like('%"fallback"%')
    if not sees_settings:
        falls_back = asked(conn, "falls_back", s.id)
    query = (
        select(
            *(_OWN.id, _OWN.session_id, _OWN.seq, _OWN.state, _OWN.created_at, _OWN.finished_at),
            *(s.provider, s.model, s.status, s.on_ambiguous),
            falls_back.label("falls_back"),
            *(s.head_turn_id, s.head_lane, s.head_due_at),
            *(head[name].label(f"head_{name}") for name in _OF_HEAD),
            case((head.parked_until > db_asof(), head.parked_until)).label("no_room_until"),
            begun.scalar_subquery().label("begun_at"),
            _paused(LANE, s.head_lane).label("lane_paused"),
            _paused(PROVIDER, s.provider).label("provider_paused"),
            db_asof().label("now"),
        )
        .select_from(_OWN.id.table)
        .join(sessions, s.id == _OWN.session_id)
        .outerjoin(_HEAD, head.id == s.head_turn_id)
        .where(_OWN.id.in_(turn_ids), s.status != SessionStatus.DELETED)
    )
    return conn.execute(query).all()


def _paused(kind: str, name: Any) -> Any:
    found = select(pauses.c.since).where(pauses.c.kind == kind, pauses.c.name == name)
    return found.scalar_subquery()


def _reasons(row: Any, loads: Loads) -> list[Reason]:
    """Return what stands in the way of a turn, and of the head before it."""
    if row.state in FINAL or row.head_turn_id is None:
        return [Reason(cause=Cause.ENDED, turn_id=TurnId(row.id), since=row.finished_at)]
    found = []
    if row.head_turn_id != row.id:
        most = row.seq - row.head_seq
        found.append(
            Reason(cause=Cause.BEHIND, turn_id=TurnId(row.id), ahead=most, since=row.created_at)
        )
    return [*found, *_of_head(row, loads)]


def _of_head(row: Any, loads: Loads) -> list[Reason]:
    """Return what stands in the way of the first turn of a line."""
    state = read_one(row.head_state, TurnState)
    if state is TurnState.RUNNING:
        return [Reason(cause=Cause.RUNNING, turn_id=_head_of(row), since=row.begun_at)]
    waits, closed = _waits(row, state), _closed(row, loads)
    if waits and row.head_waits_for not in AT_A_CLOSED_TARGET:
        waits += [one for one in closed if _outlasts(one, waits[0])]
    elif closed:
        # By now a worker would have put off one that is due.
        due = [] if waits else [_due(row, loads)]
        waits = [*(one for one in due if one.cause is Cause.NO_WORKER), *closed]
    return [*_brakes(row), *waits] or [_due(row, loads)]


def _outlasts(closed: Reason, waits: Reason) -> bool:
    """Tell whether a turn will find its target closed when it has waited for something else."""
    if waits.cause is Cause.BATCH:  # of a vendor's, perhaps: that has accounts alone
        return closed.cause is Cause.ACCOUNT
    later = waits.until and closed.until and closed.until > waits.until + _SOON
    return bool(later and waits.cause in _CALLS_THEN)


def _head_of(row: Any) -> TurnId:
    return TurnId(row.head_turn_id)


def _brakes(row: Any) -> list[Reason]:
    """Return what somebody has paused."""
    found = []
    if row.status == SessionStatus.PAUSED:
        found.append(Reason(cause=Cause.SESSION_PAUSED, turn_id=_head_of(row)))
    for cause, name, since in (
        (Cause.LANE_PAUSED, row.head_lane, row.lane_paused),
        (Cause.PROVIDER_PAUSED, row.provider, row.provider_paused),
    ):
        if since is not None:
            found.append(Reason(cause=cause, turn_id=_head_of(row), name=name, since=since))
    return found


def _waits(row: Any, state: TurnState) -> list[Reason]:
    """Return what the turn itself has to wait for."""
    turn_id, code = _head_of(row), row.head_error_code or ""
    is_held = row.on_ambiguous == OnAmbiguous.HOLD and row.head_sent_at is not None
    if state is TurnState.UNKNOWN and is_held:
        return [Reason(cause=Cause.HELD, turn_id=turn_id, name=code)]
    if row.head_waits_for == FOR_BATCH:
        cause = Cause.BUDGET if row.no_room_until else Cause.BATCH
        return [Reason(cause=cause, turn_id=turn_id, until=row.no_room_until)]
    if row.head_available_at <= row.now:
        return []
    waits_for = row.head_waits_for
    if waits_for is None:
        cause, name = _LATER.get(state, Cause.LATER), code
    elif waits_for in _NAMED:
        cause = Cause(waits_for)
        name = row.provider if cause in _OF_PROVIDER else ""
    else:
        cause, name = Cause.LAYER, waits_for
    return [Reason(cause=cause, turn_id=turn_id, name=name, until=row.head_available_at)]


def _awaited(conn: Connection, rows: Sequence[Any]) -> dict[UUID, Awaited]:
    """Return which budgets heads wait for; of one that looks again in a moment, none."""
    ids = {
        row.head_turn_id
        for row in rows
        if row.no_room_until
        or (row.head_waits_for == FOR_BUDGET and row.head_available_at - row.now > _A_WHILE)
    }
    return awaited(conn, ids) if ids else {}


def _with_budgets(reasons: list[Reason], found: Mapping[UUID, Awaited]) -> list[Reason]:
    """Return the reasons; who waits for a budget is not told when his turn looks again at it."""
    return [
        replace(one, name=found[one.turn_id].name, until=found[one.turn_id].ends_at)
        if one.cause is Cause.BUDGET and one.turn_id in found
        else one
        for one in reasons
    ]


def _closed(row: Any, loads: Loads) -> list[Reason]:
    """Return what is closed for a turn's model, whether or not the turn was put off for it yet.

    Of one with a fallback only what it was put off for: else another target answers.
    """
    if row.falls_back and row.head_waits_for not in AT_A_CLOSED_TARGET:
        return []
    models = ("", row.model)
    closed = (
        one
        for one in loads.closed
        if one.provider == row.provider and one.model in models
        # Of one tier alone: who was not put off for it asks for another one.
        if not tier_in(one.account) or row.head_waits_for == FOR_ACCOUNT
    )
    return [
        Reason(
            cause=Cause(one.kind),
            turn_id=_head_of(row),
            name=f"{one.provider} ({one.code})",
            since=one.closed_at,
            until=one.closed_until,
        )
        for one in islice(closed, 1)
    ]


#: What a turn waits for that is due at a later moment.
_LATER = {
    TurnState.RETRYING: Cause.RETRY,
    TurnState.WAITING: Cause.BACKGROUND,
    TurnState.UNKNOWN: Cause.QUESTION,
}
#: When their moment has come, a vendor is called.
_CALLS_THEN = {Cause.RETRY, Cause.LATER, Cause.LIMIT, Cause.BUDGET, Cause.KEY, Cause.LAYER}
#: Put off by what is ours: the same words stand in the row.
_GATES = frozenset({Cause.ACCOUNT, Cause.BREAKER, Cause.LIMIT, Cause.BUDGET})
_NAMED = BETWEEN_STEPS | _GATES | {Cause.KEY}
_OF_PROVIDER = _GATES - {Cause.BUDGET}


def _due(row: Any, loads: Loads) -> Reason:
    """Return why a turn that could run does not: others come before it, or nobody takes any."""
    due_at = row.head_due_at or row.head_available_at
    lane = read_one(row.head_lane, Lane)
    load = loads.of(lane)
    if row.now - due_at > _SOON and not loads.is_worked_on(lane, since=due_at):
        cause = Cause.NO_WORKER
    elif load.oldest_at is not None and load.oldest_at < due_at:
        cause = Cause.LANE_BUSY
    else:
        cause = Cause.DUE
    running = load.running if cause is Cause.LANE_BUSY else 0
    return Reason(
        cause=cause, turn_id=_head_of(row), name=row.head_lane, since=due_at, running=running
    )


def _before(conn: Connection, row: Any) -> int:
    """Count the unfinished turns before this one in its session."""
    before = select(literal(1)).where(
        turns.c.session_id == row.session_id, turns.c.seq < row.seq, turns.c.state.in_(UNFINISHED)
    )
    counted = select(func.count()).select_from(before.limit(MOST_COUNTED).subquery())
    return conn.scalar(counted) or 0


def _counted(conn: Connection, one: Reason, row: Any, loads: Loads) -> Reason:
    """Return the reason with the number of turns that its lane serves first."""
    if one.cause is not Cause.LANE_BUSY or one.since is None:
        return one
    # Not with the rest: a role that sees no names of users reads all but this number.
    user = conn.scalar(select(sessions.c.user_id).where(sessions.c.id == row.session_id))
    ahead = loads.ahead(Lane(one.name), user=str(user), due_at=one.since)
    return Reason(
        cause=Cause.LANE_BUSY if ahead else Cause.DUE,
        turn_id=one.turn_id,
        name=one.name,
        since=one.since,
        ahead=ahead,
        running=one.running if ahead else 0,
    )


def _likely(row: Any, reasons: Sequence[Reason], loads: Loads) -> datetime | None:
    """Return when the turn is likely to begin, where its reasons and the last minutes say so."""
    if reasons[0].cause is not Cause.BEHIND:
        return _begins(reasons, loads, now=row.now)
    takes = loads.typical(SessionId(row.session_id), before=row.head_seq)
    if takes is None:
        return None
    head, ahead = reasons[1:], reasons[0].ahead
    if head[0].cause is Cause.RUNNING:
        ends: datetime = max(row.now, (head[0].since or row.now) + takes)
        return ends + (ahead - 1) * takes
    begins = _begins(head, loads, now=row.now)
    return None if begins is None else begins + ahead * takes


def _begins(reasons: Sequence[Reason], loads: Loads, *, now: datetime) -> datetime | None:
    """Return when the head of a line is likely to begin."""
    causes = {one.cause for one in reasons}
    if causes == {Cause.DUE}:
        return now
    if causes <= _TIMED:
        return max((one.until for one in reasons if one.until is not None), default=None)
    if causes != {Cause.LANE_BUSY} or reasons[0].ahead >= MOST_COUNTED:
        return None
    rate = loads.rate(Lane(reasons[0].name))
    if rate is None:
        return None
    return now + timedelta(seconds=reasons[0].ahead / rate)


#: They end at a moment that is known.
_TIMED = frozenset({Cause.LAYER, Cause.RETRY, Cause.QUESTION, Cause.BACKGROUND, Cause.LATER}) | (
    _GATES
)
