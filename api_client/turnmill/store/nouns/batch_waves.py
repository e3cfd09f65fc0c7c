"""Lines of several messages: each is answered on the reply before it, or the line has failed."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, func, select, update

from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import FINAL, OnFailure, SessionStatus, TurnState
from turnmill.store.line.endings import move_turns
from turnmill.store.line.head import skipping_busy
from turnmill.store.nouns.batch_counts import is_open
from turnmill.store.records import Moved
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import db_now

_NOTHING = Moved(0, [])
_WITHOUT_REPLY = sorted(FINAL - {TurnState.SUCCEEDED})
_EARLIER = turns.alias("earlier").c


def fail_rest(conn: Connection, batch_id: BatchId, *, limit: int) -> Moved:
    """End turns as failed that stand behind one of their line that has no reply.

    Their session was made for the line, and was paused by that: nothing else is in it. They have
    its code.
    """
    found = (
        select(turns.c.id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(
            is_open(batch_id), _waits(), sessions.c.status == SessionStatus.PAUSED, _has_failed()
        )
        .limit(limit)
    )
    ids = conn.scalars(skipping_busy(found)).all()
    if not ids:
        return _NOTHING
    first = (
        select(_EARLIER.error_code)
        .where(*_before(), _EARLIER.state.in_(_WITHOUT_REPLY))
        .order_by(_EARLIER.seq)
        .limit(1)
    )
    values = {
        "state": TurnState.FAILED,
        "error_code": func.coalesce(first.scalar_subquery(), TurnState.FAILED.value),
        "finished_at": db_now(),
    }
    _, moved = move_turns(conn, values, turns.c.id.in_(ids), _waits())
    return moved


def failed_before(
    conn: Connection, batch_id: BatchId, session_ids: Collection[SessionId]
) -> list[TurnId]:
    """Return the turns of lines, but for their last ones, that have failed in these sessions.

    Their sessions go on: a turn of theirs is about to run again. The caller's transaction holds
    the locks of these.
    """
    mine = (turns.c.batch_id == batch_id, turns.c.session_id.in_(session_ids))
    failed = turns.c.state.in_((TurnState.DEAD, TurnState.FAILED))
    rows = conn.execute(
        select(turns.c.id, turns.c.session_id)
        .where(*mine, turns.c.batch_line.is_(None), failed)
        .order_by(turns.c.seq)
    ).all()
    conn.execute(
        update(sessions)
        .where(sessions.c.id.in_({row.session_id for row in rows}))
        .where(sessions.c.status == SessionStatus.PAUSED, sessions.c.on_failure == OnFailure.PAUSE)
        .values(status=SessionStatus.ACTIVE)
    )
    return [TurnId(row.id) for row in rows]


def _waits() -> ColumnElement[bool]:
    return turns.c.state.in_((TurnState.QUEUED, TurnState.RETRYING))


def _has_failed() -> ColumnElement[bool]:
    earlier = select(_EARLIER.id).where(*_before(), _EARLIER.state.in_(_WITHOUT_REPLY))
    return earlier.exists()


def _before() -> tuple[ColumnElement[bool], ...]:
    """Return which turns come before a turn in its line, which has a session of its own."""
    same = _EARLIER.session_id == turns.c.session_id
    return same, _EARLIER.batch_id == turns.c.batch_id, _EARLIER.seq < turns.c.seq
