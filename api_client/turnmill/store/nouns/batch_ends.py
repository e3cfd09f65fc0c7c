"""Batches that have come to an end, and events of what becomes of them where somebody wants any."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, or_, select, update

from turnmill.domain.batches import BatchState
from turnmill.domain.ids import BatchId
from turnmill.domain.states import EventKind
from turnmill.store.nouns import batch_reserving
from turnmill.store.nouns.batch_counts import counts, is_open
from turnmill.store.rules.happenings import NOBODY
from turnmill.store.rules.tallies import recount
from turnmill.store.rules.wanted import is_wanted
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.tables import batches, turns
from turnmill.store.types import db_now

#: What is told of a batch that has ended, by the state that it has come to.
_OF_ENDS = {
    EventKind.BATCH_FINISHED: batches.c.state != BatchState.EXPIRED,
    EventKind.BATCH_EXPIRED: batches.c.state == BatchState.EXPIRED,
}


def is_untold(kind: EventKind) -> ColumnElement[bool]:
    """Return which batches have come to such an end, of which no event was written."""
    ended = batches.c.ended_at.is_not(None)
    found: ColumnElement[bool] = batches.c.told_at.is_(None) & ended & _OF_ENDS[kind]
    return found


def end_if_over(conn: Connection, batch_id: BatchId) -> BatchState | None:
    """Note that a batch has ended of which no line is left; None: it goes on.

    The caller's transaction holds its row. What workers of before have ended is counted now.
    """
    left = select(turns.c.id).where(is_open(batch_id)).limit(1)
    if conn.execute(left).first() is not None:
        return None
    found = counts(conn, batch_id)
    if found.staged:
        return None
    batch_reserving.release(conn, batch_id, None)  # of lines that went with their users
    if found.total is not None and found.accepted + found.gone != found.total:
        recount(conn, batch_id)
        found = counts(conn, batch_id)
    mine = update(batches).where(batches.c.id == batch_id)
    values = {"state": found.state, "paused_because": None, "ended_at": db_now()}
    conn.execute(mine.values(**values))
    return found.state


def tell_ends(conn: Connection, *, limit: int = 100) -> int:
    """Write an event of each batch that has ended, if anybody wants one; return how many.

    In the caller's transaction.
    """
    kinds = [kind for kind in _OF_ENDS if is_wanted(conn, kind)]
    if not kinds:
        return 0
    found = conn.execute(
        select(batches.c.id, batches.c.state)
        .where(or_(*map(is_untold, kinds)))
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    ).all()
    for row in found:
        expired = row.state == BatchState.EXPIRED
        kind = EventKind.BATCH_EXPIRED if expired else EventKind.BATCH_FINISHED
        write_event(conn, BatchId(row.id), kind, told_at=db_now())
    return len(found)


def write_event(conn: Connection, batch_id: BatchId, kind: EventKind, **values: Any) -> None:
    """Write an event of the batch, with its id for a session's and a number of the batch's own.

    If anybody wants it. The caller's transaction holds the batch's row.
    """
    if not is_wanted(conn, kind):
        return
    mine = update(batches).where(batches.c.id == batch_id)
    n = conn.scalars(
        mine.values(events=batches.c.events + 1, **values).returning(batches.c.events)
    ).one()
    row = {"session_id": batch_id, "n": n, "turn_id": NOBODY, "kind": kind.value}
    conn.execute(insert(events).values(**row))
