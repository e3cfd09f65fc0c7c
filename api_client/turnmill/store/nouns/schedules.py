"""Schedules: messages that are sent in their session again and again, or once later.

A run is an ordinary turn. It is accepted in the commit that moves the schedule on, under a key that
names schedule and moment: whoever looks, and however often, there is one run for a moment.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, select, update

from turnmill.domain.content import Message
from turnmill.domain.crons import Missed, Round, due_after, round_of
from turnmill.domain.errors import (
    Conflict,
    InvalidInput,
    MoveRefused,
    ScheduleNotFound,
    SessionArchived,
    SessionNotFound,
    UnreadableRow,
)
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, SessionStatus
from turnmill.new_ids import new_id
from turnmill.store.codec import content_of, parts_from, shown_parts
from turnmill.store.line.accept_many import accept_many
from turnmill.store.line.head import lock_sessions
from turnmill.store.nouns.holds import refuse_held_sessions
from turnmill.store.readable import ODD, read_one, read_page
from turnmill.store.records import Accepted, Head, NewTurn
from turnmill.store.rules.sealing import object_in, sealed_in
from turnmill.store.schedule_records import NewSchedule, Schedule
from turnmill.store.schema.schedule_tables import schedules
from turnmill.store.schema.tables import sessions
from turnmill.store.types import db_asof, db_now
from turnmill.store.vaults import plain

#: Of one session.
MOST_OF_A_SESSION = 100
_SAME = ("cron", "at", "timezone", "until", "missed", "lane", "metadata", "max_attempts")


def create(conn: Connection, session_id: SessionId, new: NewSchedule) -> Schedule:
    """Make the schedule, or return the one that its key stands for in this session.

    The caller's transaction. Raises SessionNotFound, SessionArchived; Conflict where the key stands
    for another one; MoveRefused for more than a session may have.
    """
    lock_sessions(conn, [session_id])
    _refuse_closed(conn, session_id)
    mine = schedules.c.session_id == session_id
    if new.key is not None:
        standing = conn.execute(select(schedules).where(mine, schedules.c.key == new.key)).first()
        if standing is not None:
            return _as_known(standing, new)
    if len(conn.scalars(select(schedules.c.id).where(mine)).all()) >= MOST_OF_A_SESSION:
        raise MoveRefused(
            f"a session has up to {MOST_OF_A_SESSION} schedules", hint="delete some of them"
        )
    next_at = _first(new.cron, new.timezone, at=new.at, until=new.until, now=_now(conn))
    if next_at is None:
        raise InvalidInput("the schedule would never run", hint="until is before its first run")
    values = {name: getattr(new, name) for name in ("id", "key", "max_cost_usd", *_SAME)}
    content = _sealed(conn, session_id, new.id, content_of(new.parts))
    values |= {"session_id": session_id, "content": content, "next_at": next_at}
    place = f"{session_id.hex}/{new.id.hex}"
    of = schedules.c.metadata
    values |= {"metadata": object_in(conn, session_id, of, place, new.metadata)}
    conn.execute(insert(schedules).values(values))
    return get(conn, new.id)


def _sealed(conn: Connection, session_id: SessionId, schedule_id: UUID, content: Any) -> Any:
    place = f"{session_id.hex}/{schedule_id.hex}"
    return sealed_in(conn, session_id, schedules.c.content, place, content)


def _as_known(row: Row[Any], new: NewSchedule) -> Schedule:
    standing = read_one(row, _record)
    same = all(getattr(standing, name) == getattr(new, name) for name in _SAME)
    cost = standing.max_cost_usd == new.max_cost_usd
    if not (same and cost and plain(row.content) == content_of(new.parts)):
        raise Conflict(
            "the key stands for another schedule of this session",
            hint="delete that one first, or change it with `schedules.update`",
        )
    return standing


def get(conn: Connection, schedule_id: UUID) -> Schedule:
    """Return the schedule, or raise ScheduleNotFound."""
    return read_one(_row(conn, schedule_id), _record)


def find(
    conn: Connection,
    *,
    session_id: SessionId | None = None,
    after: UUID | None = None,
    limit: int = 100,
) -> list[Schedule]:
    """Return up to `limit` schedules, newest first; `after` is the last id of the page before."""
    query = _present(select(schedules))
    if session_id is not None:
        query = query.where(schedules.c.session_id == session_id)
    if after is not None:
        query = query.where(schedules.c.id < after)
    return read_page(conn, query, _record, by=schedules.c.id, limit=limit)


def change(conn: Connection, schedule_id: UUID, values: Mapping[str, Any]) -> Schedule:
    """Change what the schedule says; when it is due next is found anew. The caller's transaction.

    `parts` are among `values`. A moment that went by unseen is not caught up with any more, where
    cron, time zone or moment are changed.
    """
    row = _locked(conn, schedule_id)
    columns = dict(values)
    if "parts" in columns:
        content = content_of(columns.pop("parts"))
        columns["content"] = _sealed(conn, row.session_id, schedule_id, content)
    become = {**dict(row._mapping), **columns}
    if any((become[one] is None) != (row._mapping[one] is None) for one in ("cron", "at")):
        raise InvalidInput(
            "a schedule has a cron or a moment, and keeps to it", hint="make another"
        )
    timing = {"cron", "at", "timezone", "until"} & columns.keys()
    if timing and not row.paused:
        columns["next_at"] = _next(become, now=_now(conn))
    statement = update(schedules).where(schedules.c.id == schedule_id)
    conn.execute(statement.values(**columns, updated_at=db_now()))
    return get(conn, schedule_id)


def pause(conn: Connection, schedule_id: UUID) -> Schedule:
    """Make no runs until it is resumed. Raises MoveRefused for one that is over."""
    row = _locked(conn, schedule_id)
    if not row.paused and row.next_at is None:
        raise MoveRefused("the schedule is over", hint="make another one")
    _set(conn, schedule_id, paused=True, next_at=None)
    return get(conn, schedule_id)


def resume(conn: Connection, schedule_id: UUID) -> Schedule:
    """Make runs again, from now on: what went by meanwhile was not missed.

    Nor was the only moment of one that runs once, unless an error had paused it, and no caller.
    Raises MoveRefused for one that is over.
    """
    row = _locked(conn, schedule_id)
    if not row.paused and row.next_at is None:
        raise MoveRefused("the schedule is over", hint="make another one")
    if row.paused:
        now = _now(conn)
        next_at = _next(dict(row._mapping), now=now)
        if row.at is not None and row.at <= now and row.error_code is None:
            next_at = None
        _set(conn, schedule_id, paused=False, next_at=next_at, error_code=None)
    return get(conn, schedule_id)


def remove(conn: Connection, schedule_id: UUID) -> None:
    """Make no more runs; turns that were made stay. Raises UserOnHold: `pause` ends runs, too."""
    row = _locked(conn, schedule_id)
    refuse_held_sessions(conn, [row.session_id])
    conn.execute(delete(schedules).where(schedules.c.id == schedule_id))


def _next(values: Mapping[str, Any], *, now: datetime) -> datetime | None:
    return _first(
        values["cron"], values["timezone"], at=values["at"], until=values["until"], now=now
    )


def _first(
    cron: str | None, timezone: str, *, at: datetime | None, until: datetime | None, now: datetime
) -> datetime | None:
    """Return when it is due first; a moment that has gone by is due at once."""
    found = at if cron is None else next(due_after(cron, timezone, now), None)
    return None if found is None or (until is not None and found > until) else found


def due(conn: Connection, *, limit: int) -> list[UUID]:
    """Return up to `limit` schedules that are due, the oldest first."""
    found = select(schedules.c.id).where(_due()).order_by(schedules.c.next_at).limit(limit)
    return list(conn.scalars(found))


def run(conn: Connection, schedule_id: UUID) -> list[Head]:
    """Make the runs of a schedule that is due, and return the heads that are due by that.

    Nothing is done where somebody else does so at this moment, or has. Where the session takes no
    messages the moments go by, and the schedule says why. The caller's transaction.
    """
    wanted = select(schedules).where(schedules.c.id == schedule_id, _due())
    found = conn.execute(wanted).first()
    if found is None or not lock_sessions(conn, [SessionId(found.session_id)], wait=False):
        return []
    row = conn.execute(wanted.with_for_update(skip_locked=True)).first()
    if row is None:
        return []
    todo = _round(row, now=_now(conn))
    accepted, error_code = _send(conn, row, todo)
    moved = {
        "next_at": todo.next_at,
        "runs": row.runs + sum(one.created for one in accepted),
        "skipped": row.skipped + todo.skipped + len(todo.run) - len(accepted),
        "error_code": error_code if todo.run else row.error_code,
    }
    if accepted:
        moved |= {"last_at": todo.run[-1], "last_turn_id": accepted[-1].turn_id}
    _set(conn, schedule_id, **moved)
    lane = Lane(row.lane)
    return [
        Head(turn_id=one.turn_id, session_id=one.session_id, lane=lane)
        for one in accepted
        if one.announce
    ]


def put_off(conn: Connection, schedule_id: UUID, *, error_code: str) -> None:
    """Pause a schedule whose runs cannot be written, and say why: others go on."""
    _set(conn, schedule_id, paused=True, next_at=None, error_code=error_code)


def _round(row: Row[Any], *, now: datetime) -> Round:
    following = () if row.cron is None else due_after(row.cron, row.timezone, row.next_at)
    moments: Iterator[datetime] = chain([row.next_at], following)
    return round_of(moments, now=now, until=row.until, missed=Missed(row.missed))


def _send(conn: Connection, row: Row[Any], todo: Round) -> tuple[list[Accepted], str | None]:
    """Accept a turn for each of the moments; or say why there is none."""
    session_id = SessionId(row.session_id)
    try:
        parts = parts_from(row.content)
    except ODD:
        return [], UnreadableRow.code
    try:
        turns = [(session_id, _turn(row, parts, moment)) for moment in todo.run]
        return accept_many(conn, turns), None
    except (Conflict, SessionNotFound) as error:
        return [], error.code


def _turn(row: Row[Any], parts: Any, moment: datetime) -> NewTurn:
    return NewTurn(
        id=TurnId(new_id()),
        messages=(Message("user", parts),),
        lane=Lane(row.lane),
        idempotency_key=key_of(row.id, moment),
        metadata=plain(row.metadata),
        max_attempts=row.max_attempts,
        max_cost_usd=row.max_cost_usd,
    )


def key_of(schedule_id: UUID, moment: datetime) -> str:
    """Return the idempotency key of the run for a moment."""
    return f"schedule:{schedule_id}:{moment:%Y-%m-%dT%H:%M:%SZ}"


def _due() -> ColumnElement[bool]:
    return and_(schedules.c.next_at.is_not(None), schedules.c.next_at <= db_asof())


def _refuse_closed(conn: Connection, session_id: SessionId) -> None:
    status = conn.scalar(select(sessions.c.status).where(sessions.c.id == session_id))
    if status is None or status == SessionStatus.DELETED:
        raise SessionNotFound()
    if status == SessionStatus.ARCHIVED:
        raise SessionArchived()


def _locked(conn: Connection, schedule_id: UUID) -> Row[Any]:
    """Return the row under its lock, that of its session taken first."""
    session_id = SessionId(_row(conn, schedule_id).session_id)
    lock_sessions(conn, [session_id])
    wanted = select(schedules).where(schedules.c.id == schedule_id)
    row = conn.execute(wanted.with_for_update()).first()
    if row is None:
        raise ScheduleNotFound()
    return row


def _row(conn: Connection, schedule_id: UUID) -> Row[Any]:
    row = conn.execute(_present(select(schedules)).where(schedules.c.id == schedule_id)).first()
    if row is None:
        raise ScheduleNotFound()
    return row


def _present(query: Any) -> Any:
    """Leave out what belongs to a session that was deleted, and whose last turn still runs."""
    there = and_(
        sessions.c.id == schedules.c.session_id, sessions.c.status != SessionStatus.DELETED
    )
    return query.join(sessions, there)


def _set(conn: Connection, schedule_id: UUID, **values: Any) -> None:
    statement = update(schedules).where(schedules.c.id == schedule_id)
    conn.execute(statement.values(**values, updated_at=db_now()))


def _now(conn: Connection) -> datetime:
    found: datetime = conn.scalars(select(db_now())).one()
    return found


def _record(row: Row[Any]) -> Schedule:
    names = [one for one in Schedule.__dataclass_fields__ if one != "parts"]
    values = {name: row._mapping[name] for name in names}
    turn = values["last_turn_id"]
    return Schedule(
        **values
        | {
            "parts": shown_parts(row.content),
            "metadata": plain(row.metadata),
            "missed": Missed(values["missed"]),
            "lane": Lane(values["lane"]),
            "session_id": SessionId(values["session_id"]),
            "last_turn_id": None if turn is None else TurnId(turn),
        }
    )
