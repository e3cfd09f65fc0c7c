"""Whether the home is ours alone, and what of it stands elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from turnmill.cli.doctor.findings import Examination, Level, note, ok, wrong
from turnmill.ownership import doubt_about, read_our_note

_FIX = "choose another one with TURNMILL_HOME; or, if it is yours: chown, chmod go-w"


def check_home(examination: Examination) -> Iterator[tuple[Level, str, str]]:
    """Say why the home is not believed, or where all of it is; nothing where there is none."""
    settings = examination.settings
    home = settings.home
    if not home.is_dir():
        return
    if doubt := doubt_about(home):
        what = f"{home} is not believed: {doubt}"
        # With servers of its own, a command needs no home.
        yield note(what, _FIX) if settings.database_url else wrong(what, _FIX)
        return
    yield ok(f"{home.absolute()} is ours alone")
    try:
        data = read_our_note(home / "state" / "data-folder")
    except OSError:
        return
    yield note(f"the data of its Postgres are in {data}", "`turnmill home remove` removes both")
