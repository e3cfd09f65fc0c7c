"""`turnmill webhooks`: addresses that are told of events, and what was sent there."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from turnmill.cli.context import confirm, json_option, open_client, say, yes_option
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import MOST, listing_options
from turnmill.show.listing import print_listing
from turnmill.show.tables import print_outcome
from turnmill.show.terminal import tell
from turnmill.show.webhook_view import DELIVERIES, WEBHOOKS, print_webhook, show_webhook

if TYPE_CHECKING:
    from datetime import datetime

_STATES = click.Choice(["due", "delivered", "parked"])


@click.group("webhooks", cls=CommandGroup)
def command() -> None:
    """Have addresses told of events by workers, signed as Standard Webhooks has it."""


@command.command("create")
@click.argument("url")
@click.option("--event", "events", multiple=True, required=True, help="A kind, or session.*, or *.")
@click.option("--secret", metavar="SECRET", help="whsec_…; without it, one is made.")
@click.option("--include-content", is_flag=True, help="Send the words of replies, too.")
@json_option
def create(url: str, *, events: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Have an address told; its secret is printed here, and never again."""
    with open_client() as client:
        made = client.webhooks.create(url=url, events=events, **options)
    print_webhook(made, as_json=as_json)


@command.command("ls")
@listing_options
def ls(*, as_json: bool) -> None:
    """List them, and how much waits for each."""
    with open_client() as client:
        found = client.webhooks.list()
    print_listing(found, WEBHOOKS, as_json=as_json)
    if not found:
        say("there is no webhook")


@command.command("show")
@click.argument("webhook")
@json_option
def show(webhook: str, *, as_json: bool) -> None:
    """Show one: where it leads, what it hears of, and how far it is; not its secret."""
    with open_client() as client:
        show_webhook(client.webhooks.get(webhook), as_json=as_json)


@command.command("log")
@click.argument("webhook")
@click.option("--state", type=_STATES, help="Only these.")
@click.option("--after", metavar="DELIVERY", help="Go on there.")
@click.option("--limit", type=click.IntRange(1, MOST), default=20, show_default=True)
@listing_options
def log(webhook: str, *, as_json: bool, **wanted: Any) -> None:
    """List what was sent, the newest first, and what came of it."""
    with open_client() as client:
        found = client.webhooks.deliveries(webhook, **wanted)
    print_listing(found, DELIVERIES, as_json=as_json)
    if not found:
        say("nothing was sent")


@command.command("rotate")
@click.argument("webhook")
@click.option("--secret", metavar="SECRET", help="whsec_…; without it, one is made.")
@click.option("--overlap", type=click.FloatRange(0, 720), default=24.0, help="Hours.")
@json_option
def rotate(webhook: str, *, secret: str | None, overlap: float, as_json: bool) -> None:
    """Sign with another secret; for some hours the one of before signs, too."""
    with open_client() as client:
        made = client.webhooks.rotate(webhook, secret=secret, overlap=timedelta(hours=overlap))
    print_webhook(made, as_json=as_json)


@command.command("release")
@click.argument("webhook")
@json_option
def release(webhook: str, *, as_json: bool) -> None:
    """Go on with one that is parked: what was parked is sent again."""
    with open_client() as client:
        count = client.webhooks.release(webhook)
    print_outcome(f"sent again: {count}", {"sent_again": count}, as_json=as_json)


@command.command("replay")
@click.argument("webhook")
@click.option("--delivery", "deliveries", multiple=True, metavar="ID", help="This one.")
@click.option("--since", type=click.DateTime(), help="Of what happened from then on, in UTC.")
@click.option("--until", type=click.DateTime(), help="And before then.")
@json_option
def replay(
    webhook: str,
    *,
    deliveries: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
) -> None:
    """Send again what is in the log, by ids or by time."""
    with open_client() as client:
        count = client.webhooks.replay(
            webhook, deliveries=deliveries, since=_utc(since), until=_utc(until)
        )
    print_outcome(f"sent again: {count}", {"sent_again": count}, as_json=as_json)


@command.command("rm")
@click.argument("webhook")
@yes_option
def rm(webhook: str, *, yes: bool) -> None:
    """Send nothing there any more, and forget what was sent."""
    confirm("Forget the webhook and its log?", yes=yes)
    with open_client() as client:
        client.webhooks.delete(webhook)
    tell("it is forgotten")


def _utc(moment: datetime | None) -> datetime | None:
    from datetime import UTC

    return None if moment is None else moment.replace(tzinfo=UTC)
