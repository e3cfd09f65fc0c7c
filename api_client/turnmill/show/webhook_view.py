"""Webhooks and what was sent to them, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnmill.show.listing import Listing
from turnmill.show.tables import fields, print_facts, print_json
from turnmill.show.terminal import on_one_line, tell
from turnmill.show.wording import moment_text

if TYPE_CHECKING:
    from turnmill.store.hook_records import Delivery, Webhook


def _document(one: Webhook) -> dict[str, Any]:
    return dict(fields(one, *(name for name in one.__dataclass_fields__ if name != "secret")))


WEBHOOKS: Listing[Webhook] = Listing(
    columns=("webhook", "url", "events", "waiting", "parked", "missed", ""),
    row=lambda one: (
        one.id,
        one.url,
        " ".join(one.events),
        one.waiting,
        one.parked,
        one.missed,
        f"parked: {one.parked_because}" if one.parked_at else "",
    ),
    document=_document,
    numbers=("waiting", "parked", "missed"),
    spare=("missed", "events"),
)

DELIVERIES: Listing[Delivery] = Listing(
    columns=("delivery", "type", "at", "state", "tries", "status", "error", "next try", "turn"),
    row=lambda one: (
        one.id,
        one.type,
        one.at,
        one.state.value,
        one.tries,
        one.status,
        one.error_code,
        one.due_at,
        one.turn_id,
    ),
    document=lambda one: fields(one, *one.__dataclass_fields__),
    numbers=("tries", "status"),
    spare=("status", "turn", "next try"),
)


def show_webhook(one: Webhook, *, as_json: bool) -> None:
    """Print what is known of one, but for its secret."""
    if as_json:
        print_json(_document(one))
        return
    parked = (
        None if one.parked_at is None else f"{moment_text(one.parked_at)}, {one.parked_because}"
    )
    print_facts(
        [
            ("webhook", one.id),
            ("url", one.url),
            ("events", " ".join(one.events)),
            ("content", "the words of replies, too" if one.include_content else "none"),
            ("waiting", one.waiting),
            ("parked", one.parked),
            ("parked since", parked),
            ("missed", one.missed),
            ("created", moment_text(one.created_at)),
        ]
    )


def print_webhook(one: Webhook, *, as_json: bool) -> None:
    """Print one that was just made, with its secret."""
    if as_json:
        print_json(_document(one) | {"secret": one.secret})
        return
    tell(f"webhook {one.id} of {on_one_line(one.url)}")
    tell(f"secret  {one.secret}")
