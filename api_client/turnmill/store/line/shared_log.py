"""The log of a session that several people follow: what happened, numbered once, for all of them.

Whoever accepts, runs or ends turns knows nothing of it. Whoever looks first puts down what turns
have come to since, in the order in which it happened; after that nobody changes it any more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    SmallInteger,
    Text,
    Uuid,
    and_,
    cast,
    func,
    insert,
    literal,
    null,
    select,
    union_all,
    update,
)

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import FINAL, UNFINISHED, EventKind, ParticipantRole
from turnmill.store.engine import engine_of
from turnmill.store.schema.people_tables import (
    participants,
    shared_log,
    shared_sessions,
    turn_senders,
)
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import ZERO, db_now, insert_into
from turnmill.wire import SETTLED_CHANNEL

#: Turns that are put down at once.
_CHUNK = 500
_NOTHING_SEEN, _STARTED_SEEN, _ENDED_SEEN = 2, 1, 0
_OF_TURN = (
    *(turns.c.id, turns.c.seq, turns.c.state),
    *(turns.c.created_at, turns.c.started_at, turns.c.finished_at),
)
#: There is something to be put down of a turn that had not ended when somebody looked last.
_HAS_MOVED = turns.c.state.in_(FINAL) | and_(
    shared_log.c.open == _NOTHING_SEEN, turns.c.started_at.is_not(None)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something to be put down."""

    kind: EventKind
    at: datetime
    turn_id: TurnId | None = None
    name: str | None = None
    open: int = _ENDED_SEEN


class Head(NamedTuple):
    """How far a log is; its row is ours until this transaction ends."""

    last_n: int
    last_seq: int


def share(conn: Connection, session_id: SessionId, owner: str) -> None:
    """Begin the log of a session, with what has not ended; a second time changes nothing.

    The session's user takes part in it from then on.
    """
    there = select(shared_sessions.c.session_id).where(shared_sessions.c.session_id == session_id)
    if conn.execute(there).first() is not None:
        return
    open_seq = select(func.min(turns.c.seq)).where(
        turns.c.session_id == session_id, turns.c.state.in_(UNFINISHED)
    )
    first = func.coalesce(open_seq.scalar_subquery(), sessions.c.next_seq)
    last_seq = conn.scalar(select(first - 1).where(sessions.c.id == session_id))
    row = {"session_id": session_id, "last_seq": last_seq}
    made = insert_into(conn, shared_sessions).values(row).on_conflict_do_nothing()
    if conn.execute(made).rowcount:
        user = {"session_id": session_id, "name": owner, "role": ParticipantRole.OWNER}
        conn.execute(insert_into(conn, participants).values(user).on_conflict_do_nothing())


def catch_up(conn: Connection, session_id: SessionId, *, wait: bool = True) -> Head | None:
    """Put down what turns have come to, and return how far the log is; it is ours until we commit.

    None where the session is not shared; without `wait`, also where somebody else has the log in
    his hands.
    """
    # Entries refer to the session: who removes it waits for us, and not we for him with the log in
    # our hands, which goes with it.
    there = select(sessions.c.id).where(sessions.c.id == session_id)
    conn.execute(there.with_for_update(read=True, key_share=True))
    row = conn.execute(
        select(shared_sessions.c.last_n, shared_sessions.c.last_seq)
        .where(shared_sessions.c.session_id == session_id)
        .with_for_update(skip_locked=not wait)
    ).one_or_none()
    if row is None:
        return None
    head, more = Head(*row), True
    while more:
        found = _moved(conn, session_id, after=head.last_seq)
        new = [row for row in found if row.n is None]
        entries = [*_of_open(conn, session_id, found), *_of_new(new)]
        if new:
            head = head._replace(last_seq=new[-1].seq)
        if entries:
            head = append(conn, session_id, head, entries)
        more = len(new) == _CHUNK
    return head


def append(conn: Connection, session_id: SessionId, head: Head, entries: Sequence[Entry]) -> Head:
    """Put these down behind all that stands, in the order of their moments, and wake who waits.

    The caller holds the log.
    """
    rows = [
        {
            "session_id": session_id,
            "n": n,
            "kind": one.kind.value,
            "turn_id": one.turn_id,
            "name": one.name,
            "open": one.open,
            "at": one.at,
        }
        for n, one in enumerate(sorted(entries, key=lambda one: one.at), head.last_n + 1)
    ]
    if rows:
        conn.execute(insert(shared_log), rows)
    head = head._replace(last_n=head.last_n + len(rows))
    conn.execute(
        update(shared_sessions)
        .where(shared_sessions.c.session_id == session_id)
        .values(head._asdict())
    )
    return head


def tell_followers(conn: Connection, session_id: SessionId) -> None:
    """Wake those who wait for what happens in the session, when this transaction is committed."""
    engine_of(conn).notify(conn, SETTLED_CHANNEL, [session_id])


