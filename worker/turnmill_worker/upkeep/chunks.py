"""Work in chunks, each a commit of its own that says how far the job has come."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from turnmill.store.database import Database
from turnmill.store.upkeep import jobs

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: A job ends after so many chunks: what is left is done in the next slot.
MOST_CHUNKS = 200

#: Who rests does so for three times as long as a chunk took, within these bounds: turns come first.
_RESTS = 3
_SHORTEST_REST = 0.02
_LONGEST_REST = 2.0


class Chunks:
    """One run of a job: what it has counted so far stands in `job_runs` from chunk to chunk.

    Killed at any point, it has done whole chunks, and counted these.
    """

    def __init__(self, database: Database, name: str, slot: datetime) -> None:
        self._database = database
        self._name = name
        self._slot = slot
        self._counts: dict[str, int] = {}

    def do(
        self,
        what: str,
        chunk: Callable[..., int],
        *,
        within: timedelta | None = None,
        **options: Any,
    ) -> int:
        """Call a store function, each time in a transaction of its own, until it finds nothing.

        Up to 200 times; or else for so long, with rests between.
        """
        ends = None if within is None else time.monotonic() + within.total_seconds()
        total, calls = 0, 0
        while calls < MOST_CHUNKS if ends is None else time.monotonic() < ends:
            began = time.monotonic()
            done = self._database.run(self._chunk, what, chunk, options, total)
            if not done:
                break
            total += done
            calls += 1
            if ends is not None:
                rest = _RESTS * (time.monotonic() - began)
                time.sleep(min(max(rest, _SHORTEST_REST), _LONGEST_REST))
        return total

    def _chunk(
        self,
        conn: "Connection",
        what: str,
        chunk: Callable[..., int],
        options: dict[str, Any],
        total: int,
    ) -> int:
        done = chunk(conn, **options)
        if done:
            self.note(conn, what, total + done)
        return done

    def note(self, conn: "Connection", what: str, count: int) -> None:
        """Write down how much was done so far, in the transaction that does it."""
        self._counts[what] = count
        jobs.note_progress(conn, self._name, self._slot, result=self._counts)
