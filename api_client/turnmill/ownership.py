"""Whether a folder is ours alone: what stands in another's is not believed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

_MOST_STEPS = 1000  #: on the way to a folder, links included
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_LARGEST_NOTE = 65_536  #: bytes; what we note is a line


def doubt_about(folder: Path) -> str:
    """Return why others may have made what stands in the folder; empty where it is ours alone.

    They may where it belongs to another user or can be written by one, where a link of another
    leads to it, and where anybody may put another folder in its place.
    """
    if not hasattr(os, "geteuid"):  # no such owners there
        return ""
    ours = os.geteuid()
    trusted = {0, ours, Path("/").stat().st_uid}  # in a user namespace, root may be somebody else
    last = None
    try:
        for path, found in _steps(folder):
            if stat.S_ISLNK(found.st_mode) and found.st_uid not in trusted:
                return f"the link {path} belongs to uid {found.st_uid}"
            open_to_all = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
            if stat.S_ISDIR(found.st_mode) and open_to_all:
                return f"anybody may change what stands in {path}"
            last = found
    except FileNotFoundError:
        return ""  # nothing is there to be believed
    except OSError as error:
        return f"it cannot be looked at: {error.strerror}"
    return "" if last is None else doubt_about_owner(last, ours=ours)


def doubt_about_owner(found: os.stat_result, *, ours: int) -> str:
    """Return why a file or folder may be another's, by its own owner and mode."""
    if found.st_uid != ours:
        return f"it belongs to uid {found.st_uid}, and this is uid {ours}"
    if found.st_mode & _WRITABLE_BY_OTHERS:
        return f"others may write to it (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""


def read_our_note(path: Path) -> str:
    """Return what a short file of ours holds. Raises OSError where it is no such file, or too long.

    A link is not followed, a FIFO not waited for, and a file not believed that others may write.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(os.open(path, flags), encoding="utf-8") as file:
        found = os.fstat(file.fileno())
        ours = os.geteuid() if hasattr(os, "geteuid") else found.st_uid
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_NOTE:
            raise OSError(f"{path} is no note")
        if hasattr(os, "geteuid") and (doubt := doubt_about_owner(found, ours=ours)):
            raise OSError(f"{path} is not believed: {doubt}")
        return file.read(_LARGEST_NOTE)


def _steps(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield each folder and link on the way, the links' own ways included, and the folder last."""
    left = [part for part in reversed(Path(os.path.abspath(folder)).parts) if part != "/"]
    here = Path("/")
    for _ in range(_MOST_STEPS):
        if not left:
            return
        part = left.pop()
        if part == "..":
            here = here.parent
            continue
        here /= part
        found = here.lstat()
        yield here, found
        if stat.S_ISLNK(found.st_mode):
            target = here.readlink()
            here = Path("/") if target.is_absolute() else here.parent
            left += [part for part in reversed(target.parts) if part != "/"]
    raise OSError("too many links lead there")
