"""Reading what happened: each reader at its own pace, in each session's order, missing nothing.

Writers number events within their session and touch nothing that they share. Whoever reads first
gives those that are committed by then a place in one row of all. So a transaction that stays open
holds up the events that it wrote itself, and those of nobody else.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    Update,
    case,
    cast,
    delete,
    func,
    or_,
    select,
    update,
)

from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import STATES, TurnState
from turnmill.store.nouns.event_log import locked_log, place_new
from turnmill.store.nouns.subscribing import unsubscribe
from turnmill.store.rules.happenings import NOBODY
from turnmill.store.schema.event_tables import event_log, event_readers, events
from turnmill.store.schema.hook_tables import observed
from turnmill.store.schema.tables import turns
from turnmill.store.types import db_now, insert_into

_DIGITS = "0123456789abcdef"
_LOOKED_AT = 1000
#: What is said to a reader that has missed events.
GAP = "gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, or a gap: events that are gone before they were read."""

    place: int  #: among all events: go on after it
    kind: str  #: one of EventKind, or of what later versions add
    session_id: SessionId | None = None  #: or the batch, account or webhook; None in a gap
    turn_id: TurnId | None = None  #: None where it is of no turn
    n: int  #: the number within its session; in a gap, how many events were missed
    at: datetime | None = None  #: None in a gap
    budget_id: UUID | None = None  #: that it tells of
    share: float | None = None  #: of the budget's limit, that was spent
    state: TurnState | None = None  #: that the turn has come to; None where that says nothing

    @property
    def id(self) -> str:
        """What it is known by, however often it is told."""
        return f"{GAP}:{self.place}" if self.session_id is None else f"{self.session_id}:{self.n}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which events one reader is told of."""

    kinds: Collection[str] = ()  #: (): all
    named: str | None = None  #: only of sessions and batches that name this observer
    part: int = 0  #: of all sessions,
    parts: int = 1  #: divided into so many: a power of two up to 16


EVERYTHING = Share()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What was found, and how far all was looked at."""

    events: list[Event]
    upto: int  #: nothing else that is wanted has a place up to it


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReader:
    """How far somebody is for whom events are kept."""

    name: str
    parked: bool  #: it is told nothing; by hand: nothing is kept for it alone
    parked_because: str | None  #: what it did with the next event; None: by hand, or not parked
    lag: timedelta | None  #: since the oldest event that it has not passed; None: there is none
    place: int  #: of the last event that it has passed
    behind: int  #: events that have a place, and that it has not passed
    missed: int  #: that were pruned before it passed them, whether it was told yet or not
    missed_at: datetime | None
    tries: int  #: that were made at what comes next, and came to nothing
    skipped: int  #: that were given up after many tries


def add_reader(conn: Connection, name: str) -> None:
    """Have events kept for a reader from now on; it begins with the oldest that is there."""
    place = locked_log(conn).pruned_place
    statement = insert_into(conn, event_readers).values(name=name, place=place)
    conn.execute(statement.on_conflict_do_nothing())


def remove_reader(conn: Connection, name: str) -> None:
    """Keep nothing for this reader any more."""
    _reader(conn, name)
    conn.execute(delete(event_readers).where(event_readers.c.name == name))
    unsubscribe(conn, name)


def park_reader(conn: Connection, name: str, *, parked: bool = True) -> bool:
    """Keep nothing for this reader alone, or again: what it misses is a gap. False: it is so."""
    if _reader(conn, name).parked is parked:
        return False
    values: dict[str, Any] = {"parked": parked, "parked_because": None}
    if not parked:
        values |= {"tries": 0, "owner": None, "free_at": None}
    conn.execute(update(event_readers).where(event_readers.c.name == name).values(values))
    return True


def read(conn: Connection, name: str, *, limit: int = 500) -> list[Event]:
    """Return the next events, up to `limit`, and again until they were `passed`.

    Of one session they come in the order in which they happened, none is left out, and what has
    been missed is said by a first event of the kind `gap`. Commit soon: others read, too.
    """
    return page(conn, place_of(conn, name), limit=limit).events


def page(
    conn: Connection,
    after: int | None,
    *,
    session_id: SessionId | None = None,
    share: Share = EVERYTHING,
    limit: int,
) -> Page:
    """Return up to `limit` events from after a place on (None: from the oldest that is there).

    A gap comes first, whatever is asked for: nobody knows what was in it. See `read`.
    """
    log = locked_log(conn)
    last = log.last_place + place_new(conn, log, limit=limit)
    start = log.pruned_place if after is None else after
    found: list[Event] = []
    if start < log.pruned_place:
        found.append(Event(place=log.pruned_place, kind=GAP, n=log.pruned_place - start))
    wanted = select(events).where(events.c.place > max(start, log.pruned_place))
    if session_id is not None:
        wanted = wanted.where(events.c.session_id == session_id)
    wanted = wanted.where(*_of_share(share))
    rows = conn.execute(wanted.order_by(events.c.place).limit(limit)).all()
    found += [_event(row) for row in rows]
    upto = rows[-1].place if len(rows) == limit else last
    return Page(events=found, upto=max(upto, start))


def _of_share(share: Share) -> Iterator[ColumnElement[bool]]:
    if share.kinds:
        yield events.c.kind.in_(share.kinds)
    if share.parts > 1:
        yield _digit().in_([one for one in _DIGITS if int(one, 16) % share.parts == share.part])
    if share.named is not None:
        of_batch = select(turns.c.batch_id).where(turns.c.id == events.c.turn_id)
        whose = or_(
            observed.c.session_id == events.c.session_id,
            observed.c.session_id == of_batch.scalar_subquery(),
        )
        yield select(observed.c.observer).where(observed.c.observer == share.named, whose).exists()


def _digit() -> ColumnElement[str]:
    """Return the last digit of the session's id: they are alike in number."""
    as_text = cast(events.c.session_id, Text)
    return func.substr(as_text, func.length(as_text))


