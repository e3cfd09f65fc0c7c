"""Who takes part in a session, and what each may do there."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update

from turnmill.domain.bounds import MOST_PARTICIPANTS
from turnmill.domain.errors import (
    InvalidInput,
    MoveRefused,
    NotAParticipant,
    RoleForbids,
    SessionNotFound,
)
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import SPEAKING, EventKind, ParticipantRole, SessionStatus
from turnmill.store.line import shared_log as log
from turnmill.store.line.head import lock_sessions
from turnmill.store.line.shared_log import Entry, Head
from turnmill.store.people_records import Participant, ReadPosition
from turnmill.store.rules.happenings import write_session_events
from turnmill.store.schema.people_tables import participants, shared_log, turn_senders
from turnmill.store.schema.tables import sessions
from turnmill.store.types import db_now

#: What counts as unread.
SAID = (EventKind.ACCEPTED, EventKind.NOTE_POSTED, EventKind.SUCCEEDED)


def add(
    conn: Connection,
    session_id: SessionId,
    name: str,
    *,
    role: ParticipantRole | None,
    by: str | None,
) -> Participant:
    """Let somebody take part, or in another role than before. Nothing before that is unread.

    `role` None is as it is, or a member; `by` is who decides, None the application itself.
    """
    owner, head = _decided(conn, session_id, by)
    if name == owner and role not in (None, ParticipantRole.OWNER):
        raise MoveRefused(
            "the user whose session it is stays its owner", hint="others may be owners beside him"
        )
    found = conn.scalar(select(participants.c.role).where(_one(session_id, name)))
    if found is None:
        _refuse_too_many(conn, session_id)
        write_session_events(conn, [session_id], EventKind.JOINED)
        head = _put_down(conn, session_id, head, EventKind.JOINED, name)
        row = {"session_id": session_id, "name": name, "read_n": head.last_n}
        chosen = role or ParticipantRole.MEMBER
        conn.execute(insert(participants).values(**row, role=chosen.value))
    elif role is not None and role != found:
        conn.execute(update(participants).where(_one(session_id, name)).values(role=role.value))
    return listed(conn, session_id, name=name)[0]


def remove(conn: Connection, session_id: SessionId, name: str, *, by: str | None) -> None:
    """Let somebody take part no more; he may leave by himself. What he said stays."""
    owner, head = _decided(conn, session_id, None if by == name else by)
    if name == owner:
        raise MoveRefused(
            "the user whose session it is takes part in it", hint="sessions.delete(session) ends it"
        )
    gone = conn.execute(delete(participants).where(_one(session_id, name))).rowcount
    if not gone:
        raise NotAParticipant()
    write_session_events(conn, [session_id], EventKind.LEFT)
    _put_down(conn, session_id, head, EventKind.LEFT, name)


def listed(
    conn: Connection, session_id: SessionId, *, name: str | None = None
) -> list[Participant]:
    """Return who takes part, those who joined first before others, or the one of this name."""
    this = participants.c.session_id == session_id
    query = select(participants).where(this)
    if name is not None:
        query = query.where(participants.c.name == name)
    rows = conn.execute(query.order_by(participants.c.joined_at, participants.c.name)).all()
    unread = _unread(conn, session_id, [row.name for row in rows])
    return [
        Participant(
            session_id=session_id,
            name=row.name,
            role=ParticipantRole(row.role),
            read=row.read_n,
            unread=unread.get(row.name, 0),
            joined_at=row.joined_at,
        )
        for row in rows
    ]


def share(conn: Connection, session_id: SessionId) -> None:
    """Let the session be one that people follow, if it is not yet. Raises SessionNotFound."""
    log.share(conn, session_id, _user_of(conn, session_id))


def place_of(conn: Connection, session_id: SessionId, name: str) -> ReadPosition:
    """Return what somebody is in a session that is shared; raises NotAParticipant."""
    row = conn.execute(
        select(participants.c.role, participants.c.read_n)
        .join(sessions, sessions.c.id == participants.c.session_id)
        .where(_one(session_id, name), sessions.c.status != SessionStatus.DELETED)
    ).one_or_none()
    if row is not None:
        return ReadPosition(session_id=session_id, role=ParticipantRole(row.role), read=row.read_n)
    if _user_of(conn, session_id) != name:
        raise NotAParticipant()
    share(conn, session_id)
    return ReadPosition(session_id=session_id, role=ParticipantRole.OWNER, read=0)


def require(conn: Connection, session_id: SessionId, name: str) -> None:
    """Raise NotAParticipant unless somebody takes part, and SessionNotFound for one that is gone.

    One statement, and no lock.
    """
    row = conn.execute(
        select(sessions.c.id, participants.c.role)
        .outerjoin(participants, _one(sessions.c.id, name))
        .where(sessions.c.id == session_id, sessions.c.status != SessionStatus.DELETED)
    ).one_or_none()
    if row is None:
        raise SessionNotFound()
    if row.role is None:
        raise NotAParticipant()


def let_speak(conn: Connection, session_id: SessionId, name: str) -> None:
    """Raise NotAParticipant or RoleForbids unless somebody may say something.

    He takes part until the caller's transaction ends, which holds the session, or its log.
    """
    found = conn.scalar(select(participants.c.role).where(_one(session_id, name)))
    if found is None and _user_of(conn, session_id) != name:
        raise NotAParticipant()
    if found is not None and found not in SPEAKING:
        raise RoleForbids("an observer says nothing")


def note_sender(conn: Connection, session_id: SessionId, turn_id: TurnId, name: str) -> None:
    """Write down who said what a turn answers, and wake who follows the session."""
    conn.execute(insert(turn_senders).values(session_id=session_id, turn_id=turn_id, name=name))
    log.tell_followers(conn, session_id)


def mark_read(conn: Connection, session_id: SessionId, name: str, *, upto: int | None) -> None:
    """Note that somebody has read everything up to there (None: all there is). It never goes back.

    Raises NotAParticipant, and InvalidInput for a cursor beyond all that happened.
    """
    place_of(conn, session_id, name)
    last = select(func.max(shared_log.c.n)).where(shared_log.c.session_id == session_id)
    there = conn.scalar(last) or 0
    if upto is not None and upto > there:
        raise InvalidInput("nothing has happened up to there", hint="a cursor that follow gave")
    wanted = there if upto is None else upto
    mine = update(participants).where(_one(session_id, name), participants.c.read_n < wanted)
    conn.execute(mine.values(read_n=wanted))


def _decided(conn: Connection, session_id: SessionId, by: str | None) -> tuple[str, Head]:
    """Return whose session it is, and its log, which is ours; raises where `by` may not decide."""
    lock_sessions(conn, [session_id])
    share(conn, session_id)
    if by is not None and place_of(conn, session_id, by).role is not ParticipantRole.OWNER:
        raise RoleForbids("only an owner decides who takes part")
    head = log.catch_up(conn, session_id)
    if head is None:
        raise SessionNotFound()
    return _user_of(conn, session_id), head


def _put_down(
    conn: Connection, session_id: SessionId, head: Head, kind: EventKind, name: str
) -> Head:
    now = conn.scalars(select(db_now())).one()
    log.tell_followers(conn, session_id)
    return log.append(conn, session_id, head, [Entry(kind=kind, at=now, name=name)])


def _refuse_too_many(conn: Connection, session_id: SessionId) -> None:
    of = participants.c.session_id == session_id
    if (conn.scalar(select(func.count()).select_from(participants).where(of)) or 0) >= (
        MOST_PARTICIPANTS
    ):
        raise MoveRefused(
            f"{MOST_PARTICIPANTS} take part in the session: that is the most",
            hint="let somebody leave who is not there any more",
        )


def _unread(conn: Connection, session_id: SessionId, names: Sequence[str]) -> dict[str, int]:
    others = or_(shared_log.c.name.is_(None), shared_log.c.name != participants.c.name)
    rows = conn.execute(
        select(participants.c.name, func.count())
        .join(shared_log, shared_log.c.session_id == participants.c.session_id)
        .where(participants.c.session_id == session_id, participants.c.name.in_(list(names)))
        .where(shared_log.c.n > participants.c.read_n, shared_log.c.kind.in_(SAID), others)
        .group_by(participants.c.name)
    )
    return {row[0]: row[1] for row in rows}


def _user_of(conn: Connection, session_id: SessionId) -> str:
    found = conn.scalar(
        select(sessions.c.user_id)
        .where(sessions.c.id == session_id, sessions.c.status != SessionStatus.DELETED)
        .with_for_update(read=True, key_share=True)
    )
    if found is None:
        raise SessionNotFound()
    return str(found)


def _one(session_id: Any, name: str) -> ColumnElement[bool]:
    return and_(participants.c.session_id == session_id, participants.c.name == name)
