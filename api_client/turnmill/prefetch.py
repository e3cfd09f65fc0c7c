"""Making the next piece of work while the last one is with somebody else."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from turnmill.domain.errors import BegunBeforeFork
from turnmill.forking import Fork

T = TypeVar("T")


def prefetched(pieces: Iterator[T]) -> Generator[T]:
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


async def async_prefetched(pieces: Iterator[T]) -> AsyncGenerator[T]:
    """Do what `prefetched` does, for a caller on an event loop."""
    done, loop = object(), asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="turnmill-ahead") as thread:
        upcoming = loop.run_in_executor(thread, next, pieces, done)
        while (piece := await upcoming) is not done:
            upcoming = loop.run_in_executor(thread, next, pieces, done)
            yield piece  # type: ignore[misc]