def place_of(conn: Connection, name: str) -> int:
    """Return the place up to which the reader has read. Raises InvalidInput where there is none."""
    place: int = _reader(conn, name).place
    return place


def passed(conn: Connection, name: str, event: Event) -> None:
    """Note that the reader is done with this event and all before it."""
    _reader(conn, name)
    conn.execute(past(event).where(event_readers.c.name == name))


def passed_up_to(conn: Connection, name: str, place: int) -> None:
    """Note that the reader wants nothing of what comes up to this place."""
    mine = update(event_readers).where(event_readers.c.name == name, event_readers.c.place < place)
    conn.execute(mine.values(place=place))


def past(event: Event) -> Update:
    """Return what moves readers past this event and all before it."""
    values: dict[str, Any] = {"place": event.place, "tries": 0}
    if event.kind == GAP:
        values |= {"missed": event_readers.c.missed + event.n, "missed_at": db_now()}
    return update(event_readers).where(event_readers.c.place < event.place).values(values)


def readers(conn: Connection) -> list[EventReader]:
    """Return all readers by name, and how far they are."""
    last = func.coalesce(select(event_log.c.last_place).scalar_subquery(), 0)
    pruned = func.coalesce(select(event_log.c.pruned_place).scalar_subquery(), 0)
    unread = pruned - event_readers.c.place
    missed = event_readers.c.missed + case((unread > 0, unread), else_=0)
    oldest = _oldest(conn)
    rows = conn.execute(
        select(
            event_readers.c.name,
            event_readers.c.parked,
            event_readers.c.parked_because,
            _next_at().label("next_at"),
            event_readers.c.place,
            (last - event_readers.c.place).label("behind"),
            missed.label("missed"),
            event_readers.c.missed_at,
            event_readers.c.tries,
            event_readers.c.skipped,
        ).order_by(event_readers.c.name)
    )
    named = [name for name in EventReader.__dataclass_fields__ if name != "lag"]
    return [
        EventReader(**{name: getattr(row, name) for name in named}, lag=_lag(row.next_at, oldest))
        for row in rows
    ]


def _next_at() -> Any:
    """Return when the next event for a reader happened, that has a place."""
    after = events.c.place > event_readers.c.place
    return select(events.c.at).where(after).order_by(events.c.place).limit(1).scalar_subquery()


def _oldest(conn: Connection) -> tuple[datetime, datetime | None]:
    """Return the time, and when the oldest event happened that nobody has looked at yet.

    Where they are many, of some of them: readers are then far behind in any case.
    """
    some = select(events.c.at).where(events.c.place.is_(None)).limit(_LOOKED_AT).subquery()
    row = conn.execute(select(db_now(), select(func.min(some.c.at)).scalar_subquery())).one()
    return row[0], row[1]


def _lag(next_at: datetime | None, of: tuple[datetime, datetime | None]) -> timedelta | None:
    now, unplaced = of
    since = next_at or unplaced
    return None if since is None else max(now - since, timedelta(0))


def _reader(conn: Connection, name: str) -> Any:
    found = conn.execute(select(event_readers).where(event_readers.c.name == name)).one_or_none()
    if found is None:
        raise InvalidInput(
            "there is no such reader of events", hint="add it, or see `turnmill events readers`"
        )
    return found


def _event(row: Any) -> Event:
    return Event(
        place=row.place,
        kind=row.kind,
        session_id=SessionId(row.session_id),
        turn_id=None if row.turn_id == NOBODY else TurnId(row.turn_id),
        n=row.n,
        at=row.at,
        budget_id=row.budget_id,
        share=row.share,
        state=STATES.get(row.kind),
    )
