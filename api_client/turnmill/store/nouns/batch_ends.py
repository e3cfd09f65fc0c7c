"""Batches that have come to their end, which is an event where somebody wants to hear of it."""

from sqlalchemy import ColumnElement, Connection, and_, insert, or_, select, update

from turnmill.domain.states import UNFINISHED, EventKind
from turnmill.store.rules.happenings import NOBODY
from turnmill.store.rules.wanted import is_wanted
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.tables import batches, turns
from turnmill.store.types import db_now


def is_over() -> ColumnElement[bool]:
    """Return which batches take no further line, and have no turn that is unfinished."""
    closed = or_(batches.c.total.is_not(None), batches.c.cancelled_at.is_not(None))
    unfinished = select(turns.c.id).where(
        turns.c.batch_id == batches.c.id, turns.c.state.in_(UNFINISHED)
    )
    return and_(closed, ~unfinished.correlate(batches).exists())


def tell_finished(conn: Connection, *, limit: int = 100) -> int:
    """Write an event of each batch that has finished, if anybody wants one; return how many.

    It has the batch's id for a session's, and a number of the batch's own. In the caller's
    transaction.
    """
    if not is_wanted(conn, EventKind.BATCH_FINISHED):
        return 0
    found = conn.execute(
        select(batches.c.id, batches.c.events)
        .where(batches.c.told_at.is_(None), is_over())
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    ).all()
    for row in found:
        n = row.events + 1
        told = {"session_id": row.id, "n": n, "turn_id": NOBODY}
        conn.execute(insert(events).values(**told, kind=EventKind.BATCH_FINISHED.value))
        mine = update(batches).where(batches.c.id == row.id)
        conn.execute(mine.values(told_at=db_now(), events=n))
    return len(found)