def note_retries(conn: Connection, *which: ColumnElement[bool]) -> None:
    """Put down that these turns are about to run again, in whichever sessions are shared.

    The caller's transaction holds the locks of their sessions, and has not moved the turns yet.
    """
    mine = shared_sessions.c.session_id == turns.c.session_id
    found = conn.execute(
        select(turns.c.session_id, turns.c.id)
        .join(shared_sessions, mine)
        .where(*which)
        .order_by(turns.c.session_id, turns.c.seq)
    ).all()
    for session_id in dict.fromkeys(row.session_id for row in found):
        head = catch_up(conn, SessionId(session_id))
        if head is None:
            continue
        now = conn.scalars(select(db_now())).one()
        again = [
            Entry(kind=EventKind.RETRIED, at=now, turn_id=TurnId(row.id), open=_STARTED_SEEN)
            for row in found
            if row.session_id == session_id
        ]
        append(conn, SessionId(session_id), head, again)


def copy_sender(conn: Connection, turn_id: TurnId, copy: TurnId) -> None:
    """Let the copy of a turn be said by whoever said that, if anybody was named."""
    said = select(literal(copy, Uuid), turn_senders.c.session_id, turn_senders.c.name).where(
        turn_senders.c.turn_id == turn_id
    )
    conn.execute(insert(turn_senders).from_select(["turn_id", "session_id", "name"], said))


def is_behind(conn: Connection, session_id: SessionId) -> bool:
    """Tell, without a lock, whether turns have come to something that is not put down yet."""
    new = select(turns.c.id).where(
        turns.c.session_id == session_id, turns.c.seq > shared_sessions.c.last_seq
    )
    moved = (
        select(turns.c.id)
        .join(shared_log, shared_log.c.turn_id == turns.c.id)
        .where(shared_log.c.session_id == session_id, shared_log.c.open > ZERO, _HAS_MOVED)
    )
    query = select(new.exists() | moved.exists()).where(shared_sessions.c.session_id == session_id)
    return bool(conn.scalar(query))


def _moved(conn: Connection, session_id: SessionId, *, after: int) -> Sequence[Any]:
    """Return turns that are not in the log yet, and those that have come to something since.

    In one look at the store: what came later must not be seen without what came before it.
    """
    mine = turns.c.session_id == session_id
    no_n = cast(null(), BigInteger).label("n")
    no_level = cast(null(), SmallInteger).label("open")
    new = (
        select(*_OF_TURN, turn_senders.c.name, no_n, no_level)
        .outerjoin(turn_senders, turn_senders.c.turn_id == turns.c.id)
        .where(mine, turns.c.seq > after)
        .order_by(turns.c.seq)
        .limit(_CHUNK)
        .subquery()
    )
    unended = (
        select(*_OF_TURN, cast(null(), Text).label("name"), shared_log.c.n, shared_log.c.open)
        .join(shared_log, shared_log.c.turn_id == turns.c.id)
        .where(mine, shared_log.c.session_id == session_id, shared_log.c.open > ZERO, _HAS_MOVED)
    )
    rows = conn.execute(union_all(unended, select(new))).all()
    return sorted(rows, key=lambda row: row.seq)


def _of_new(found: Sequence[Any]) -> Iterator[Entry]:
    """Yield what is to be put down of turns that are not in the log yet.

    Messages keep the order of the line, whatever the clock says.
    """
    last: datetime | None = None
    for row in found:
        last = max(last or row.created_at, row.created_at)
        progress = [*_progress(row, seen=_NOTHING_SEEN)]
        seen = progress[-1].open if progress else _NOTHING_SEEN
        said = Entry(kind=EventKind.ACCEPTED, at=last, turn_id=TurnId(row.id), name=row.name)
        yield replace(said, open=seen)
        yield from (replace(one, at=max(one.at, last), open=_ENDED_SEEN) for one in progress)


def _of_open(conn: Connection, session_id: SessionId, found: Sequence[Any]) -> Iterator[Entry]:
    """Yield what has become of turns that had not ended when somebody looked last."""
    for row in found:
        progress = [] if row.n is None else [*_progress(row, seen=row.open)]
        if progress:
            this = and_(shared_log.c.session_id == session_id, shared_log.c.n == row.n)
            conn.execute(update(shared_log).where(this).values(open=progress[-1].open))
            yield from (replace(one, open=_ENDED_SEEN) for one in progress)


def _progress(row: Any, *, seen: int) -> Iterator[Entry]:
    """Yield what a turn has come to; `open` is what is left to be seen of it after that."""
    turn_id = TurnId(row.id)
    if seen == _NOTHING_SEEN and row.started_at is not None:
        at = row.started_at
        yield Entry(kind=EventKind.STARTED, at=at, turn_id=turn_id, open=_STARTED_SEEN)
    if row.state in FINAL:
        kind = EventKind(f"turn.{row.state}")
        yield Entry(kind=kind, at=row.finished_at, turn_id=turn_id, open=_ENDED_SEEN)
