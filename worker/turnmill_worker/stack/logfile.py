"""The log file of a child process, bounded."""

import errno
import os
import shutil
from pathlib import Path
from typing import BinaryIO

LARGEST = 20_000_000  #: bytes; beyond, the log moves to a file beside it, which it replaces
_ROOM = 2**20  #: bytes; with less, a disk is as good as full


def open_for_child(path: Path) -> BinaryIO:
    """Open the log for a new run of its program, readable by its owner only.

    Where there is no room for it, the program runs without one.
    """
    flags = os.O_WRONLY | os.O_APPEND
    try:
        keep_small(path)
        fd = os.open(path, flags | os.O_CREAT, 0o600)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        fd = os.open(os.devnull, flags)
    return os.fdopen(fd, "ab")


def keep_small(path: Path, *, largest: int = LARGEST) -> None:
    """Move what stands in a log beyond `largest` bytes to `<name>.1`, also while it is written.

    Lines written between the copy and the cut are lost: this bounds the disk, it does not archive.
    Where there is no room for two, both are given up: nobody stops running for want of a log.
    """
    if not path.exists() or path.stat().st_size <= largest:
        return
    older = path.with_name(path.name + ".1")
    try:
        shutil.copy2(path, older)
    except OSError:
        older.unlink(missing_ok=True)
    os.truncate(path, 0)


def lacks_room(path: Path) -> bool:
    """Tell whether its disk is full: then a log says nothing, and a program ends in silence."""
    try:
        return shutil.disk_usage(path.parent).free < _ROOM
    except OSError:
        return False


def tail(path: Path, *, lines: int = 20) -> str:
    """Return the last lines of a log, or "" where there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 16_384))
            text = log.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
