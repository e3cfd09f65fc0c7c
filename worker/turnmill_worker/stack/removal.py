"""What `turnmill up` leaves on a machine, in its home and elsewhere, and how it goes."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from turnmill.running_home import LOCK_FILE, READY_FILE
from turnmill_worker.stack import leftovers, refuge
from turnmill_worker.stack.errors import NoHome, StackError
from turnmill_worker.stack.home import MARK, MARKED, Home

_STOPS_WITHIN = timedelta(seconds=12)  #: a `turnmill up` that was told to

#: What is ours in a folder that was there before, and may hold other things.
_OURS = ("beat", "files", "logs", "postgres", "secrets", "state", "valkey", READY_FILE, LOCK_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is there, by its places."""

    home: Path
    data: Path | None  #: of Postgres, where its user cannot reach the home
    programs: Sequence[Path]  #: copies that root's homes share


def look(home: Home) -> Left:
    """Return what is left of a home. Raises NoHome, and HomeOfAnother."""
    home.refuse_another()
    if not (home.path / LOCK_FILE).is_file() or not (home.path / "secrets").is_dir():
        raise NoHome(f"{home.path} is no home of `turnmill up`")
    return Left(home=home.path, data=home.data_elsewhere, programs=refuge.copies())


def remove(home: Home, *, programs: bool) -> None:
    """Remove a home with its data, wherever they are; with `programs`, the copies as well.

    Raises HomeInUse where `turnmill up` goes on running on it, and StackError where something
    stays.
    """
    left = look(home)
    with home.lock(patience=_STOPS_WITHIN):
        leftovers.reap(home)
        if left.data is not None and refuge.is_data_folder(left.data):
            _remove(left.data)
        for one in left.programs if programs else ():
            _remove(one)
        _remove_home(left.home)


def _remove_home(path: Path) -> None:
    mark = path / MARK
    if mark.is_file() and mark.read_text() == MARKED:  # we have made the folder
        _remove(path)
        return
    for name in _OURS:
        _remove(path / name)


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StackError(
            f"{error.filename or path} cannot be removed: {error.strerror}",
            hint="run it as the user that ran `turnmill up`",
        ) from error
