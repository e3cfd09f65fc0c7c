"""`turnmill analytics session` and `user`: conversations in figures."""

from __future__ import annotations

import click

from turnmill.cli.context import json_option, open_client
from turnmill.cli.short_ids import session_of
from turnmill.show.conversations_view import print_session, print_user


@click.command("session")
@click.argument("key", metavar="SESSION")
@json_option
def session(*, key: str, as_json: bool) -> None:
    """Tell what a session came to, and what was felt. SESSION is its key or id.

    Where nobody has given feedback, that is an estimate, which goes by the shape of the
    conversation; whose words cannot be opened here, by its times alone.
    """
    with open_client() as client:
        found = client.analytics.session(session_of(client, key))
    print_session(found, as_json=as_json)


@click.command("user")
@click.argument("user_id", metavar="USER")
@click.option("--since", default="30d", show_default=True, help="24h, 7d, a day, or a moment.")
@click.option("--until", help="When it ends: a day, or a moment; now unless given.")
@click.option("--zone", default="UTC", show_default=True, help="Of days and hours.")
@json_option
def user(*, user_id: str, since: str, until: str | None, zone: str, as_json: bool) -> None:
    """Tell what a user's turns came to, when he comes, and what he felt."""
    with open_client() as client:
        found = client.analytics.user(user_id, since=since, until=until, zone=zone)
    print_user(found, as_json=as_json)
