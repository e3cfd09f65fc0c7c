"""`turnmill migrate`: the database at this version's schema."""

from __future__ import annotations

import click

from turnmill.cli.context import confirm, json_option, print_json, say, yes_option


@click.command("migrate")
@click.option("--revision", default="head", show_default=True, help="Up to this revision.")
@click.option("--downgrade", metavar="REVISION", help="Back to this one; `base` removes all.")
@yes_option
@json_option
def command(*, revision: str, downgrade: str | None, yes: bool, as_json: bool) -> None:
    """Bring the database to this version's schema. Safe to run twice, and from two places at once.

    Workers of the version before go on while it runs. --downgrade loses what the later schema
    holds.
    """
    from turnmill.cli.running_home import settings_of_home
    from turnmill.store import migrate
    from turnmill.store.revision import HEAD, revision_of

    url = settings_of_home().database_url
    before = revision_of(url)
    if downgrade is not None:
        confirm(f"Go back from revision {before} to {downgrade}, and lose data?", yes=yes)
        migrate.downgrade(url, downgrade)
    else:
        migrate.upgrade(url, revision)
    after = revision_of(url)
    if as_json:
        print_json({"from": before, "to": after, "needed": HEAD})
        return
    moved = f"{before or 'nothing'} → {after or 'nothing'}"
    click.echo(f"schema {moved}" if before != after else f"schema {after}: nothing to do")
    if after != HEAD:
        say(f"this version needs revision {HEAD}: turnmill migrate")
