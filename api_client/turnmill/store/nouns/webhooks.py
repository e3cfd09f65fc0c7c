"""Webhooks: addresses that are told of events, and the log of what was sent there."""

from collections.abc import Collection, Mapping, Sequence, Set
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)

from turnmill.domain.errors import InvalidInput, MoveRefused, WebhookNotFound
from turnmill.domain.hearing import WantedKinds
from turnmill.domain.ids import SessionId, TurnId
from turnmill.store.hook_records import MOST_WAITING, Delivery, DeliveryState, Webhook
from turnmill.store.nouns import events
from turnmill.store.nouns.subscribing import subscribe, unsubscribe
from turnmill.store.rules.sealing import sealed_of_house
from turnmill.store.schema.event_tables import event_log, event_readers
from turnmill.store.schema.hook_tables import deliveries, webhooks
from turnmill.store.types import db_after, db_now, insert_into

#: Whoever divides events among webhooks reads as this one.
READER = "webhook:all"
#: Each of them is looked at when something has happened.
MOST_WEBHOOKS = 100


def create(
    conn: Connection,
    webhook_id: UUID,
    *,
    url: str,
    asked: WantedKinds,
    secret: str,
    include_content: bool,
) -> Webhook:
    """Have this address told of what happens from now on. In the caller's transaction."""
    _begin_reading(conn)
    if conn.scalars(select(func.count()).select_from(webhooks)).one() >= MOST_WEBHOOKS:
        raise InvalidInput(f"there are {MOST_WEBHOOKS} webhooks", hint="delete one first")
    conn.execute(
        insert(webhooks).values(
            id=webhook_id,
            url=url,
            kinds=list(asked.words),
            secret=_sealed(conn, webhook_id, secret),
            include_content=include_content,
        )
    )
    subscribe(conn, _subscriber(webhook_id), asked.kinds)
    return get(conn, webhook_id, secret=secret)


def _sealed(conn: Connection, webhook_id: UUID, secret: str) -> str:
    sealed: str = sealed_of_house(conn, webhooks.c.secret, webhook_id.hex, secret)
    return sealed


def _begin_reading(conn: Connection) -> None:
    """Have events kept for webhooks; what has a place already is nobody's business."""
    events.page(conn, None, limit=1)  # whoever gives places is waited for
    last = select(event_log.c.last_place).scalar_subquery()
    row = insert_into(conn, event_readers).from_select(
        ["name", "place"], select(literal(READER), func.coalesce(last, 0))
    )
    conn.execute(row.on_conflict_do_nothing())


def get(conn: Connection, webhook_id: UUID, *, secret: str | None = None) -> Webhook:
    """Return it, or raise WebhookNotFound."""
    found = _read(conn, webhooks.c.id == webhook_id)
    if not found:
        raise WebhookNotFound()
    return _record(found[0], secret=secret)


def find(conn: Connection) -> list[Webhook]:
    """Return all of them, the oldest first."""
    return [_record(row, secret=None) for row in _read(conn)]


def remove(conn: Connection, webhook_id: UUID) -> None:
    """Send nothing there any more; its log goes, too."""
    get(conn, webhook_id)
    conn.execute(delete(webhooks).where(webhooks.c.id == webhook_id))
    unsubscribe(conn, _subscriber(webhook_id))
    if conn.execute(select(webhooks.c.id).limit(1)).first() is None:
        conn.execute(delete(event_readers).where(event_readers.c.name == READER))


def change(conn: Connection, webhook_id: UUID, values: Mapping[str, Any]) -> Webhook:
    """Set url, asked or include_content, those that are given."""
    get(conn, webhook_id)
    columns = {name: one for name, one in values.items() if name != "asked"}
    asked: WantedKinds | None = values.get("asked")
    if asked is not None:
        columns["kinds"] = list(asked.words)
        subscribe(conn, _subscriber(webhook_id), asked.kinds)
    conn.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(columns))
    return get(conn, webhook_id)


def rotate(conn: Connection, webhook_id: UUID, *, secret: str, overlap: timedelta) -> Webhook:
    """Sign with this secret from now on, and for a while with the one of before, too."""
    get(conn, webhook_id)
    values = {
        "old_secret": webhooks.c.secret,
        "old_until": db_after(overlap.total_seconds()),
        "secret": _sealed(conn, webhook_id, secret),
    }
    conn.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(values))
    return get(conn, webhook_id, secret=secret)


def release(conn: Connection, webhook_id: UUID) -> int:
    """Send again what is parked, and go on; return how many deliveries that are."""
    get(conn, webhook_id)
    free = {"parked_at": None, "parked_because": None}
    conn.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(free))
    return _again(conn, webhook_id, deliveries.c.state == DeliveryState.PARKED)


