"""`turnmill home`: what `turnmill up` keeps on this machine, and its removal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnmill.cli.celery_program import require_worker_half
from turnmill.cli.context import confirm, json_option, say, yes_option
from turnmill.cli.groups import CommandGroup
from turnmill.running_home import LOCK_FILE, is_held
from turnmill.settings import Settings
from turnmill.show.tables import print_facts, print_json, print_outcome

if TYPE_CHECKING:
    from turnmill_worker.stack.home import Home
    from turnmill_worker.stack.removal import Left

home_option = click.option(
    "--home",
    "path",
    type=click.Path(file_okay=False, path_type=Path),
    help="Which one.  [default: TURNMILL_HOME, or .turnmill]",
)


@click.group("home", cls=CommandGroup)
def command() -> None:
    """Show and remove what `turnmill up` keeps: data, passwords and logs.

    Run by root, the data of Postgres may stand outside of the home, where its user can reach them.
    """


@command.command("show")
@home_option
@json_option
def show(*, path: Path | None, as_json: bool) -> None:
    """Name every place where something of it is."""
    from turnmill_worker.stack import removal

    _print(removal.look(_home(path)), as_json=as_json)


@command.command("remove")
@home_option
@click.option("--programs", is_flag=True, help="Also copies of Postgres that root's homes share.")
@yes_option
@json_option
def remove(*, path: Path | None, programs: bool, yes: bool, as_json: bool) -> None:
    """Remove a home with all its data, wherever they are; `turnmill up` must not run on it."""
    from turnmill_worker.stack import removal

    home = _home(path)
    left = removal.look(home)
    places = " and ".join(str(place) for place in (left.home, left.data) if place is not None)
    confirm(f"Remove {places} with all sessions, turns and logs for good?", yes=yes)
    if is_held(left.home / LOCK_FILE):
        say("`turnmill up` runs on it: waiting for its end")
    removal.remove(home, programs=programs)
    print_outcome(f"removed {places}", {"home": str(left.home), "removed": True}, as_json=as_json)


def _home(path: Path | None) -> Home:
    require_worker_half("greenlet")
    from turnmill_worker.stack.home import Home

    return Home(path or Settings.from_env().home)


def _print(left: Left, *, as_json: bool) -> None:
    data = left.data or left.home / "postgres"
    programs = [str(one) for one in left.programs]
    if as_json:
        print_json({"home": str(left.home), "data": str(data), "programs": programs})
        return
    facts = [("home", left.home), ("data", data), *(("programs", one) for one in programs)]
    print_facts(facts)
