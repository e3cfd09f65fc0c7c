"""The user that Postgres runs as, and what that user can reach."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from turnmill_worker.stack.errors import OutOfReach

_PROBE_TIMEOUT = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Account:
    """A user without privileges."""

    name: str
    uid: int
    gid: int

    def popen_arguments(self) -> dict[str, Any]:
        """Return what subprocess takes to run a program as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_run(self, program: Path) -> bool:
        """Return whether this user gets at the program and its libraries."""
        return self._succeeds(str(program), "--version")

    def can_enter(self, folder: Path) -> bool:
        """Return whether this user may pass through the folder and all above it."""
        return self._succeeds("test", "-x", str(folder))

    def _succeeds(self, *argv: str) -> bool:
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                timeout=_PROBE_TIMEOUT.total_seconds(),
                check=False,
                **self.popen_arguments(),
            )
        except (PermissionError, FileNotFoundError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0


def for_postgres() -> Account | None:
    """Return the user to run Postgres as, or None when it can run as ourselves.

    Postgres refuses to run as root.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise OutOfReach("Postgres does not run as root, and there is no user postgres or nobody")
