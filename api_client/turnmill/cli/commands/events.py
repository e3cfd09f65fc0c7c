"""`turnmill events`: what happened to turns, and who reads it."""

from __future__ import annotations

from typing import Any

import click

from turnmill.cli.context import confirm, json_option, nothing_to_do, open_client, say, yes_option
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import MOST, listing_options, wide_option
from turnmill.cli.short_ids import session_of
from turnmill.domain.states import EventKind
from turnmill.show.events_view import EVENTS, READERS, print_event
from turnmill.show.listing import print_listing
from turnmill.show.terminal import on_one_line, tell

_KINDS = [kind.value for kind in EventKind if kind is not EventKind.GAP]


def wanted_options(function: Any) -> Any:
    """Add --after, --session, --kind and --json."""
    after = click.option("--after", type=click.IntRange(0), metavar="PLACE", help="Go on there.")
    session = click.option("--session", metavar="SESSION", help="Of this one, by key or id.")
    kinds = click.option(
        "--kind",
        "kinds",
        type=click.Choice(_KINDS),
        multiple=True,
        metavar="KIND",
        help="Such as turn.dead. Repeatable; a word that is none lists them all.",
    )
    return after(session(kinds(json_option(function))))


@click.group("events", cls=CommandGroup)
def command() -> None:
    """Show what happened to turns, by ids, and who reads it.

    Events are kept until every reader has passed them; without one, for an hour or so. A gap
    stands for those that are gone.
    """


@command.command("ls")
@wanted_options
@wide_option
@click.option(
    "--limit", type=click.IntRange(1, MOST), default=20, show_default=True, help="Of a page."
)
def ls(*, limit: int, session: str | None, as_json: bool, **wanted: Any) -> None:
    """List events, the oldest first."""
    with open_client() as client:
        wanted["session"] = None if session is None else session_of(client, session)
        found = client.events.read(limit=limit, **wanted)
        more = found and client.events.read(limit=1, **wanted | {"after": found[-1].place})
    print_listing(found, EVENTS, as_json=as_json)
    if not found:
        say("nothing has happened that is still kept")
    elif more:
        say(f"more: --after {found[-1].place}")


@command.command("follow")
@wanted_options
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Stop after so long.")
def follow(*, timeout: float | None, session: str | None, as_json: bool, **wanted: Any) -> None:
    """Print events as they happen, after those that are there; Ctrl-C stops it."""
    with open_client() as client:
        wanted["session"] = None if session is None else session_of(client, session)
        for event in client.events.follow(timeout=timeout, **wanted):
            print_event(event, as_json=as_json)


@command.command("readers")
@listing_options
def readers(*, as_json: bool) -> None:
    """List for whom events are kept, and how far they are."""
    with open_client() as client:
        found = client.events.readers()
    print_listing(found, READERS, as_json=as_json)
    if not found:
        say("nobody reads events: they go after an hour or so")


@command.command("park")
@click.argument("reader")
@click.option("--undo", is_flag=True, help="Keep events for it again.")
def park(*, reader: str, undo: bool) -> None:
    """Keep nothing for a reader alone; what it misses will be a gap. An observer is not told."""
    with open_client() as client:
        done = client.events.park_reader(reader, parked=not undo)
    nothing_to_do(not done, "it is so already")
    tell(f"{on_one_line(reader)} {'reads again' if undo else 'is parked'}")


@command.command("remove")
@click.argument("reader")
@yes_option
def remove(*, reader: str, yes: bool) -> None:
    """Forget a reader, with its place."""
    confirm(f"Forget how far {reader} has read?", yes=yes)
    with open_client() as client:
        client.events.remove_reader(reader)
    tell(f"{on_one_line(reader)} is forgotten")
