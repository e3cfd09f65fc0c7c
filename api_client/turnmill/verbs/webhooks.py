"""Webhooks: `client.webhooks`, addresses that are told of events, and what was sent there."""

import base64
import binascii
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from turnmill.domain.arguments import moment, one_of, page_size, span, yes_or_no
from turnmill.domain.errors import InvalidInput
from turnmill.domain.hearing import asked
from turnmill.domain.ids import as_uuid
from turnmill.domain.plain import id_of, items_of
from turnmill.net.public_address import target_of
from turnmill.new_ids import new_id
from turnmill.store.hook_records import Delivery, DeliveryState, Webhook
from turnmill.store.nouns import webhooks as rows
from turnmill.verbs.intake import UNCHANGED, Unchanged
from turnmill.verbs.verb import Connection, Deed, Done, Effect, Verb, single, transaction

T = TypeVar("T")

#: What `client.webhooks.create` has returned, or its id.
WebhookRef = Webhook | UUID | str

_PREFIX = "whsec_"
_SECRET_BYTES = (24, 64)
_MADE_BYTES = 32
_LONGEST_OVERLAP = timedelta(days=30)
_MOST_REPLAYED = 1_000


def create(
    url: object, *, events: object, secret: object, include_content: object
) -> Verb[Webhook]:
    """Have an address told of events."""
    address, wanted, key = _url(url), asked(events), _secret(secret)
    with_content = yes_or_no(include_content, name="include_content")
    webhook_id = new_id()

    def on(conn: Connection) -> Effect[Webhook]:
        made = rows.create(
            conn,
            webhook_id,
            url=address,
            asked=wanted,
            secret=key,
            include_content=with_content,
        )
        return Effect(made)

    return transaction(on, does=Deed("webhook.created", objects={"webhook": webhook_id}))


def find() -> Verb[list[Webhook]]:
    """Read all of them."""
    return single(lambda conn: Effect(rows.find(conn)))


def get(webhook: WebhookRef) -> Verb[Webhook]:
    """Read one."""
    wanted = _id(webhook)
    return single(lambda conn: Effect(rows.get(conn, wanted)))


def update(
    webhook: WebhookRef,
    *,
    url: str | Unchanged,
    events: Sequence[str] | Unchanged,
    include_content: bool | Unchanged,
) -> Verb[Webhook]:
    """Change what is given."""
    values: dict[str, Any] = {}
    if url is not UNCHANGED:
        values["url"] = _url(url)
    if events is not UNCHANGED:
        values["asked"] = asked(events)
    if include_content is not UNCHANGED:
        values["include_content"] = yes_or_no(include_content, name="include_content")
    if not values:
        raise InvalidInput("nothing to update", hint="name an option, such as events=")
    return _doing(webhook, lambda conn, one: rows.change(conn, one, values))


def delete(webhook: WebhookRef) -> Verb[None]:
    """Send nothing there any more."""
    return _doing(webhook, rows.remove, "webhook.removed")


def rotate(webhook: WebhookRef, *, secret: object, overlap: object) -> Verb[Webhook]:
    """Sign with another secret, and for a while with the one of before, too."""
    key = _secret(secret)
    both = span(overlap, name="overlap", least=timedelta(0), most=_LONGEST_OVERLAP)

    def act(conn: Connection, one: UUID) -> Webhook:
        return rows.rotate(conn, one, secret=key, overlap=both)

    return _doing(webhook, act, "webhook.rotated")


def release(webhook: WebhookRef) -> Verb[int]:
    """Go on with one that is parked."""
    return _doing(webhook, rows.release, "webhook.released")


def replay(
    webhook: WebhookRef, *, deliveries: object, since: datetime | None, until: datetime | None
) -> Verb[int]:
    """Send again what was sent."""
    ids = _deliveries(deliveries)
    from_, to = moment(since, name="since"), moment(until, name="until")
    if not ids and from_ is None:
        raise InvalidInput(
            "nothing says what is to be sent again", hint="deliveries=[…], or since= and until="
        )
    options: dict[str, Any] = {"delivery_ids": ids, "since": from_, "until": to}

    def act(conn: Connection, one: UUID) -> int:
        return rows.replay(conn, one, **options)

    return _doing(webhook, act, "webhook.replayed")


def deliveries(
    webhook: WebhookRef, *, state: object, after: object, limit: object
) -> Verb[list[Delivery]]:
    """Read a page of the log."""
    wanted = _id(webhook)
    which = None if state is None else one_of(DeliveryState, state, name="state")
    behind = None if after is None else _uuid(after, name="after")
    size = page_size(limit)

    def on(conn: Connection) -> Effect[list[Delivery]]:
        return Effect(rows.log(conn, wanted, state=which, after=behind, limit=size))

    return single(on)


def _doing(
    webhook: WebhookRef, act: Callable[[Connection, UUID], T], action: Done | None = None
) -> Verb[T]:
    wanted = _id(webhook)
    deed = None if action is None else Deed(action, objects={"webhook": wanted})
    return transaction(lambda conn: Effect(act(conn, wanted)), does=deed)


def _url(value: object) -> str:
    """Return the URL; raises AddressRefused for one that is none, or that names no public address.

    An operator may have allowed others: a worker knows. What is a name is looked up when it is sent
    to.
    """
    target_of(value)
    assert isinstance(value, str)
    return str.__str__(value)


def _secret(value: object) -> str:
    """Return the secret, or a new one for None."""
    if value is None:
        return _PREFIX + base64.b64encode(secrets.token_bytes(_MADE_BYTES)).decode()
    least, most = _SECRET_BYTES
    hint = f'None for a new one, or "{_PREFIX}" and {least} to {most} bytes as base64'
    text = str.__str__(value) if isinstance(value, str) else ""
    if not text.startswith(_PREFIX):
        raise InvalidInput("secret is none of a webhook's", hint=hint)
    try:
        raw = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("secret is not base64", hint=hint) from None
    if not least <= len(raw) <= most:
        raise InvalidInput("secret is too short, or too long", hint=hint)
    return text


def _deliveries(value: object) -> list[UUID]:
    is_some = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    listed = items_of(value, most=_MOST_REPLAYED) if is_some else None
    if listed is None:
        raise InvalidInput("deliveries must be a sequence of ids", hint="deliveries=[delivery.id]")
    if len(listed) > _MOST_REPLAYED:
        raise InvalidInput(f"deliveries names more than {_MOST_REPLAYED}", hint="since= and until=")
    ids = (one.id if isinstance(one, Delivery) else one for one in listed)
    return [_uuid(one, name="deliveries") for one in ids]


def _id(webhook: object) -> UUID:
    return _uuid(webhook.id if isinstance(webhook, Webhook) else webhook, name="webhook")


def _uuid(value: object, *, name: str) -> UUID:
    found = as_uuid(value) if isinstance(value, str) else value
    if not isinstance(found, UUID):
        raise InvalidInput(f"{name} is no id", hint="`turnmill webhooks ls` shows them")
    return id_of(found)
