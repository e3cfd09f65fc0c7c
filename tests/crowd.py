"""Many threads that start at one moment."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import TypeVar

from turnmill.store.database import Database
from turnmill_worker.stack.process import wait_until

T = TypeVar("T")

_WAITERS = "SELECT count(*) FROM pg_locks WHERE NOT granted"

#: A thread that is not done by then is stuck.
DEADLINE = 60.0
_SOON = timedelta(seconds=20)


def at_once(*calls: Callable[[], T]) -> list[T | Exception]:
    """Run the calls at the same moment, each in its thread; return results and errors in order."""
    start = Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | Exception:
        start.wait(timeout=DEADLINE)
        try:
            return call()
        except Exception as error:  # noqa: BLE001
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        futures = [threads.submit(run, call) for call in calls]
        return [future.result(timeout=DEADLINE) for future in futures]


def succeeded(results: Sequence[T | Exception]) -> list[T]:
    """Return the results, or raise the first error among them."""
    for result in results:
        if isinstance(result, Exception):
            raise result
    return [result for result in results if not isinstance(result, Exception)]


def until_blocked(store: Database, waiters: int = 1) -> None:
    """Return when so many connections wait for a lock on this server."""
    waiting = wait_until(lambda: is_blocked(store, waiters), timeout=_SOON)
    assert waiting, "nobody waits for a lock"


def is_blocked(store: Database, waiters: int = 1) -> bool:
    """Tell whether so many connections wait for a lock on this server."""
    with store.single() as conn:
        return int(conn.exec_driver_sql(_WAITERS).scalar_one()) >= waiters
