"""`turnmill accounts`: keys whose vendor has said later, or never, and models that fail."""

from __future__ import annotations

import click

from turnmill.cli.context import json_option, open_client, say
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import listing_options
from turnmill.show.limits_view import ACCOUNTS
from turnmill.show.listing import print_listing
from turnmill.show.tables import print_outcome


@click.group("accounts", cls=CommandGroup)
def command() -> None:
    """Show what no worker calls at the moment, and open it.

    An account is that of a key; a few digits of a hash stand for it. A breaker is that of a model
    which hangs, or has failed many times in a row.
    """


@command.command("ls")
@listing_options
def ls(*, as_json: bool) -> None:
    """List what is closed, why, and until when at the least."""
    with open_client() as client:
        found = client.accounts.list()
    print_listing(found, ACCOUNTS, as_json=as_json)
    if not found:
        say("nothing is closed")


@command.command("open")
@click.argument("provider")
@click.option("--model", metavar="MODEL", help="Of this one alone.")
@json_option
def open_(provider: str, *, model: str | None, as_json: bool) -> None:
    """Let all that is closed of a provider be called again: a bill was paid, say."""
    with open_client() as client:
        opened = client.accounts.open(provider=provider, model=model)
    print_outcome(f"opened: {opened}", {"opened": opened}, as_json=as_json)
