"""`turnmill up` as a process of its own, and the processes below it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

from turnmill_worker.stack.process import wait_until

READY_WITHIN = timedelta(seconds=60)
GONE_WITHIN = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Process:
    """A line of /proc."""

    pid: int
    parent: int
    argv: tuple[str, ...]


class Up:
    """A running `turnmill up --json`; leaving the block kills what is left of it."""

    def __init__(self, home: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "turnmill.cli", "up", "--json", "--home", str(home), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(env or {}),
        )
        self._seen: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.popen.kill()
        self.popen.communicate()
        wait_until(lambda: not self.survivors(), timeout=GONE_WITHIN)

    def ready(self) -> dict[str, object]:
        """Wait for the line on stdout."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, f"`up` ended: {self.popen.stderr.read() if self.popen.stderr else ''}"
        found: dict[str, object] = json.loads(line)
        self.descendants()
        return found

    def descendants(self) -> list[Process]:
        """Return all processes below `up`."""
        found = _below(self.popen.pid)
        self._seen |= {process.pid for process in found}
        return found

    def workers(self) -> list[Process]:
        return [process for process in self.descendants() if "worker" in process.argv]

    def survivors(self) -> list[Process]:
        """Return what was once seen below `up` and still runs."""
        return [process for process in _all() if process.pid in self._seen]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[str, str]:
        """Send a signal and wait; returns the rest of stdout, and stderr."""
        self.descendants()
        self.popen.send_signal(number)
        return self.popen.communicate(timeout=GONE_WITHIN.total_seconds())


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TURNMILL_")}
    return ours | dict(changes)


def _below(root: int) -> list[Process]:
    processes = _all()
    inside = {root}
    while more := {p.pid for p in processes if p.parent in inside} - inside:
        inside |= more
    return [process for process in processes if process.pid in inside - {root}]


def _all() -> list[Process]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            argv = (folder / "cmdline").read_text().split("\0")[:-1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            found.append(Process(int(folder.name), int(parent), tuple(argv)))
    return found
