"""Temporary files of tests lie in memory, where the machine lends room for them.

A run makes some hundred thousand files: those of databases are copied, stores of SQLite open a
journal for each transaction. On a disk that takes a sixth of all its time, without a byte of them
being looked at by anybody else.
"""

import os
import shutil
import tempfile
import time
from datetime import timedelta
from pathlib import Path

_MEMORY = Path("/dev/shm")
#: What a run needs at most at a time is a third of it.
_ROOM = 3 * 1024**3
#: How the homes of servers begin; one that is so old is of a run that was killed.
HOME, _OLD = "turnmill-test-", timedelta(hours=3)


def keep_files_in_memory(markers: str) -> None:
    """Have this process and its children do so: unless asked for tests that write gigabytes.

    Who says with TMPDIR where they are to lie is listened to.
    """
    if "TMPDIR" in os.environ or "not slow" not in markers or not _is_lent(_MEMORY):
        return
    _forget_killed_runs()
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


def _is_lent(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    runs_programs = not found.f_flag & os.ST_NOEXEC
    room = min(found.f_bavail * found.f_frsize, _memory_left())
    return runs_programs and os.access(folder, os.W_OK) and room > _ROOM


def _memory_left() -> int:
    """Return how much the machine has left, or the group of processes that we are in.

    The size of the folder says nothing of either.
    """
    said = dict(line.split(":", 1) for line in _lines("/proc/meminfo"))
    left = [int(said.get("MemAvailable", "0").split()[0]) * 1024]
    most, used = (_lines(f"/sys/fs/cgroup/{name}") for name in ("memory.max", "memory.current"))
    if most and used and most[0].isdigit():  # else it says "max"
        left.append(int(most[0]) - int(used[0]))
    return min(left)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def _forget_killed_runs() -> None:
    before = time.time() - _OLD.total_seconds()
    for home in _MEMORY.glob(f"{HOME}*"):
        if home.stat().st_mtime < before and home.stat().st_uid == os.getuid():
            shutil.rmtree(home, ignore_errors=True)
