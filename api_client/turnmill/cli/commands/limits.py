"""`turnmill limits`: how much providers may be asked in a minute, and at once."""

from __future__ import annotations

import click

from turnmill.cli.context import json_option, open_client, say
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import listing_options
from turnmill.show.limits_view import LIMITS, print_limit
from turnmill.show.listing import print_listing

_MODEL = click.option("--model", metavar="MODEL", help="Of this one; without: of all together.")


@click.group("limits", cls=CommandGroup)
def command() -> None:
    """Limit how much all workers together ask a provider, or one of its models.

    Turns beyond it wait, and spend no attempt. A vendor's own limits are learned from its answers,
    where it tells of them.
    """


@command.command("ls")
@listing_options
def ls(*, as_json: bool) -> None:
    """List limits: those that were set, and those that vendors have told of."""
    with open_client() as client:
        found = client.limits.list()
    print_listing(found, LIMITS, as_json=as_json)
    if not found:
        say("nothing is limited")


@command.command("set")
@click.argument("provider")
@_MODEL
@click.option("--requests", type=click.IntRange(1), metavar="N", help="So many in a minute.")
@click.option("--tokens", type=click.IntRange(1), metavar="N", help="So many in a minute.")
@click.option("--concurrent", type=click.IntRange(1), metavar="N", help="So many at once.")
@click.option("--force", is_flag=True, help="Also a provider that nobody has asked for so far.")
@json_option
def set_(
    provider: str,
    *,
    model: str | None,
    requests: int | None,
    tokens: int | None,
    concurrent: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Allow so much, in the place of what was set before."""
    with open_client() as client:
        found = client.limits.set(
            provider=provider,
            model=model,
            requests_per_minute=requests,
            tokens_per_minute=tokens,
            concurrent=concurrent,
            force=force,
        )
    print_limit(found, as_json=as_json)


@command.command("rm")
@click.argument("provider")
@_MODEL
def rm(provider: str, *, model: str | None) -> None:
    """Take the limit away, and what was learned of the same."""
    with open_client() as client:
        client.limits.remove(provider=provider, model=model)
    say("it is not limited any more")
