"""Of all processes that would read for a reader one does: under a lease, and with a fence.

As of turns, the lease says when another one may look, and the fence who may write. A holder that
was frozen for longer than its lease finds the reader moved on, and moves nothing itself.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, Update, and_, case, exists, or_, select, update

from turnmill.store.nouns import events
from turnmill.store.nouns.events import EVERYTHING, Event, Page, Share
from turnmill.store.schema.event_tables import event_log, event_readers
from turnmill.store.schema.event_tables import events as rows
from turnmill.store.types import db_after, db_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A reader that is ours for a while."""

    name: str
    fence: int
    tries: int  #: that were made at what comes next, and came to nothing


def hold(conn: Connection, name: str, *, owner: str, lease: timedelta) -> Hold | None:
    """Take the reader, or return None while another one holds it or it is parked.

    One that is not there is added. A holder that was lost counts as a try at what came next: that
    may have been what lost it.
    """
    taken = _take(conn, name, owner=owner, lease=lease)
    there = select(event_readers.c.name).where(event_readers.c.name == name)
    if taken is None and conn.scalar(there) is None:
        events.add_reader(conn, name)
        taken = _take(conn, name, owner=owner, lease=lease)
    return taken


def _take(conn: Connection, name: str, *, owner: str, lease: timedelta) -> Hold | None:
    row = event_readers.c
    lost = and_(row.owner.is_not(None), row.owner != owner)
    taken = conn.execute(
        update(event_readers)
        .where(row.name == name, ~row.parked)
        .where(or_(row.free_at.is_(None), row.free_at <= db_now()))
        .values(
            owner=owner,
            fence=row.fence + 1,
            free_at=_after(lease),
            tries=row.tries + case((lost, 1), else_=0),
        )
        .returning(row.name, row.fence, row.tries)
    ).one_or_none()
    return None if taken is None else Hold(name=taken.name, fence=taken.fence, tries=taken.tries)


def waits(conn: Connection, hold: Hold) -> bool:
    """Tell whether there is anything to read, without a lock."""
    further = select(event_log.c.id).where(
        event_log.c.last_place
        > select(event_readers.c.place).where(event_readers.c.name == hold.name).scalar_subquery()
    )
    unplaced = select(rows.c.n).where(rows.c.place.is_(None))
    return bool(conn.scalar(select(or_(exists(further), exists(unplaced)))))


def read(
    conn: Connection,
    hold: Hold,
    *,
    limit: int,
    lease: timedelta,
    share: Share = EVERYTHING,
) -> Page | None:
    """Return what comes next, up to `limit`, and hold on; None when the reader is ours no more."""
    if not extend(conn, hold, lease=lease):
        return None
    return events.page(conn, events.place_of(conn, hold.name), share=share, limit=limit)


def extend(conn: Connection, hold: Hold, *, lease: timedelta) -> bool:
    """Hold on; False when the reader is ours no more."""
    return _changed(conn, _of(hold).values(free_at=_after(lease)))


def passed(conn: Connection, hold: Hold, event: Event, *, lease: timedelta) -> bool:
    """Note that this event and all before it are done with; False when the reader is not ours."""
    return _changed(conn, _past(hold, event).values(free_at=_after(lease)))


def failed(conn: Connection, hold: Hold, *, tries: int, again: timedelta) -> bool:
    """Give the reader back after so many tries that came to nothing: it rests for `again`."""
    values = {"tries": tries, "owner": None, "free_at": _after(again)}
    return _changed(conn, _of(hold).values(values))


def park(conn: Connection, hold: Hold, *, because: str) -> bool:
    """Tell the reader nothing any more until somebody releases it; its events are kept."""
    values = {"parked": True, "parked_because": because, "owner": None, "free_at": None}
    return _changed(conn, _of(hold).values(values))


def skip(conn: Connection, hold: Hold, place: int) -> bool:
    """Note that nothing up to there is for the reader; False when it is further, or not ours."""
    return _changed(conn, _of(hold).where(event_readers.c.place < place).values(place=place))


def give_back(conn: Connection, hold: Hold) -> None:
    """Let another process take the reader at once."""
    conn.execute(_of(hold).values(owner=None, free_at=None))


def free_all(conn: Connection) -> None:
    """Let every reader be taken at once: for a store of which no other process is left."""
    conn.execute(update(event_readers).values(owner=None, free_at=None))


def _of(hold: Hold) -> Update:
    return update(event_readers).where(
        event_readers.c.name == hold.name, event_readers.c.fence == hold.fence
    )


def _past(hold: Hold, event: Event) -> Update:
    mine = (event_readers.c.name == hold.name, event_readers.c.fence == hold.fence)
    return events.past(event).where(*mine)


def _after(span: timedelta) -> db_after:
    return db_after(span.total_seconds())


def _changed(conn: Connection, statement: Update) -> bool:
    return conn.execute(statement).rowcount == 1
