"""`turnmill participants`: who takes part in a session."""

from __future__ import annotations

import click

from turnmill.cli.context import confirm, json_option, open_client, yes_option
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import listing_options
from turnmill.cli.short_ids import session_of
from turnmill.domain.states import ParticipantRole
from turnmill.show.listing import print_listing
from turnmill.show.people_view import PARTICIPANTS
from turnmill.show.terminal import on_one_line, tell

session_argument = click.argument("session", metavar="SESSION")
name_argument = click.argument("name")
by_option = click.option("--by", metavar="NAME", help="Who decides it: an owner.")


@click.group("participants", cls=CommandGroup)
def command() -> None:
    """Show and change who takes part in a session, by key or id."""


@command.command("ls")
@session_argument
@listing_options
def ls(*, session: str, as_json: bool) -> None:
    """List who takes part, and what each has not read."""
    with open_client() as client:
        found = client.sessions.participants.list(session_of(client, session))
    print_listing(found, PARTICIPANTS, as_json=as_json)


@command.command("add")
@session_argument
@name_argument
@click.option(
    "--role",
    type=click.Choice([one.value for one in ParticipantRole]),
    help="An observer follows, a member also speaks, an owner also decides who takes part.",
)
@by_option
@json_option
def add(*, session: str, name: str, role: str | None, by: str | None, as_json: bool) -> None:
    """Let NAME take part, or in another role than before."""
    with open_client() as client:
        found = client.sessions.participants.add(
            session_of(client, session), name, role=role, by=by
        )
    print_listing([found], PARTICIPANTS, as_json=as_json)


@command.command("remove")
@session_argument
@name_argument
@by_option
@yes_option
def remove(*, session: str, name: str, by: str | None, yes: bool) -> None:
    """Let NAME take part no more; what he said stays."""
    with open_client() as client:
        found = session_of(client, session)
        confirm(f"Let {name} take part no more?", yes=yes)
        client.sessions.participants.remove(found, name, by=by)
    tell(f"{on_one_line(name)} takes part no more")
