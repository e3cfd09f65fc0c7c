"""Making the next piece of work while the last one is with somebody else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from turnmill.domain.errors import BegunBeforeFork
from turnmill.forking import Fork

T = TypeVar("T")


def prefetched(pieces: Iterator[T]) -> Iterator[T]:
    """Yield the pieces, each made on a thread while the caller still works with the one before.

    Worth it where the caller mostly waits, as for a database. An error is raised where its piece
    would have come.
    """
    done, fork = object(), Fork()
    with ThreadPoolExecutor(1, thread_name_prefix="turnmill-ahead") as thread:
        upcoming = thread.submit(next, pieces, done)
        while (piece := upcoming.result()) is not done:
            upcoming = thread.submit(next, pieces, done)
            yield piece  # type: ignore[misc]
            if fork.passed:
                raise BegunBeforeFork  # the thread is the parent's
