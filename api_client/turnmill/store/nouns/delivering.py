"""Deliveries to webhooks, as workers make them: divided once, sent under a lease, tried for a day.

Who divides events writes a row for each webhook that wants one, in the transaction that passes
them. A delivery that is being sent is due again when its lease is over; the fence says who may
write what came of it.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, insert, or_, select, update

from turnmill.domain.content import text_of
from turnmill.domain.errors import StoreError
from turnmill.domain.hearing import WantedKinds
from turnmill.domain.states import EventKind
from turnmill.new_ids import new_id
from turnmill.store.codec import shown_parts
from turnmill.store.hook_records import MOST_WAITING, DeliveryState, Room, Sent, ToSend
from turnmill.store.nouns import reading
from turnmill.store.nouns.events import GAP, Event
from turnmill.store.nouns.reading import Hold
from turnmill.store.rules.happenings import NOBODY
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.hook_tables import deliveries, webhooks
from turnmill.store.schema.tables import messages
from turnmill.store.types import db_after, db_asof, db_now, insert_into
from turnmill.store.vaults import plain

_AT_ONCE = 200
#: Of a reply; the rest is left out, and that is said.
MOST_CHARACTERS = 200_000
#: After each try that came to nothing. They come to a day; then the webhook is parked.
PAUSES = tuple(
    timedelta(seconds=one) for one in (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800)
)

#: An address that asks for a longer pause than ours is tried again after this at the latest.
LONGEST_WAIT = timedelta(hours=1)


def is_any(conn: Connection) -> bool:
    """Tell whether there is a webhook."""
    return conn.execute(select(webhooks.c.id).limit(1)).first() is not None


def divide(conn: Connection, hold: Hold, *, lease: timedelta) -> int | None:
    """Write a delivery of what comes next for each webhook that wants it; return how much came.

    None when another process does this by now. In the caller's transaction.
    """
    page = reading.read(conn, hold, limit=_AT_ONCE, lease=lease)
    if page is None:
        return None
    hooks = conn.execute(select(webhooks).order_by(webhooks.c.id)).all()
    rows = [row for hook in hooks for row in _rows(conn, hook, page.events)]
    if rows:
        conn.execute(insert_into(conn, deliveries).on_conflict_do_nothing(), rows)
    reading.skip(conn, hold, page.upto)
    return len(page.events)


def _rows(conn: Connection, hook: Any, found: Sequence[Event]) -> list[dict[str, Any]]:
    """Return what one webhook is to be told, and count what no room is left for."""
    asked = WantedKinds(tuple(hook.kinds))
    kinds = asked.kinds
    mine = [one for one in found if one.kind in kinds and one.at and one.at >= hook.created_at]
    gaps = sum(one.n for one in found if one.kind == GAP)
    room = _room(conn, hook.id) if mine else 0
    missed = gaps + max(len(mine) - room, 0)
    if missed:
        conn.execute(
            update(webhooks)
            .where(webhooks.c.id == hook.id)
            .values(missed=webhooks.c.missed + missed)
        )
    return [_row(hook.id, one, asked.named(one.kind)) for one in mine[:room]]


def _room(conn: Connection, webhook_id: UUID) -> int:
    waiting = select(deliveries.c.id).where(
        deliveries.c.webhook_id == webhook_id, deliveries.c.due_at.is_not(None)
    )
    some = waiting.limit(MOST_WAITING).subquery()
    return MOST_WAITING - conn.scalars(select(func.count()).select_from(some)).one()


def _row(webhook_id: UUID, event: Event, name: str) -> dict[str, Any]:
    return {
        "id": new_id(),
        "webhook_id": webhook_id,
        "session_id": event.session_id,
        "n": event.n,
        "turn_id": event.turn_id,
        "kind": event.kind,
        "type": name,
        "at": event.at,
        "budget_id": event.budget_id,
        "share": None if event.share is None else str(event.share),
    }


def claim(conn: Connection, *, room: Room, lease: timedelta) -> list[ToSend]:
    """Take deliveries that are due, as far as there is room for each webhook."""
    open_hooks = select(webhooks.c.id).where(webhooks.c.parked_at.is_(None))
    found: list[UUID] = []
    others = room.most_of_others
    for webhook_id in conn.scalars(open_hooks.order_by(func.random())).all():
        is_quick = webhook_id in room.quick
        most = min(room.to(webhook_id), room.most - len(found), room.most if is_quick else others)
        mine = _due(conn, webhook_id, most=most) if most > 0 else []
        found += mine
        others -= 0 if is_quick else len(mine)
        if len(found) >= room.most:
            break
    return _taken(conn, found, lease=lease) if found else []


def _due(conn: Connection, webhook_id: UUID, *, most: int) -> Sequence[UUID]:
    due = (
        select(deliveries.c.id)
        .where(deliveries.c.webhook_id == webhook_id, deliveries.c.due_at <= db_asof())
        .order_by(deliveries.c.due_at, deliveries.c.id)
        .limit(most)
        .with_for_update(skip_locked=True, key_share=True)
    )
    return conn.scalars(due).all()


def _taken(conn: Connection, ids: Sequence[UUID], *, lease: timedelta) -> list[ToSend]:
    conn.execute(
        update(deliveries)
        .where(deliveries.c.id.in_(ids))
        .values(
            fence=deliveries.c.fence + 1,
            tries=deliveries.c.tries + 1,
            first_at=func.coalesce(deliveries.c.first_at, db_now()),
            due_at=db_after(lease.total_seconds()),
        )
    )
    is_old_good = (webhooks.c.old_until > db_now()).label("is_old_good")
    rows = conn.execute(
        select(
            deliveries,
            webhooks.c.url,
            webhooks.c.secret,
            webhooks.c.old_secret,
            is_old_good,
            webhooks.c.include_content,
        )
        .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
        .where(deliveries.c.id.in_(ids))
        .order_by(deliveries.c.id)
    )
    return [one for row in rows if (one := _readable(conn, row)) is not None]


def _readable(conn: Connection, row: Any) -> ToSend | None:
    """Return the delivery; None where its secret cannot be opened: a try that came to nothing."""
    try:
        return _to_send(row, map(plain, (row.secret, row.old_secret)[: 1 + bool(row.is_old_good)]))
    except StoreError as error:
        settle(conn, _to_send(row, ()), Sent(ok=False, error_code=error.code))
        return None


def _to_send(row: Any, secrets: Iterable[str]) -> ToSend:
    return ToSend(
        id=row.id,
        fence=row.fence,
        tries=row.tries,
        webhook_id=row.webhook_id,
        url=row.url,
        secrets=tuple(secrets),
        include_content=row.include_content,
        kind=row.kind,
        type=row.type,
        session_id=row.session_id,
        turn_id=row.turn_id,
        n=row.n,
        at=row.at,
        budget_id=row.budget_id,
        share=None if row.share is None else float(row.share),
    )


def settle(conn: Connection, one: ToSend, sent: Sent) -> bool:
    """Write what came of a try; False when it was another's by then. The caller's transaction.

    After the last try, and where the address says that it wants no more, the webhook is parked,
    which is an event.
    """
    values: dict[str, Any] = {
        "status": sent.status,
        "error_code": sent.error_code,
        "took_ms": sent.took_ms,
    }
    is_last = sent.gone or one.tries > len(PAUSES)
    if is_last and not sent.ok:  # who removes or releases it locks it before its deliveries, too
        conn.execute(select(webhooks.c.id).where(webhooks.c.id == one.webhook_id).with_for_update())
    if sent.ok or is_last:
        state = DeliveryState.DELIVERED if sent.ok else DeliveryState.PARKED
        values |= {"state": state.value, "due_at": None, "ended_at": db_now()}
    else:
        asked = min(sent.wait or timedelta(0), LONGEST_WAIT)
        values["due_at"] = db_after(max(PAUSES[one.tries - 1], asked).total_seconds())
    mine = update(deliveries).where(deliveries.c.id == one.id, deliveries.c.fence == one.fence)
    if conn.execute(mine.values(values)).rowcount == 0:
        return False
    if is_last and not sent.ok:
        park(conn, one.webhook_id, because=sent.error_code or "refused")
    return True


def park(conn: Connection, webhook_id: UUID, *, because: str) -> None:
    """Send nothing there until somebody releases it, and write an event of that."""
    row = conn.execute(
        update(webhooks)
        .where(webhooks.c.id == webhook_id, webhooks.c.parked_at.is_(None))
        .values(parked_at=db_now(), parked_because=because, events=webhooks.c.events + 1)
        .returning(webhooks.c.events)
    ).one_or_none()
    if row is None:
        return
    told = {"session_id": webhook_id, "n": row.events, "turn_id": NOBODY}
    conn.execute(insert(events).values(**told, kind=EventKind.WEBHOOK_PARKED.value))


def give_back(conn: Connection, ones: Sequence[ToSend]) -> None:
    """Let others send at once what this process has not: it stops."""
    if ones:
        mine = [(deliveries.c.id == one.id) & (deliveries.c.fence == one.fence) for one in ones]
        values = {"due_at": db_now(), "tries": deliveries.c.tries - 1}
        conn.execute(update(deliveries).where(or_(*mine)).values(values))


def content_of(conn: Connection, turn_id: UUID) -> dict[str, Any] | None:
    """Return the words of the turn's reply, for who asked for them; None where there is none."""
    row = conn.execute(
        select(messages.c.content).where(messages.c.turn_id == turn_id, messages.c.final)
    ).one_or_none()
    if row is None:
        return None
    text = text_of(shown_parts(row.content))
    return {"text": text[:MOST_CHARACTERS], "cut": len(text) > MOST_CHARACTERS}
