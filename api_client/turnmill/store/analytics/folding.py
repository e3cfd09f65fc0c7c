"""Folding: figures are brought along with events, each of which counts exactly once.

Whoever folds holds the one row that says how far events are in, and moves it in the transaction
that adds what they tell. A turn is added with the event of its ending. Whatever changes an ending
that may be in already marks its slot instead; marked slots are added up again, from the rows that
there are and from what is kept of those that are gone. Both come to the same: a slot holds the
turns that ended in it and whose last ending is no later than the place of that one row.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Select,
    bindparam,
    delete,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy import true as always

from turnmill.domain.analytics.windows import SLOT, day_of
from turnmill.domain.states import ENDINGS, FINAL, TurnState, sources_of
from turnmill.new_ids import new_id
from turnmill.store.analytics.adding import UNTIL, adding
from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.rules.buckets import numbers, slot_of
from turnmill.store.rules.figure_lines import Key, Line, capped, counted, joined, row_of
from turnmill.store.rules.figures import added_up, is_ending, keep_lines, lines_of
from turnmill.store.schema.event_tables import event_log, events
from turnmill.store.schema.rollup_tables import (
    FIGURES,
    LATENCIES,
    SAID,
    buckets_of,
    rollup_days,
    rollup_marks,
    rollup_state,
    rollups,
    rollups_gone,
)
from turnmill.store.schema.tables import turns
from turnmill.store.types import Timestamp, db_now, insert_into

#: Events, and marked slots, that are folded in one transaction.
PAGE = 10_000
SLOTS = 24
#: An event may have been committed so long after its time.
_LATE = timedelta(days=1)
_DAY = timedelta(days=1)
_NOWHERE = -1  #: the place of who has not begun
_AT_ONCE = 1_000
_ENDED = [kind.value for kind in ENDINGS]
_RETRIED = sources_of(TurnState.QUEUED) & FINAL
_MAY_RUN_AGAIN = [kind.value for kind, state in ENDINGS.items() if state in _RETRIED]


def fold(conn: Connection, *, tag: str | None = None, limit: int = PAGE, slots: int = SLOTS) -> int:
    """Fold in the next events that have a place, or else marked slots; 0 when all is in.

    In the caller's transaction; two at once take turns. `tag` is the key of sessions' metadata that
    figures are told apart by from now on (None: as before).
    """
    state = _held(conn)
    if tag is not None and tag != state.tag:
        return _retag(conn, tag)
    began = conn.scalars(select(db_now())).one()
    done = _fold_events(conn, state, limit)
    if done == 0:
        done = _fold_marks(conn, state, slots) or _close_day(conn, state, began)
    if done == 0 and not _is_more(conn):
        conn.execute(update(rollup_state).values(folded_at=db_now(), folded_until=began))
    return done


def recomputed(conn: Connection, slot: datetime) -> list[Line]:
    """Return the lines of a slot as they follow from rows, and from what is kept of those gone.

    They are what stands, at any moment, where nothing is marked.
    """
    place, tag = conn.execute(select(rollup_state.c.place, rollup_state.c.tag)).one()
    return _of_slot(conn, slot, place=place, tag=tag)


def _held(conn: Connection) -> Any:
    found = select(rollup_state).with_for_update()
    row = conn.execute(found).one_or_none()
    if row is None:
        first = insert_into(conn, rollup_state).values(id=1, place=_NOWHERE, tag="")
        conn.execute(first.on_conflict_do_nothing())
        row = conn.execute(found).one()
    if row.place == _NOWHERE:
        _begin(conn, row)
        row = conn.execute(found).one()
    return row


def _begin(conn: Connection, state: Any) -> None:
    """Begin with what there is: all slots are added up, and events that are placed are in."""
    place = func.coalesce(select(event_log.c.last_place).scalar_subquery(), 0)
    conn.execute(update(rollup_state).values(place=place))
    _mark_all(conn, state.first_slot)


def _mark_all(conn: Connection, since: datetime | None = None) -> None:
    """Mark the slots of all turns that there are, and of those that are gone."""
    ended = slot_of(turns.c.finished_at)
    later = always() if since is None else turns.c.finished_at >= since
    gone = always() if since is None else rollups_gone.c.slot >= since
    rows = union_all(
        select(ended.label("slot")).where(turns.c.finished_at.is_not(None), later),
        select(rollups_gone.c.slot).where(gone),
    ).subquery()
    slots = conn.scalars(select(rows.c.slot).distinct()).all()
    for start in range(0, len(slots), _AT_ONCE):
        some = [{"id": new_id(), "slot": one} for one in slots[start : start + _AT_ONCE]]
        conn.execute(insert(rollup_marks), some)


def _retag(conn: Connection, tag: str) -> int:
    conn.execute(update(rollup_state).values(tag=tag))
    _mark_all(conn)
    return 1


def _fold_events(conn: Connection, state: Any, limit: int) -> int:
    log = conn.execute(select(event_log)).one_or_none()
    if log is None:
        return 0
    place = state.place
    if place < log.pruned_place:  # events are gone that nobody has folded in
        since = state.folded_until
        _mark_all(conn, None if since is None else since - _LATE)
        place = log.pruned_place
    upto = min(log.last_place, place + limit)
    if upto == state.place:
        return 0
    _add(conn, state, place, upto)
    conn.execute(update(rollup_state).values(place=upto))
    return int(upto - state.place)


def _ended_between() -> Select[Any]:
    """Select the turns whose last ending is one of the events in a place behind `after`, to `upto`.

    Of one that ran again, the ending may be yet to come that its row tells of already.
    """
    place, upto = (bindparam(name, type_=BigInteger) for name in ("after", "upto"))
    later = events.alias("later")
    to_come = select(literal(1)).where(
        later.c.session_id == events.c.session_id,
        later.c.n > events.c.n,
        later.c.turn_id == events.c.turn_id,
        later.c.kind.in_(_ENDED),
        or_(later.c.place.is_(None), later.c.place > upto),
    )
    page = select(events.c.turn_id).where(events.c.place > place, events.c.place <= upto)
    is_last = or_(events.c.kind.not_in(_MAY_RUN_AGAIN), ~to_come.exists())
    return page.where(is_ending(), is_last).distinct()


def _to_come(place: Any) -> Any:
    """Select the turns that have an ending which is not folded in."""
    later = or_(events.c.place.is_(None), events.c.place > place)
    return select(events.c.turn_id).where(later, is_ending())


def _fold_marks(conn: Connection, state: Any, limit: int) -> int:
    """Add marked slots up again, from what there is after each mark was seen."""
    slots = conn.scalars(
        select(rollup_marks.c.slot).distinct().order_by(rollup_marks.c.slot).limit(limit)
    ).all()
    if not slots:
        return 0
    marks = conn.scalars(select(rollup_marks.c.id).where(rollup_marks.c.slot.in_(slots))).all()
    for slot in slots:
        _join_gone(conn, slot)
    reached = [one for one in slots if state.first_slot is None or one >= state.first_slot]
    for slot in reached:
        _write_slot(conn, slot, _of_slot(conn, slot, place=state.place, tag=state.tag))
    _write_days(conn, state, {day_of(one) for one in reached})
    for start in range(0, len(marks), _AT_ONCE):
        some = marks[start : start + _AT_ONCE]
        conn.execute(delete(rollup_marks).where(rollup_marks.c.id.in_(some)))
    return len(slots)


def _join_gone(conn: Connection, slot: datetime) -> None:
    """Make one row for each line of what is kept of rows that are gone: many are written alike."""
    found = conn.execute(select(rollups_gone).where(rollups_gone.c.slot == slot)).mappings().all()
    lines = joined(counted(row) for row in found)
    if len(lines) == len(found):
        return
    ids = [row["id"] for row in found]
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        conn.execute(delete(rollups_gone).where(rollups_gone.c.id.in_(some)))
    keep_lines(conn, lines)


def _of_slot(conn: Connection, slot: datetime, *, place: int, tag: str) -> list[Line]:
    """Return what a slot comes to; one statement, for a turn is in one part or the other."""
    said = {"begin": slot, "end": slot + SLOT, "upto": place}
    found = conn.execute(_summing(tag), said).mappings()
    lines = joined(counted(row) for row in found)
    return capped(lines, _known(conn, [slot]))


@lru_cache(maxsize=16)
def _summing(tag: str) -> Any:
    """Return the statement of what a slot comes to: to word it takes longer than to do it."""
    begin, end = (bindparam(name, type_=turns.c.finished_at.type) for name in ("begin", "end"))
    ended = lines_of(
        turns.c.finished_at >= begin,
        turns.c.finished_at < end,
        turns.c.id.not_in(_to_come(bindparam("upto", type_=BigInteger))),
        tag=tag,
    )
    there = added_up(ended).subquery()
    counts = (null().label(name) for _, name in map(buckets_of, LATENCIES))
    names = [*Key._fields, *FIGURES]
    buckets = [name for name, _ in map(buckets_of, LATENCIES)]
    kept = [name for _, name in map(buckets_of, LATENCIES)]
    of_rows = select(*(there.c[name] for name in (*names, *buckets)), *counts)
    of_gone = select(
        *(rollups_gone.c[name] for name in names),
        *(numbers(rollups_gone.c[name]) for name in (*buckets, *kept)),
    ).where(rollups_gone.c.slot == begin)
    return union_all(of_rows, of_gone)


def _write_slot(conn: Connection, slot: datetime, lines: Sequence[Line]) -> None:
    conn.execute(delete(rollups).where(rollups.c.slot == slot))
    if lines:
        conn.execute(insert(rollups), [row_of(one) for one in lines])


def _add(conn: Connection, state: Any, place: int, upto: int) -> None:
    """Add what came to an end with these events: to slots, and to days that are over already."""
    if Capability.LISTS in capabilities_of(conn):
        said = {"after": place, "upto": upto, UNTIL: state.days_until}
        conn.execute(_adding(state.tag, to_days=state.days_until is not None), said)
    else:
        found = conn.execute(_ended_here(state.tag), {"after": place, "upto": upto}).mappings()
        _add_here(conn, state, joined(counted(row) for row in found))


@lru_cache(maxsize=16)
def _ended_here(tag: str) -> Any:
    """Return the statement of what came to an end with some events, for a store without lists."""
    return added_up(lines_of(turns.c.id.in_(_ended_between()), tag=tag))


@lru_cache(maxsize=16)
def _adding(tag: str, *, to_days: bool) -> Any:
    """Return the statement that adds: to word it takes longer than what else is done here."""
    lines = lines_of(one_by_one=_ended_between(), tag=tag)
    return adding(lines, to_days=to_days, tagged=bool(tag))


def _add_here(conn: Connection, state: Any, lines: Sequence[Line]) -> None:
    slots = {one.key.slot for one in lines}
    lines = capped(lines, _known(conn, slots))
    _add_to(conn, rollups, lines)
    until = state.days_until
    if until is not None:
        _add_to(conn, rollup_days, _by_day(one for one in lines if one.key.slot < until))


def _known(conn: Connection, slots: Collection[datetime]) -> dict[datetime, set[str]]:
    tags: defaultdict[datetime, set[str]] = defaultdict(set)
    found = select(rollups.c.slot, rollups.c.tag).where(rollups.c.slot.in_(slots)).distinct()
    for slot, tag in conn.execute(found):
        tags[slot].add(tag)
    return tags


def _add_to(conn: Connection, table: Any, lines: Sequence[Line]) -> None:
    if not lines:
        return
    there = _stored(conn, table, {one.key.slot for one in lines})
    keys = {one.key for one in lines}
    whole = joined([*(one for one in there if one.key in keys), *lines])
    statement = insert_into(conn, table)
    values = {name: statement.excluded[name] for name in SAID}
    conn.execute(
        statement.on_conflict_do_update(index_elements=list(Key._fields), set_=values),
        [row_of(one) for one in whole],
    )


def _stored(conn: Connection, table: Any, slots: Collection[datetime]) -> list[Line]:
    rows = conn.execute(select(table).where(table.c.slot.in_(slots))).mappings()
    return [counted(row) for row in rows]


def _by_day(lines: Iterable[Line]) -> list[Line]:
    return joined(
        Line(one.key._replace(slot=day_of(one.key.slot)), one.counts, one.dollars, one.sketches)
        for one in lines
    )


def _write_days(conn: Connection, state: Any, days: Collection[datetime]) -> None:
    """Make days that are over anew, of their slots."""
    for day in sorted(days):
        if state.days_until is not None and day < state.days_until:
            _write_day(conn, day)


def _write_day(conn: Connection, day: datetime) -> None:
    rows = select(rollups).where(rollups.c.slot >= day, rollups.c.slot < day + _DAY)
    lines = _by_day(counted(row) for row in conn.execute(rows).mappings())
    conn.execute(delete(rollup_days).where(rollup_days.c.slot == day))
    if lines:
        conn.execute(insert(rollup_days), [row_of(one) for one in lines])


def _close_day(conn: Connection, state: Any, now: datetime) -> int:
    """Make the day that comes after those that are made, once it is over; 0 where none is."""
    until = state.days_until
    if until is None:
        first = conn.scalar(select(func.min(rollups.c.slot, type_=Timestamp)))
        until = day_of(now if first is None else min(first, now))
    elif until < day_of(now):
        _write_day(conn, until)
        until += _DAY
    if until == state.days_until:
        return 0
    conn.execute(update(rollup_state).values(days_until=until))
    return 1


def _is_more(conn: Connection) -> bool:
    """Tell whether events have no place yet."""
    return (
        conn.execute(select(literal(1)).where(events.c.place.is_(None)).limit(1)).first()
        is not None
    )
