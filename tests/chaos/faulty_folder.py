"""A beat's job that dies while it folds: `python -m tests.chaos.faulty_folder POINT`."""

import os
import signal
import sys
from datetime import UTC, datetime
from typing import Any

from turnmill import wire
from turnmill.store.analytics.folding import fold as real
from turnmill.store.database import Database
from turnmill_worker.upkeep import jobs
from turnmill_worker.upkeep.chunks import Chunks

#: Events of a page: several make up what there is.
PAGE = 25


def die() -> None:
    """Die without a word."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def main(point: str) -> None:
    """Fold, and die at the point: where a page is `uncommitted`, or `between` two of them."""
    folded = 0

    def fold(conn: Any, **options: Any) -> int:
        nonlocal folded
        if folded and point == "between":
            die()
        folded += real(conn, **options, limit=PAGE, slots=1)
        if point == "uncommitted":
            die()
        return folded

    setattr(jobs, "fold", fold)  # noqa: B010  it is theirs, and not to be had from there
    database = Database(os.environ["TURNMILL_DATABASE_URL"])
    chunks = Chunks(database, wire.ROLL_UP_USAGE, datetime.now(UTC))
    jobs.Upkeep(database, lambda name: None)._fold(chunks)  # type: ignore[arg-type,return-value]


if __name__ == "__main__":
    main(sys.argv[1])
