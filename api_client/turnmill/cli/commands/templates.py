"""`turnmill templates`: set-ups of sessions, by name and version."""

from __future__ import annotations

from functools import partial

import click

from turnmill.cli.context import (
    advise,
    confirm,
    json_option,
    nothing_to_do,
    open_client,
    say,
    yes_option,
)
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import listing_options, page_options, print_page
from turnmill.cli.short_ids import session_of
from turnmill.show.listing import print_listing
from turnmill.show.session_view import SESSIONS
from turnmill.show.template_view import (
    TEMPLATES,
    print_current,
    print_diff,
    print_sync,
    print_template,
)
from turnmill.show.terminal import on_one_line, tell

_VERSIONS = 20  #: that `show` shows

template_argument = click.argument("template", metavar="NAME[@VERSION]")


@click.group("templates", cls=CommandGroup)
def command() -> None:
    """Set-ups of sessions: list, show, compare, roll back, and put from files.

    A session keeps what it was made with, whatever becomes of its template.
    """


@command.command("ls")
@listing_options
def ls(*, as_json: bool) -> None:
    """List templates, each in its current version."""
    with open_client() as client:
        found = page = client.templates.list()
        while page:
            page = client.templates.list(after=page[-1].name)
            found = [*found, *page]
    print_listing(found, TEMPLATES, as_json=as_json)
    if not found:
        advise("there is none: turnmill templates sync FOLDER")


@command.command("show")
@template_argument
@json_option
def show(*, template: str, as_json: bool) -> None:
    """Show what a version says, the current one unless named, and how many sessions use it."""
    with open_client() as client:
        found = client.templates.get(template)
        versions = client.templates.versions(found.name, limit=_VERSIONS)
        print_template(found, versions, client.templates.uses(found.name), as_json=as_json)


@command.command("diff")
@click.argument("before", metavar="NAME@VERSION")
@click.argument("after", metavar="[NAME@VERSION]", required=False)
@json_option
def diff(*, before: str, after: str | None, as_json: bool) -> None:
    """Show what differs between a version and another one: the current, unless it is named."""
    with open_client() as client:
        print_diff(client.templates.diff(before, after), as_json=as_json)


@command.command("roll-back")
@click.argument("name")
@click.argument("version", type=click.IntRange(1))
@json_option
def roll_back(*, name: str, version: int, as_json: bool) -> None:
    """Let an earlier version be current again, for sessions that are made from now on."""
    with open_client() as client:
        before = client.templates.get(name)
        found = client.templates.roll_back(name, to=version)
    nothing_to_do(before.version == found.version, "that is the current one")
    print_current(found, as_json=as_json)


@command.command("sessions")
@template_argument
@page_options("session")
def sessions(*, template: str, limit: int, after: str | None, as_json: bool) -> None:
    """List the sessions that were made from a template, or from one version of it."""
    with open_client() as client:
        print_page(
            partial(client.templates.sessions, template),
            SESSIONS,
            find=partial(session_of, client),
            after=after,
            limit=limit,
            as_json=as_json,
            nothing=f"none: turnmill send TEXT --template {template}",
        )


@command.command("rm")
@click.argument("name")
@yes_option
def rm(*, name: str, yes: bool) -> None:
    """Forget a template with all its versions; one that sessions were made from stays."""
    confirm(f"Forget {name} with all its versions?", yes=yes)
    with open_client() as client:
        client.templates.remove(name)
    tell(f"{on_one_line(name)} is forgotten")


@command.command("sync")
@click.argument("folder", envvar="TURNMILL_TEMPLATES", required=False, type=click.Path())
@click.option("--dry-run", is_flag=True, help="Tell what would be put, and put nothing.")
@json_option
def sync(*, folder: str | None, dry_run: bool, as_json: bool) -> None:
    """Put what the .yaml files of FOLDER say, or of TURNMILL_TEMPLATES: all of it, or nothing.

    A file is named as its template. What it says already, makes no new version.
    """
    if folder is None:
        raise click.UsageError("Missing argument 'FOLDER'; TURNMILL_TEMPLATES may name it.")
    with open_client() as client:
        done = client.templates.sync(folder, dry_run=dry_run)
    print_sync(done, dry_run=dry_run, as_json=as_json)
    if not done.put:
        say("no .yaml files there: nothing was put")
