"""The log of what happened: places in one row of all, and what goes when all have read it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    delete,
    func,
    or_,
    select,
    true,
    tuple_,
    update,
)

from turnmill.store.schema.event_tables import event_log, event_readers, events
from turnmill.store.schema.rollup_tables import rollup_state
from turnmill.store.types import db_now, insert_into

#: A reader that is further behind misses the oldest: what is kept for readers has a bound.
MOST_KEPT = 1_000_000


def prune(conn: Connection, *, limit: int = 50_000, most_kept: int = MOST_KEPT) -> int:
    """Remove up to `limit` events that all readers but parked ones have passed; return how many.

    No more than `most_kept` are kept, whoever has not read them.
    """
    log = locked_log(conn)
    slowest = _slowest(conn)
    if slowest is not None:
        place_new(conn, log, limit=limit)
        log = locked_log(conn)
    kept_from = log.last_place if slowest is None else slowest
    upto = min(max(kept_from, log.last_place - most_kept), log.pruned_place + limit)
    gone = (
        conn.execute(delete(events).where(events.c.place <= upto).returning(events.c.at))
        .scalars()
        .all()
    )
    _note_pruned(conn, upto, gone)
    if slowest is not None or upto < log.last_place:
        return len(gone)
    return len(gone) + _prune_unplaced(conn, upto, limit=limit - len(gone))


def forget_passed(conn: Connection, sessions: Any, *, limit: int = 5_000) -> int:
    """Remove up to `limit` events of sessions that are gone, as far as readers have passed them."""
    slowest = _slowest(conn)
    passed = true() if slowest is None else events.c.place <= slowest
    some = select(events.c.session_id, events.c.n).where(events.c.session_id.in_(sessions), passed)
    gone = delete(events).where(tuple_(events.c.session_id, events.c.n).in_(some.limit(limit)))
    return conn.execute(gone).rowcount


def give_places(conn: Connection, *, limit: int = 10_000) -> int:
    """Give places to up to `limit` events that are committed and have none; return how many."""
    if conn.execute(select(events.c.n).where(events.c.place.is_(None)).limit(1)).first() is None:
        return 0
    return place_new(conn, locked_log(conn), limit=limit)


def locked_log(conn: Connection) -> Any:
    """Return the one row that says which places were given, ours until this transaction ends."""
    found = select(event_log).with_for_update()
    row = conn.execute(found).one_or_none()
    if row is None:
        row_of_all = insert_into(conn, event_log).values(id=1, complete_since=db_now())
        conn.execute(row_of_all.on_conflict_do_nothing())
        row = conn.execute(found).one()
    return row


def place_new(conn: Connection, log: Any, *, limit: int) -> int:
    """Give places to up to `limit` events that are committed and have none; return how many.

    Of a session they are a beginning of those that have none: whoever writes one holds the session
    until it is committed.
    """
    oldest = _unplaced().limit(limit).subquery()
    row = func.row_number().over(order_by=(oldest.c.session_id, oldest.c.n))
    placed = select(oldest, (row + log.last_place).label("place")).subquery()
    given = conn.execute(
        update(events)
        .where(events.c.session_id == placed.c.session_id, events.c.n == placed.c.n)
        .values(place=placed.c.place)
    ).rowcount
    if given:
        conn.execute(update(event_log).values(last_place=log.last_place + given))
    return given


def _unplaced() -> Any:
    return (
        select(events.c.session_id, events.c.n)
        .where(events.c.place.is_(None))
        .order_by(events.c.session_id, events.c.n)
    )


def _slowest(conn: Connection) -> int | None:
    """Return the place up to which all have read, figures included; None: nobody reads."""
    of_readers = select(func.min(event_readers.c.place)).where(_is_kept_for())
    places = [conn.scalar(of_readers), conn.scalar(select(rollup_state.c.place))]
    return min((one for one in places if one is not None), default=None)


def _is_kept_for() -> ColumnElement[bool]:
    """Return which readers events are kept for: not those that somebody has parked."""
    return or_(~event_readers.c.parked, event_readers.c.parked_because.is_not(None))


def _prune_unplaced(conn: Connection, last_place: int, *, limit: int) -> int:
    """Remove what nobody has looked at; a reader that is parked finds as many places gone."""
    oldest = _unplaced().limit(limit)
    gone = (
        conn.execute(
            delete(events)
            .where(tuple_(events.c.session_id, events.c.n).in_(oldest))
            .returning(events.c.at)
        )
        .scalars()
        .all()
    )
    place = last_place + len(gone)
    conn.execute(update(event_log).values(last_place=place))
    _note_pruned(conn, place, gone)
    return len(gone)


def _note_pruned(conn: Connection, place: int, gone: Sequence[datetime]) -> None:
    if gone:
        until = max(gone)
        later = or_(event_log.c.pruned_until.is_(None), event_log.c.pruned_until < until)
        conn.execute(update(event_log).values(pruned_place=place))
        conn.execute(update(event_log).where(later).values(pruned_until=until))
