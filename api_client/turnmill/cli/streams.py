"""What a disk, a pipe or a locale does to stdin, stdout and stderr."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import TextIOWrapper
from types import MappingProxyType

from turnmill.domain.errors import InvalidText
from turnmill.show.terminal import guard_terminals, on_one_line, say

#: What can be done about an error of the system, by its number.
_HINTS: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOSPC: "make room, then run it again",
        errno.EDQUOT: "make room in the quota, then run it again",
        errno.EFBIG: "raise the limit of a file's size (ulimit -f), or choose another file system",
        errno.EROFS: "nothing can be written there: choose another folder (TURNMILL_HOME, -o)",
        errno.EACCES: "run it as the owner, or choose another folder (TURNMILL_HOME, -o)",
        errno.EPERM: "run it as the owner, or choose another folder (TURNMILL_HOME, -o)",
        errno.ENOENT: "name what exists; a current folder that was removed has to be left: cd",
        errno.EMFILE: "raise the limit of open files: ulimit -n",
        errno.ENAMETOOLONG: "choose a shorter name",
    }
)


def run(command: Callable[[], int], *, failed: int, interrupted: int) -> int:
    """Return the exit code of a command that may meet the end of a disk, a pipe or an encoding."""
    _make_usable()
    try:
        code = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = interrupted
    except (OSError, UnicodeError) as error:
        _explain(error)
        code = failed
    _drop_what_cannot_be_written()
    return code


def typed(what: str, *, most: int) -> str:
    """Read what is handed in on stdin, and no more of it than shows that it is too long."""
    try:
        return sys.stdin.read(most + 1)
    except UnicodeDecodeError:
        raise InvalidText(f"{what} is no UTF-8", hint="convert it, as with iconv") from None


def _explain(error: OSError | UnicodeError) -> None:
    if isinstance(error, BrokenPipeError):  # whoever reads has seen enough, as `head` does
        return
    if isinstance(error, UnicodeDecodeError):
        _tell(f"what was read is no {error.encoding} [unicode]", "convert it, as with iconv")
    elif isinstance(error, UnicodeEncodeError):
        _tell(f"a name cannot be written in {error.encoding} [unicode]", "set LANG=C.UTF-8")
    elif isinstance(error, OSError):
        number = error.errno or 0
        where = f": {error.filename}" if error.filename else ""
        name = errno.errorcode.get(number, "os_error").lower()
        _tell(f"{error.strerror or type(error).__name__}{where} [{name}]", _HINTS.get(number, ""))


def _tell(what: str, hint: str) -> None:
    with suppress(OSError):  # stderr may be what fails
        say(f"error: {on_one_line(what)}")
        if hint:
            say(f"hint: {hint}")


def _make_usable() -> None:
    """Give closed streams a place, let others print what they have no letters for; guard both."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # Otherwise the next socket would get this number.
            setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    guard_terminals()


def _drop_what_cannot_be_written() -> None:
    """Let Python find nothing to complain about when it flushes the streams once more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
