"""Processes of an earlier run that its supervisor could not take along when it was killed.

Linux ends them by itself, and this only waits for it; elsewhere this is what ends them.
"""

import contextlib
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from turnmill_worker.stack.home import Home
from turnmill_worker.stack.process import Child, wait_until

_LINUX = sys.platform.startswith("linux")
_PREFIX = "child-"
_PS_TIMEOUT_S = 5.0


def record(home: Home, child: Child) -> None:
    """Note a child in the home, with what tells it from a later process of the same number."""
    home.remember(_PREFIX + child.program.name, f"{child.pid} {started(child.pid)}")


def forget_all(home: Home) -> None:
    """Note that none is left."""
    for name in home.remembered_names(_PREFIX):
        home.forget(name)


def reap(home: Home, *, grace: timedelta = timedelta(seconds=4)) -> None:
    """Return when no process of an earlier run is left: asked to end, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in _alive(home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        wait_until(lambda: not _alive(home), timeout=grace)
    forget_all(home)


def _alive(home: Home) -> list[int]:
    alive = []
    for name in home.remembered_names(_PREFIX):
        number, _, then = (home.remembered(name) or "").partition(" ")
        if number.isdigit() and then and started(int(number)) == then:
            alive.append(int(number))
    return alive


def started(pid: int) -> str:
    """Return when a process began, in the system's own words, or "" when it is gone."""
    return _started_by_proc(pid) if _LINUX else _started_by_ps(pid)


def _started_by_proc(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    # The name, in parentheses, may hold anything; numbered fields follow: the state, and so on.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def _started_by_ps(pid: int) -> str:
    done = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        timeout=_PS_TIMEOUT_S,
        check=False,
    )
    return done.stdout.strip()