def replay(
    conn: Connection,
    webhook_id: UUID,
    *,
    delivery_ids: Collection[UUID] = (),
    since: datetime | None = None,
    until: datetime | None = None,
) -> int:
    """Send again what was sent, by ids of deliveries or by when it happened; return how many.

    Raises MoveRefused for more than may wait: what happens meanwhile would be missed.
    Raises InvalidInput where one of those ids is not in its log.
    """
    get(conn, webhook_id)
    _refuse_strangers(conn, webhook_id, set(delivery_ids))
    which: list[ColumnElement[bool]] = []
    if delivery_ids:
        which.append(deliveries.c.id.in_(delivery_ids))
    if since is not None:
        which.append(deliveries.c.at >= since)
    if until is not None:
        which.append(deliveries.c.at < until)
    _require_room(conn, webhook_id, *which)
    return _again(conn, webhook_id, *which)


def _require_room(conn: Connection, webhook_id: UUID, *which: Any) -> None:
    mine, waits = deliveries.c.webhook_id == webhook_id, deliveries.c.due_at.is_not(None)
    count = 0
    for found in ((mine, waits), (mine, ~waits, *which)):
        some = select(deliveries.c.id).where(*found).limit(MOST_WAITING + 1).subquery()
        count += conn.scalars(select(func.count()).select_from(some)).one()
    if count > MOST_WAITING:
        raise MoveRefused(
            f"more than {MOST_WAITING} deliveries would wait",
            hint="a shorter time, since= and until=, and the next one when these are sent",
        )


def _refuse_strangers(conn: Connection, webhook_id: UUID, delivery_ids: Set[UUID]) -> None:
    if not delivery_ids:
        return
    mine = (deliveries.c.webhook_id == webhook_id, deliveries.c.id.in_(delivery_ids))
    known = set(conn.scalars(select(deliveries.c.id).where(*mine)))
    if gone := sorted(map(str, delivery_ids - known)):
        raise InvalidInput(
            f"{len(gone)} of the deliveries are not in the webhook's log, or no longer",
            hint=f"{gone[0]} is none; `turnmill webhooks log WEBHOOK` lists them",
        )


def _again(conn: Connection, webhook_id: UUID, *which: Any) -> int:
    values = {
        "state": DeliveryState.DUE.value,
        "due_at": db_now(),
        "tries": 0,
        "first_at": None,
        "ended_at": None,
        "fence": deliveries.c.fence + 1,
    }
    mine = update(deliveries).where(deliveries.c.webhook_id == webhook_id, *which)
    return conn.execute(mine.values(values)).rowcount


def log(
    conn: Connection,
    webhook_id: UUID,
    *,
    state: DeliveryState | None = None,
    after: UUID | None = None,
    limit: int = 100,
) -> list[Delivery]:
    """Return up to `limit` deliveries, the newest first; `after` is the last id of a page."""
    get(conn, webhook_id)
    query = select(deliveries).where(deliveries.c.webhook_id == webhook_id)
    if state is not None:
        query = query.where(deliveries.c.state == state)
    if after is not None:
        query = query.where(deliveries.c.id < after)
    rows = conn.execute(query.order_by(deliveries.c.id.desc()).limit(limit))
    return [_delivery(row) for row in rows]


def purge(conn: Connection, *, delivered: timedelta, parked: timedelta, limit: int = 5_000) -> int:
    """Remove up to `limit` deliveries that ended longer ago than that; return how many."""
    gone = 0
    for state, span in ((DeliveryState.DELIVERED, delivered), (DeliveryState.PARKED, parked)):
        old = and_(
            deliveries.c.state == state, deliveries.c.ended_at < db_after(-span.total_seconds())
        )
        some = select(deliveries.c.id).where(old).limit(limit)
        gone += conn.execute(delete(deliveries).where(deliveries.c.id.in_(some), old)).rowcount
    return gone


def _read(conn: Connection, *which: Any) -> Sequence[Row[Any]]:
    mine = deliveries.c.webhook_id == webhooks.c.id
    counts = {
        name: select(func.count()).where(mine, deliveries.c.state == state).scalar_subquery()
        for name, state in (("waiting", "due"), ("parked", "parked"))
    }
    query = select(webhooks, *(one.label(name) for name, one in counts.items()))
    return conn.execute(query.where(*which).order_by(webhooks.c.id)).all()


def _record(row: Row[Any], *, secret: str | None) -> Webhook:
    return Webhook(
        id=row.id,
        url=row.url,
        events=tuple(row.kinds),
        include_content=row.include_content,
        secret=secret,
        parked_at=row.parked_at,
        parked_because=row.parked_because,
        waiting=row.waiting,
        parked=row.parked,
        missed=row.missed,
        created_at=row.created_at,
    )


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        webhook_id=row.webhook_id,
        event_id=f"{row.session_id}:{row.n}",
        kind=row.kind,
        type=row.type,
        session_id=SessionId(row.session_id),
        turn_id=None if row.turn_id is None else TurnId(row.turn_id),
        at=row.at,
        state=DeliveryState(row.state),
        tries=row.tries,
        due_at=row.due_at,
        status=row.status,
        error_code=row.error_code,
        took_ms=row.took_ms,
        ended_at=row.ended_at,
        created_at=row.created_at,
    )


def _subscriber(webhook_id: UUID) -> str:
    return f"webhook:{webhook_id}"
