"""What is due: the dispatcher's look at the heads of all lines."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, select, text

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, SessionStatus, TurnState
from turnmill.store.engine import engine_of
from turnmill.store.kept import is_due
from turnmill.store.line.charges import to_be_tended
from turnmill.store.line.endings import end_turns
from turnmill.store.line.head import lock_sessions, skipping_busy
from turnmill.store.line.removing import remove_sessions
from turnmill.store.line.unfed import unfed
from turnmill.store.records import Head, Moved, Waits
from turnmill.store.schema.batch_tables import to_be_tended as to_be_tended_batches
from turnmill.store.schema.erasure_tables import holds
from turnmill.store.schema.house_tables import announcements, wishes
from turnmill.store.schema.schedule_tables import schedules
from turnmill.store.schema.tables import EXPIRING_SQL, batches, sessions, turns
from turnmill.store.types import db_asof


class Overdue(NamedTuple):
    """Whether there is anything to be done about what has had its time."""

    lost: bool
    expired: bool
    deleted: bool
    kept: bool  #: by a vendor, though nobody needs it any more
    wished: bool  #: something, by somebody who may only look
    budgets: bool  #: there is something to tell of one, or one was changed
    scheduled: bool  #: something is to be said that was planned for a moment
    batches: bool  #: there are some that have begun, and have not ended
    unfed: bool  #: turns are to be made of lines of a batch


def overdue(conn: Connection) -> Overdue:
    """Look, in one round trip, for what is rarely there: mostly empty indexes, and budgets."""
    lost = select(turns.c.id).where(
        turns.c.state == TurnState.RUNNING, turns.c.lease_until < db_asof()
    )
    expired = select(turns.c.id).where(*_expired())
    deleted = select(sessions.c.id).where(sessions.c.status == SessionStatus.DELETED)
    wished = select(wishes.c.turn_id)
    scheduled = select(schedules.c.id).where(
        schedules.c.next_at.is_not(None), schedules.c.next_at <= db_asof()
    )
    row = conn.execute(
        select(
            lost.exists(),
            expired.exists(),
            deleted.exists(),
            is_due(),
            wished.exists(),
            to_be_tended(),
            scheduled.exists(),
            select(batches.c.id).where(to_be_tended_batches()).exists(),
            unfed().exists(),
        )
    ).one()
    return Overdue(*map(bool, row))


def announce_due(
    conn: Connection,
    lane: Lane,
    *,
    providers: Collection[str],
    limit: int,
    hints: int,
    waits: Waits,
    drained: Waits,
    among: int = 1000,
) -> list[Head]:
    """Choose up to `limit` due heads to publish, oldest first, and note that they were announced.

    `hints` is how many wait in the queue. `waits` says which heads are left alone, and `drained`
    says it where no hints wait, or fewer than were given to the `among` oldest due heads: some were
    lost. A note that outlives a lost hint costs one `quiet`.
    """
    rows = engine_of(conn).announce_due(
        conn,
        lane,
        providers=providers,
        limit=limit,
        hints=hints,
        waits=waits,
        drained=drained,
        among=among,
    )
    return [
        Head(turn_id=TurnId(turn_id), session_id=SessionId(session_id), lane=lane)
        for session_id, turn_id in rows
    ]


def note_announced(conn: Connection, turn_ids: Sequence[TurnId]) -> list[Head]:
    """Return those of the heads, due now, that this caller is to publish and nobody else."""
    mine = engine_of(conn).note_announced(conn, turn_ids)
    rows = conn.execute(
        select(sessions.c.id, sessions.c.head_turn_id, sessions.c.head_lane).where(
            sessions.c.id.in_(mine), sessions.c.head_turn_id.is_not(None)
        )
    )
    return [
        Head(turn_id=TurnId(turn_id), session_id=SessionId(session_id), lane=Lane(lane))
        for session_id, turn_id, lane in rows
    ]


def forget_announced(conn: Connection, heads: Sequence[Head]) -> None:
    """Take back the notes of heads that could not be published after all."""
    conn.execute(
        delete(announcements).where(
            announcements.c.session_id.in_([head.session_id for head in heads])
        )
    )


def count_due(conn: Connection, lane: Lane, *, providers: Collection[str], limit: int) -> int:
    """Count the due heads of a lane, up to `limit`."""
    return engine_of(conn).count_due(conn, lane, providers=providers, limit=limit)


def expire_overdue(conn: Connection, *, limit: int = 500) -> Moved:
    """End up to `limit` queued and retrying turns whose `expires_at` has passed."""
    condition = _expired()
    query = (
        select(turns.c.id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(*condition)
        .order_by(turns.c.expires_at)
        .limit(limit)
    )
    found = conn.scalars(skipping_busy(query)).all()
    if not found:
        return Moved(0, [])
    return end_turns(conn, TurnState.EXPIRED, turns.c.id.in_(found), *condition)


def _expired() -> tuple[Any, ...]:
    return (
        text(EXPIRING_SQL),
        turns.c.expires_at <= db_asof(),
    )


def purge_deleted(conn: Connection, *, limit: int = 100) -> int:
    """Remove the rows of deleted sessions in which nothing runs, of nobody on hold; how many."""
    running = select(turns.c.id).where(
        turns.c.session_id == sessions.c.id, turns.c.state == TurnState.RUNNING
    )
    held = select(holds.c.user_id).where(holds.c.user_id == sessions.c.user_id)
    is_deleted = sessions.c.status == SessionStatus.DELETED
    condition = (is_deleted, ~running.exists(), ~held.exists())
    ids = conn.scalars(select(sessions.c.id).where(*condition).limit(limit)).all()
    mine = lock_sessions(conn, [SessionId(one) for one in ids], wait=False) if ids else set()
    # Asked again under the locks.
    still = conn.scalars(select(sessions.c.id).where(sessions.c.id.in_(mine), *condition))
    return remove_sessions(conn, [SessionId(one) for one in still])
