"""`turnmill audit`: who did what to whose data."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from turnmill.cli.context import json_option, say
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import listing_options
from turnmill.domain.auditing import Action
from turnmill.show.audit_view import ENTRIES, print_check, print_checkpoint
from turnmill.show.listing import print_listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnmill.sync.audit import Audit


@click.group("audit", cls=CommandGroup)
def command() -> None:
    """Show who did what to whose data, and whether the log still says what was written.

    As the role of TURNMILL_AUDITOR_URL, where that is set, or the auditor of the `turnmill up` in
    the home.
    """


@command.command("ls")
@click.option("--user", metavar="ID", help="Whose data it was.")
@click.option(
    "--action",
    type=click.Choice([one.value for one in Action]),
    metavar="ACTION",
    help="What was done, such as user.erased; a word that is none lists them all.",
)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--after", type=click.IntRange(1), metavar="ID", help="Go on after the last one.")
@listing_options
def ls(
    *, user: str | None, action: str | None, limit: int, after: int | None, as_json: bool
) -> None:
    """List what was done, newest first."""
    with _open_audit() as audit:
        found = audit.list(user_id=user, action=action, after=after, limit=limit)
        more = found and audit.list(user_id=user, action=action, after=found[-1].id, limit=1)
    print_listing(found, ENTRIES, as_json=as_json)
    if not found:
        say("nothing of that kind was written down")
    elif more:
        say(f"more: --after {found[-1].id}")


@command.command("verify")
@click.option("--checkpoint", metavar="HEAD", help="As `audit checkpoint` printed it once.")
@json_option
def verify(*, checkpoint: str | None, as_json: bool) -> int:
    """Look at every row: whether one was edited, removed, put in or moved. 1 where one was."""
    from turnmill.cli import FAILED, OK

    with _open_audit() as audit:
        found = audit.verify(checkpoint)
    print_check(found, as_json=as_json)
    return OK if found.ok else FAILED


@command.command("checkpoint")
@json_option
def checkpoint(*, as_json: bool) -> None:
    """Chain what was written, and print the head: keep it where nobody here can write.

    It writes, and so is done as the role of TURNMILL_DATABASE_URL.
    """
    from turnmill.cli.context import open_client

    with open_client() as client:
        head = client.audit.checkpoint()
    print_checkpoint(head, as_json=as_json)


@contextmanager
def _open_audit() -> Iterator[Audit]:
    from turnmill.running_home import role_urls_of_home, settings_of_home
    from turnmill.sync.client import Client

    settings = settings_of_home()
    url = role_urls_of_home(settings).auditor or settings.database_url
    with Client(settings=replace(settings, database_url=url)) as client:
        yield client.audit
