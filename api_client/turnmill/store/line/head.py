"""The line of a session: locking it, and keeping its head true after a move of its turns."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, select, update

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import (
    Lane,
    OnFailure,
    SessionStatus,
)
from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.records import Head
from turnmill.store.rules.heads import head_columns
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import db_asof


def lock_sessions(
    conn: Connection, session_ids: Collection[SessionId], *, wait: bool = True
) -> set[SessionId]:
    """Lock the sessions in the one order that everybody uses, and return those that are ours.

    Statements after this one see all that earlier holders committed. With `wait` a busy session
    is waited for, up to the connection's lock timeout (SessionBusy); without, it is left out.
    SQLite has no such locks: its transaction holds the write lock.
    """
    wanted = select(sessions.c.id).where(sessions.c.id.in_(list(session_ids)))
    ours = wanted.order_by(sessions.c.id).with_for_update(key_share=True, skip_locked=not wait)
    return {SessionId(one) for one in conn.scalars(ours)}


def lock_turns(conn: Connection, *which: ColumnElement[bool]) -> None:
    """Lock these turns in the order of their ids. The caller's transaction holds their sessions.

    Who reserves money for turns, or puts them into a vendor's batch, holds no session, and locks
    them so; a statement that moves several of them takes them as it finds them.
    """
    if Capability.ROW_LOCKS in capabilities_of(conn):
        mine = select(turns.c.id).where(*which).order_by(turns.c.id)
        conn.execute(mine.with_for_update(key_share=True))


def move_lines(conn: Connection, session_ids: Collection[SessionId]) -> list[Head]:
    """Bring the heads of these sessions up to date and return those that are due now.

    None of their turns became final, or is so no more. The caller's transaction holds the sessions'
    locks and has moved the turns in an earlier statement.
    """
    return _moved(conn, session_ids) if session_ids else []


def shorten_lines(conn: Connection, ended: Mapping[SessionId, int]) -> list[Head]:
    """Do the same where so many turns of each became final; none of some, perhaps."""
    heads: list[Head] = []
    for count, ids in _by_count(ended).items():
        heads += _moved(conn, ids, unfinished=sessions.c.unfinished - count)
    return heads


def lengthen_lines(conn: Connection, again: Mapping[SessionId, int]) -> list[Head]:
    """Do the same where so many failed turns of each were queued again: they have not failed."""
    heads: list[Head] = []
    for count, ids in _by_count(again).items():
        unfinished, failed = sessions.c.unfinished + count, sessions.c.turns_failed - count
        heads += _moved(conn, ids, unfinished=unfinished, turns_failed=failed)
    return heads


def _moved(
    conn: Connection, session_ids: Collection[SessionId], **counts: ColumnElement[int]
) -> list[Head]:
    is_due = and_(sessions.c.head_due_at <= db_asof(), sessions.c.status == SessionStatus.ACTIVE)
    rows = conn.execute(
        update(sessions)
        .where(sessions.c.id.in_(list(session_ids)))
        .values(**counts, **head_columns())
        .returning(sessions.c.id, sessions.c.head_turn_id, sessions.c.head_lane, is_due)
    )
    return due_heads(rows.all())


def note_failures(conn: Connection, failed: Mapping[SessionId, int]) -> list[SessionId]:
    """Count so many more failed turns in each session, and pause those that want that of one.

    Return those that were paused. Before `shorten_lines`, which then knows that a paused session
    has no head to announce. The caller's transaction holds the sessions.
    """
    pausing = conn.scalars(
        select(sessions.c.id).where(
            sessions.c.id.in_(failed),
            sessions.c.on_failure == OnFailure.PAUSE,
            sessions.c.status == SessionStatus.ACTIVE,
        )
    ).all()
    for count, ids in _by_count(failed).items():
        conn.execute(
            update(sessions)
            .where(sessions.c.id.in_(ids))
            .values(turns_failed=sessions.c.turns_failed + count, status=status_after_failure())
        )
    return [SessionId(one) for one in pausing]


def _by_count(counts: Mapping[SessionId, int]) -> Mapping[int, list[SessionId]]:
    found: defaultdict[int, list[SessionId]] = defaultdict(list)
    for session_id, count in counts.items():
        found[count].append(session_id)
    return found


def status_after_failure() -> Any:
    """Return the session's status after one of its turns failed or died, as an expression."""
    pauses = and_(
        sessions.c.on_failure == OnFailure.PAUSE, sessions.c.status == SessionStatus.ACTIVE
    )
    return case((pauses, SessionStatus.PAUSED.value), else_=sessions.c.status)


def skipping_busy(query: Select[Any]) -> Select[Any]:
    """Lock the sessions that a query over `sessions` finds, and leave out those that are busy.

    Nobody is waited for, so the order of the locks does not matter; and since the limit counts
    what was locked, one busy session with a long line hides nobody else's. The next statement
    sees all that earlier holders committed, and has to ask again what the query asked.
    """
    return query.with_for_update(of=sessions, key_share=True, skip_locked=True)


def due_heads(rows: Sequence[Any]) -> list[Head]:
    """Return the heads among rows of (session id, head turn id, lane, due)."""
    return [
        Head(turn_id=TurnId(turn_id), session_id=SessionId(session_id), lane=Lane(lane))
        for session_id, turn_id, lane, due in rows
        if turn_id is not None and due
    ]
