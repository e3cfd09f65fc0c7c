"""Alerts as rows: which are open, what a look has changed, and the events that tell of it."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, case, delete, func, insert, or_, select, update

from turnmill.domain.analytics.alert_bounds import Rule
from turnmill.domain.analytics.alert_moves import (
    REST,
    Closes,
    Key,
    Move,
    OpenAlert,
    Opens,
    Stays,
    moves,
)
from turnmill.domain.analytics.alerting import Held, Judged
from turnmill.domain.states import EventKind
from turnmill.new_ids import new_id
from turnmill.store.rules.happenings import NOBODY
from turnmill.store.schema.alert_tables import alerts
from turnmill.store.schema.event_tables import events
from turnmill.store.types import Timestamp, db_after, db_now, insert_into

#: The numbers of the two events of an alert.
_FIRST, _LAST = 1, 2
#: Versions to come have rules of their own: of these their workers tell.
_KNOWN = alerts.c.rule.in_([one.value for one in Rule])


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A figure that has left its bounds."""

    id: UUID  #: `session_id` of its events
    rule: Rule
    subject: str  #: provider or provider/model, a lane, or a budget's id; "": all there is
    value: (
        float  #: at the last look; of queues and accounts seconds, of costs dollars, else a share
    )
    worst: float
    usual: float | None  #: when it opened; of a budget, its limit; None: unknown, or there is none
    bound: float  #: that it was beyond
    opened_at: datetime
    seen_at: datetime  #: the last look
    closed_at: datetime | None  #: None: it is open


def find(
    conn: Connection, *, since: datetime | None = None, until: datetime | None = None, limit: int
) -> list[Alert]:
    """Return up to `limit` alerts, those that are open and the latest first.

    Those that are open, and with `since` those that were open then or later, up to `until`.
    """
    is_open = alerts.c.closed_at.is_(None)
    wanted = is_open if since is None else or_(is_open, alerts.c.closed_at >= since)
    query = select(alerts).where(wanted, _KNOWN)
    if until is not None:
        query = query.where(alerts.c.opened_at < until)
    rows = conn.execute(
        query.order_by(is_open.desc(), alerts.c.opened_at.desc(), alerts.c.id).limit(limit)
    )
    return [
        Alert(
            **{name: row._mapping[name] for name in Alert.__dataclass_fields__ if name != "rule"},
            rule=Rule(row.rule),
        )
        for row in rows
    ]


def open_alerts(conn: Connection) -> dict[Key, Held]:
    """Return which are open: they are judged however many others are worse off by now.

    Each with what it is held against.
    """
    c = alerts.c
    named = select(c.rule, c.subject, c.usual, c.bound, c.opened_at)
    rows = conn.execute(named.where(c.closed_at.is_(None), _KNOWN))
    return {
        (Rule(row.rule), row.subject): Held(
            usual=row.usual, bound=row.bound, opened_at=row.opened_at
        )
        for row in rows
    }


def look(
    conn: Connection, judged: Iterable[Judged], *, blind: Collection[Rule] = ()
) -> tuple[int, int]:
    """Open and close what is to be; return how many of each. The caller's transaction.

    By the rules in `blind` nothing could be judged. Of looks at the same time, one opens an alert,
    and one closes it.
    """
    at = conn.scalars(select(db_now())).one()
    opened = closed = 0
    for move in moves(judged, _open(conn), closed=_closed(conn), at=at, blind=blind):
        has_opened, has_closed = _do(conn, move)
        opened, closed = opened + has_opened, closed + has_closed
    return opened, closed


def _open(conn: Connection) -> Sequence[OpenAlert]:
    unfinished = select(alerts).where(alerts.c.closed_at.is_(None), _KNOWN)
    rows = conn.execute(unfinished.with_for_update())
    return [
        OpenAlert(
            id=row.id,
            rule=Rule(row.rule),
            subject=row.subject,
            value=row.value,
            worst=row.worst,
            calm_since=row.calm_since,
        )
        for row in rows
    ]


def _closed(conn: Connection) -> dict[Key, datetime]:
    """Return those that have closed lately."""
    last = func.max(alerts.c.closed_at, type_=Timestamp)
    rows = conn.execute(
        select(alerts.c.rule, alerts.c.subject, last.label("at"))
        .where(alerts.c.closed_at > db_after(-REST.total_seconds()), _KNOWN)
        .group_by(alerts.c.rule, alerts.c.subject)
    )
    return {(Rule(row.rule), row.subject): row.at for row in rows}


def _do(conn: Connection, move: Move) -> tuple[bool, bool]:
    """Do it; return whether an alert was opened, and whether one was closed."""
    match move:
        case Opens(judged):
            return _opened(conn, judged), False
        case Stays():
            conn.execute(
                update(alerts)
                .where(alerts.c.id == move.id, alerts.c.closed_at.is_(None))
                .values(
                    value=move.value,
                    worst=move.worst,
                    calm_since=move.calm_since,
                    seen_at=db_now(),
                )
            )
            return False, False
        case Closes():
            return False, _has_closed(conn, move)


def _opened(conn: Connection, judged: Judged) -> bool:
    """Open it, unless somebody else has just done so."""
    row = conn.execute(
        insert_into(conn, alerts)
        .values(
            id=new_id(),
            rule=judged.rule,
            subject=judged.subject,
            value=judged.value,
            worst=judged.value,
            usual=judged.usual,
            bound=judged.bound,
        )
        .on_conflict_do_nothing()
        .returning(alerts.c.id)
    ).one_or_none()
    if row is not None:
        _tell(conn, row.id, _FIRST, EventKind.ALERT_OPENED)
    return row is not None


def _has_closed(conn: Connection, move: Closes) -> bool:
    # No sooner than it opened, though a clock was set back since.
    closed_at = case((alerts.c.opened_at > db_now(), alerts.c.opened_at), else_=db_now())
    done = conn.execute(
        update(alerts)
        .where(alerts.c.id == move.id, alerts.c.closed_at.is_(None))
        .values(value=move.value, closed_at=closed_at, seen_at=db_now())
    ).rowcount
    if done:
        _tell(conn, move.id, _LAST, EventKind.ALERT_CLOSED)
    return bool(done)


def _tell(conn: Connection, alert_id: UUID, n: int, kind: EventKind) -> None:
    """Write the event under the alert's own id; it is open for one look at a time."""
    told = {"session_id": alert_id, "n": n, "turn_id": NOBODY}
    conn.execute(insert(events).values(**told, kind=kind.value))


def purge(conn: Connection, *, older_than: timedelta, limit: int = 5_000) -> int:
    """Remove up to `limit` alerts that have been closed for longer than that; return how many."""
    old = alerts.c.closed_at < db_after(-older_than.total_seconds())
    some = select(alerts.c.id).where(old).limit(limit)
    return conn.execute(delete(alerts).where(alerts.c.id.in_(some))).rowcount
