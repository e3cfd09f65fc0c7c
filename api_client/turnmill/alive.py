"""What a running worker or beat writes down about itself, and `turnmill health` reads.

A file of one line for each process, written anew every few seconds: asking takes neither Celery nor
a connection, and is answered whatever broker and database do. On a full disk, which has no room for
a file, a name that leads nowhere says the same in short: file systems keep a short one beside its
owner and rights, and not in a block of its own.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: So many times in a row it may fail to write before it counts as standing still.
_MISSES = 5.0
#: Of what a link says: ext4 has room for 59 bytes, others for more.
_LINKED = 59
_MARK = "turnmill"
_FULL = "its disk is full"


class State(StrEnum):
    """How far a process has come."""

    STARTING = "starting"
    READY = "ready"  #: takes turns, or sends what is due
    WAITING = "waiting"  #: for a server without which it can do neither
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What one process says of itself. No URL, no text of anybody's."""

    program: str  #: worker or beat
    pid: int
    born: str  #: tells it from a later process of the same number; empty where nobody knows
    at: float  #: when it was written, on the clock that all processes of this machine share
    every: float  #: seconds until it is written again
    state: State
    says: str

    @property
    def is_running(self) -> bool:
        """Tell whether the process still exists. It may stand still."""
        return _exists(self.pid) and _born(self.pid) == self.born

    @property
    def silent_for(self) -> float:
        """Return for how many seconds too long it has written nothing; 0 while it lives."""
        late = time.monotonic() - self.at
        # A time to come is one of before this machine was started.
        return 0.0 if 0.0 <= late <= self.every * _MISSES else max(late, self.every)


def folder_of(home: Path) -> Path:
    """Return where processes write, unless TURNMILL_ALIVE_FILE says where."""
    return home / "run"


def place_of(home: Path, program: str, pid: int) -> Path:
    """Return the file of one process."""
    return folder_of(home) / f"{program}-{pid}.json"


def sign(program: str, *, every: float, state: State, says: str = "") -> Sign:
    """Return what this process says now."""
    pid = os.getpid()
    return Sign(
        program=program,
        pid=pid,
        born=_born(pid),
        at=time.monotonic(),
        every=every,
        state=state,
        says=says,
    )


def write(path: Path, one: Sign) -> None:
    """Write it whole or not at all; raises OSError.

    A full disk has no room for a second file, but that of the first: who lives can say so there.
    Who has none yet makes a link.
    """
    line = (json.dumps(asdict(one)) + "\n").encode()
    unfinished = path.with_name(f"{path.name}.{one.pid}")
    try:
        unfinished.write_bytes(line)
        unfinished.replace(path)
    except OSError:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if path.is_file():
            _write_over(path, line)
        elif (said := _in_short(one)) is not None:
            unfinished.symlink_to(said)
            unfinished.replace(path)
        else:
            raise


def _in_short(one: Sign) -> str | None:
    """Return what a link leads to; None where that is too long."""
    born = one.born or "-"
    # Whole seconds that have passed: a time to come is none.
    said = f"{_MARK} {one.program} {one.pid} {born} {int(one.at)} {one.every:g} {one.state}"
    return said if len(said) <= _LINKED else None


def _of_link(said: str) -> Sign | None:
    mark, program, pid, born, at, every, state = said.split(" ")
    if mark != _MARK:
        return None
    return Sign(
        program=program,
        pid=int(pid),
        born="" if born == "-" else born,
        at=float(at),
        every=float(every),
        state=State(state),
        says=_FULL,
    )


def _write_over(path: Path, line: bytes) -> None:
    """Write in the place of what a file holds; raises OSError."""
    with path.open("rb+", buffering=0) as file:
        held = len(file.read())
        file.seek(0)
        file.write(line.ljust(held))  # at once: whoever reads now has the old line or this one


def make_room(home: Path, program: str) -> None:
    """Make the folder, and remove what processes have left that were killed; raises OSError."""
    if not home.is_dir():
        # As `turnmill up` makes it: no others may write, and root's Postgres may pass through.
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
        (home / ".gitignore").write_text("*\n", encoding="utf-8")
    folder_of(home).mkdir(mode=0o700, exist_ok=True)
    for path, found in _signs(home, program):
        if not found.is_running:
            path.unlink(missing_ok=True)


def read(path: Path) -> Sign | None:
    """Return what a file says; None where it says nothing that can be understood."""
    try:
        if not path.is_file():  # a FIFO would be waited for
            return _of_link(os.readlink(path)) if path.is_symlink() else None
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Sign(
            program=str(fields["program"]),
            pid=int(fields["pid"]),
            born=str(fields["born"]),
            at=float(fields["at"]),
            every=float(fields["every"]),
            state=State(fields["state"]),
            says=str(fields["says"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def signs(home: Path, program: str) -> list[Sign]:
    """Return what all processes of a program say that have written in this home, dead ones too."""
    return [found for _, found in _signs(home, program)]


def _signs(home: Path, program: str) -> Iterator[tuple[Path, Sign]]:
    for path in sorted(folder_of(home).glob(f"{program}-*.json")):
        if (found := read(path)) is not None and found.program == program:
            yield path, found


def _exists(pid: int) -> bool:
    if pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # somebody else's
    except (OSError, OverflowError):
        return False
    return True


def _born(pid: int) -> str:
    """Return when a process was started, in the kernel's words; empty where there is no /proc."""
    with suppress(OSError, IndexError):
        # The second field is a name, in parentheses, and may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
