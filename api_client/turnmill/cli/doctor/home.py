"""Whether the home is ours alone, and what of it stands elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

from turnmill.cli.doctor.findings import Examination, Findings, note, ok, wrong
from turnmill.ownership import doubt_about, read_our_note

_LITTLE_ROOM = 200 * 2**20
_FIX = "choose another one with TURNMILL_HOME; or, if it is yours: chown, chmod go-w"


def check_home(examination: Examination) -> Findings:
    """Say why the home is not believed, or where all of it is; nothing where there is none."""
    settings = examination.settings
    home = settings.home
    if not home.is_dir():
        return
    if doubt := doubt_about(home):
        what = f"{home} is not believed: {doubt}"
        # With servers of its own, a command needs no home.
        say = note if settings.database_url else wrong
        yield say(what, _FIX, code="home_of_another")
        return
    yield ok(f"{home.absolute()} is ours alone")
    yield from _room(home)
    try:
        data = read_our_note(home / "state" / "data-folder")
    except OSError:
        return
    yield note(f"the data of its Postgres are in {data}", "`turnmill home remove` removes both")


def _room(home: Path) -> Findings:
    free = shutil.disk_usage(home).free
    if free < _LITTLE_ROOM:
        what = f"its disk has {free // 2**20} MB left: data and logs are kept there"
        yield wrong(what, "make room on that disk", code="disk_full")
