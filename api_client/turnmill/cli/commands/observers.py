"""`turnmill observers`: code of workers that is told of events, and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from turnmill.cli.context import json_option, open_client, say
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import listing_options
from turnmill.domain.errors import InvalidInput
from turnmill.show.events_view import OBSERVERS
from turnmill.show.listing import print_listing
from turnmill.show.tables import print_outcome

if TYPE_CHECKING:
    from turnmill.store.nouns.events import EventReader
    from turnmill.sync.client import Client

_PREFIX = "observer:"


@click.group("observers", cls=CommandGroup)
def command() -> None:
    """Show observers, how far behind each is, and go on with one that is parked."""


@command.command("ls")
@listing_options
def ls(*, as_json: bool) -> None:
    """List them: what each has not been told yet, since when, and whether it fails."""
    with open_client() as client:
        found = _observers(client)
    print_listing(found, OBSERVERS, as_json=as_json)
    if not found:
        say("no worker has told an observer: see TURNMILL_OBSERVERS")


@command.command("release")
@click.argument("observer")
@json_option
def release(observer: str, *, as_json: bool) -> None:
    """Go on with an observer that is parked: it is told what it failed at, and all since."""
    name = _PREFIX + observer.removeprefix(_PREFIX)
    with open_client() as client:
        mine = [one for one in _observers(client) if one.name.partition("/")[0] == name]
        if not mine:
            raise InvalidInput("there is no such observer", hint="`turnmill observers ls`")
        parked = [one for one in mine if one.parked]
        for one in parked:
            client.events.park_reader(one.name, parked=False)
    print_outcome(f"released: {len(parked)}", {"released": len(parked)}, as_json=as_json)


def _observers(client: Client) -> list[EventReader]:
    return [one for one in client.events.readers() if one.name.startswith(_PREFIX)]
