"""`turnmill follow`: what happens in a session, as one of its participants is told."""

from __future__ import annotations

import click

from turnmill.cli.context import json_option, open_client
from turnmill.cli.short_ids import session_of
from turnmill.show.people_view import print_happened


@click.command("follow")
@click.argument("session", metavar="SESSION")
@click.option("--as", "as_", metavar="NAME", required=True, help="Who follows it.")
@click.option("--after", type=click.IntRange(0), metavar="CURSOR", help="Begin behind it.")
@click.option("--text", is_flag=True, help="With what was said.")
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Stop after so long.")
@json_option
def command(
    *,
    session: str,
    as_: str,
    after: int | None,
    text: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Print what happens in a session, behind what NAME has read; Ctrl-C stops it.

    What is printed counts as read.
    """
    with open_client() as client:
        found = session_of(client, session)
        for one in client.follow(found, as_=as_, after=after, timeout=timeout):
            print_happened(one, text=text, as_json=as_json)
