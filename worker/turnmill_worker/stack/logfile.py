"""The log file of a child process, bounded."""

import os
import shutil
from pathlib import Path
from typing import BinaryIO

LARGEST = 20_000_000  #: bytes; beyond, the log moves to a file beside it, which it replaces


def open_for_child(path: Path) -> BinaryIO:
    """Open the log for a new run of its program, readable by its owner only."""
    keep_small(path)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return os.fdopen(fd, "ab")


def keep_small(path: Path, *, largest: int = LARGEST) -> None:
    """Move what stands in a log beyond `largest` bytes to `<name>.1`, also while it is written.

    Lines written between the copy and the cut are lost: this bounds the disk, it does not archive.
    """
    if not path.exists() or path.stat().st_size <= largest:
        return
    shutil.copy2(path, path.with_name(path.name + ".1"))
    os.truncate(path, 0)


def tail(path: Path, *, lines: int = 20) -> str:
    """Return the last lines of a log, or "" where there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 16_384))
            text = log.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
