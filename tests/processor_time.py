"""What this process and a server of Postgres have computed: for figures beside others that work."""

import os
import time
from pathlib import Path

from sqlalchemy import text

from turnmill.store.database import Database

_TICK = os.sysconf("SC_CLK_TCK")


class ProcessorTime:
    """Seconds of processor time, of this process and of all processes of one server."""

    def __init__(self, store: Database) -> None:
        with store.begin() as conn:
            backend = conn.scalars(text("SELECT pg_backend_pid()")).one()
        self._server = int(_stat(Path(f"/proc/{backend}"))[1])  # its parent

    def now(self) -> float:
        """Return how many there were so far; only differences mean something."""
        found = (_of(one) for one in Path("/proc").iterdir() if one.name.isdigit())
        ticks = sum(own for parent, own in filter(None, found) if parent == self._server)
        gone = _stat(Path(f"/proc/{self._server}"))  # of parallel workers, which come and go
        return time.process_time() + (ticks + int(gone[13]) + int(gone[14])) / _TICK


def _of(process: Path) -> tuple[int, int] | None:
    """Return its parent, and its ticks; None: it is gone."""
    try:
        found = _stat(process)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(found[1]), int(found[11]) + int(found[12])


def _stat(process: Path) -> list[str]:
    """Return what follows the name of the process: its state, its parent and so on."""
    return (process / "stat").read_text().rpartition(")")[2].split()
