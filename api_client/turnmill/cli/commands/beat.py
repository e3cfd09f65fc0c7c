"""`turnmill beat`: Celery's beat, the clock of the schedule."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import click

from turnmill.cli.celery_program import (
    PASSES_ON,
    become,
    passed_on,
    require_worker_half,
    settings_of_servers,
)
from turnmill.domain.errors import InvalidSetting
from turnmill.ownership import doubt_about

#: What the kinds of dbm put behind a name.
_SUFFIXES = ("", ".db", ".dat", ".dir", ".bak", ".pag")


@click.command("beat", context_settings=PASSES_ON)
@click.option(
    "-s",
    "--schedule",
    type=click.Path(dir_okay=False),
    help="Where beat notes when it sent what.  [default: in TURNMILL_HOME]",
)
@click.pass_context
def command(ctx: click.Context, *, schedule: str | None) -> None:
    """Send what the schedule says. A second beat does no harm: each job runs once for its time.

    Further options go to `celery beat`: -l DEBUG, --pidfile FILE, …
    """
    require_worker_half("greenlet")
    settings = settings_of_servers(database=False)
    # What stands in the schedule is unpickled: whoever wrote it would run code here.
    if schedule is None:
        folder = settings.home / "beat"
        _make(folder)
        _refuse_another(settings.home, folder)
        # Not the file of a beat that `turnmill up` runs: two must not write one file.
        schedule = str(folder / "schedule-of-beat")
    else:
        _refuse_another(*(Path(schedule + suffix) for suffix in _SUFFIXES))
    os.umask(0o077)
    ours = [f"--schedule={schedule}", "--loglevel=INFO"]
    become("beat", passed_on(ctx, *ours), settings=settings, environ={})


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        # A full disk has no room for a folder either: beat says so, and goes on in memory.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _refuse_another(*paths: Path) -> None:
    for path in paths:
        if doubt := doubt_about(path):
            raise InvalidSetting(
                f"{path} is not believed: {doubt}",
                hint="chmod go-w, chown; or choose another TURNMILL_HOME, or another --schedule",
            )
