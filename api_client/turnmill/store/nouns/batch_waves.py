"""Lines of several messages: each is answered on the reply before it, or the line has failed."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import OnFailure, SessionStatus, TurnState
from turnmill.store.line.endings import move_turns
from turnmill.store.line.head import skipping_busy
from turnmill.store.nouns.batch_counts import is_open
from turnmill.store.records import Moved
from turnmill.store.schema.tables import IN_BATCH, sessions, turns
from turnmill.store.types import db_now

_NOTHING = Moved(0, [])
_FAILED = (TurnState.DEAD, TurnState.FAILED)
_EARLIER_TURNS = turns.alias("earlier")
_EARLIER = _EARLIER_TURNS.c


def fail_rest(conn: Connection, batch_id: BatchId, *, limit: int) -> Moved:
    """End turns as failed that stand behind one of their line that has.

    Their session was made for the line, and was paused by that: nothing else is in it. They have
    its code.
    """
    of_batch = (turns.c.batch_id == batch_id, turns.c.batch_id.is_not(None))
    several = select(turns.c.id).where(*of_batch, turns.c.batch_line.is_(None))
    if conn.execute(several.limit(1)).first() is None:
        return _NOTHING  # the rule, which is found at once
    failed = (_EARLIER.batch_id == batch_id, *_has_failed())
    found = (
        select(turns.c.id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .join(_EARLIER_TURNS, _comes_before())
        .where(*failed, is_open(batch_id), _waits(), sessions.c.status == SessionStatus.PAUSED)
        .limit(limit)
    )
    ids = set(conn.scalars(skipping_busy(found)))
    if not ids:
        return _NOTHING
    first = select(_EARLIER.error_code).where(_comes_before(), *_has_failed())
    code = first.order_by(_EARLIER.seq).limit(1).scalar_subquery()
    values = {
        "state": TurnState.FAILED,
        "error_code": func.coalesce(code, TurnState.FAILED.value),
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
    failed = turns.c.state.in_(_FAILED)
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
    """Return which turns nobody has begun: in line for a worker, or for a vendor's batch."""
    for_batch = and_(turns.c.state == TurnState.WAITING, turns.c.waits_for == IN_BATCH)
    parked = and_(for_batch, turns.c.native_ref == "")
    return or_(turns.c.state.in_((TurnState.QUEUED, TurnState.RETRYING)), parked)


def _has_failed() -> tuple[ColumnElement[bool], ...]:
    of_batch = _EARLIER.batch_id.is_not(None)
    return of_batch, _EARLIER.batch_line.is_(None), _EARLIER.state.in_(_FAILED)


def _comes_before() -> ColumnElement[bool]:
    """Return which turns come before a turn in its line, which has a session of its own."""
    same = and_(_EARLIER.session_id == turns.c.session_id, _EARLIER.batch_id == turns.c.batch_id)
    return and_(same, _EARLIER.seq < turns.c.seq)
