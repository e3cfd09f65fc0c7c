"""Notes: what is said to participants alone, and where in the history of a session it stands."""

from typing import Any

from sqlalchemy import Connection, and_, insert, or_, select

from turnmill.domain.errors import IdempotencyConflict, SessionArchived, SessionNotFound
from turnmill.domain.ids import SessionId
from turnmill.domain.states import EventKind, SessionStatus
from turnmill.store.codec import content_of, shown_parts
from turnmill.store.line import shared_log as log
from turnmill.store.line.head import lock_sessions
from turnmill.store.line.shared_log import Entry
from turnmill.store.message_records import MessageRecord
from turnmill.store.nouns import people
from turnmill.store.nouns.sessions import history as of_turns
from turnmill.store.people_records import NewNote, Note
from turnmill.store.readable import readable
from turnmill.store.rules.happenings import write_session_events
from turnmill.store.rules.sealing import require_keys, sealed_in
from turnmill.store.rules.wanted import is_wanted
from turnmill.store.schema.people_tables import notes
from turnmill.store.schema.tables import sessions
from turnmill.store.types import db_now
from turnmill.store.vaults import plain

#: To whom a note is.
PARTICIPANTS = "participants"
#: Notes that are read at once.
_CHUNK = 500


def post(conn: Connection, session_id: SessionId, new: NewNote) -> Note:
    """Write the note, or return the one that its key stands for. No turn comes of it.

    Raises SessionNotFound, SessionArchived, NotAParticipant, RoleForbids, and IdempotencyConflict
    where the key stands for another one.
    """
    require_keys(conn, [session_id])
    told = is_wanted(conn, EventKind.NOTE_POSTED)
    if told:
        lock_sessions(conn, [session_id])  # its event is numbered by the session: that comes first
    people.share(conn, session_id)
    head = log.catch_up(conn, session_id)
    if head is None:
        raise SessionNotFound()
    _refuse_archived(conn, session_id)
    if new.sender is not None:
        people.let_speak(conn, session_id, new.sender)
    if (found := _known(conn, session_id, new)) is not None:
        return found
    if told:
        write_session_events(conn, [session_id], EventKind.NOTE_POSTED)
    now = conn.scalars(select(db_now())).one()
    said = Entry(kind=EventKind.NOTE_POSTED, at=now, name=new.sender)
    n = log.append(conn, session_id, head, [said]).last_n
    values = {"session_id": session_id, "n": n, "after_seq": head.last_seq, "sender": new.sender}
    place = f"{session_id.hex}/{n}"
    content = sealed_in(conn, session_id, notes.c.content, place, content_of(new.parts))
    row = {**values, "content": content, "idempotency_key": new.idempotency_key, "created_at": now}
    conn.execute(insert(notes).values(row))
    log.tell_followers(conn, session_id)
    return _note(conn.execute(select(notes).where(_at(session_id, n))).one())


def history(
    conn: Connection,
    session_id: SessionId,
    *,
    after: tuple[int, int] = (-1, 0),
    limit: int = 500,
) -> list[MessageRecord]:
    """Return messages of up to `limit` turns, and the notes that stand behind each, in order.

    `after` is where the page before ended: the number of a turn, and that of a note behind it.
    """
    seq, n = after
    said = of_turns(conn, session_id, after_seq=max(seq, 0), limit=limit)
    last = said[-1].seq if said else max(seq, 0)
    of_session = notes.c.session_id == session_id
    behind = or_(and_(notes.c.after_seq == seq, notes.c.n > n), notes.c.after_seq > seq)
    found = conn.execute(
        select(notes)
        .where(of_session, behind, notes.c.after_seq <= last)
        .order_by(notes.c.after_seq, notes.c.n)
        .limit(_CHUNK)
    ).all()
    if len(found) == _CHUNK:
        said = [one for one in said if one.seq <= found[-1].after_seq]
    beside = list(readable(found, _record))
    return sorted([*said, *beside], key=lambda one: (one.seq, one.turn_id is None))


def place_of(message: MessageRecord) -> tuple[int, int]:
    """Return where a page ends that this message is the last of."""
    return message.seq, 0 if message.turn_id is not None else message.position


def _refuse_archived(conn: Connection, session_id: SessionId) -> None:
    status = conn.scalar(select(sessions.c.status).where(sessions.c.id == session_id))
    if status == SessionStatus.ARCHIVED:
        raise SessionArchived()


def _known(conn: Connection, session_id: SessionId, new: NewNote) -> Note | None:
    if new.idempotency_key is None:
        return None
    keyed = and_(notes.c.session_id == session_id, notes.c.idempotency_key == new.idempotency_key)
    row = conn.execute(select(notes).where(keyed)).one_or_none()
    if row is None:
        return None
    standing = plain(row.content)
    is_same = standing in ([], content_of(new.parts))  # its words may be gone by now
    if row.sender != new.sender or not is_same:
        raise IdempotencyConflict()
    return _note(row, created=False)


def _at(session_id: SessionId, n: int) -> Any:
    return and_(notes.c.session_id == session_id, notes.c.n == n)


def _note(row: Any, *, created: bool = True) -> Note:
    return Note(
        session_id=SessionId(row.session_id),
        cursor=row.n,
        sender=row.sender,
        parts=shown_parts(row.content),
        created_at=row.created_at,
        seq=row.after_seq,
        created=created,
    )


def _record(row: Any) -> MessageRecord:
    return MessageRecord(
        id=f"{row.session_id}:{row.n}",
        turn_id=None,
        seq=row.after_seq,
        position=row.n,
        role="user",
        parts=shown_parts(row.content),
        state=None,
        created_at=row.created_at,
        sender=row.sender,
        to=PARTICIPANTS,
    )
