"""An event loop that no code on it can end, and an exit of the process that no thread holds up."""

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401 - registers itself first, and is called after us
import functools
import logging
import os
import threading
from collections.abc import Callable
from datetime import timedelta

logger = logging.getLogger("turnmill.pool")

#: Where the interpreter begins its exit, before it waits for threads. Python has no public name
#: for that: `atexit` comes after the wait.
_at_exit: Callable[[Callable[[], None]], None] | None = getattr(threading, "_register_atexit", None)


def run_for_good(
    loop: asyncio.AbstractEventLoop, *, wanted: Callable[[], bool] = lambda: True
) -> None:
    """Run the loop as long as it is wanted, whatever its tasks raise.

    A `SystemExit` in a child task or in a callback comes out of `run_forever`, and `loop.stop()`
    is anybody's to call. Nothing is lost by going on: what was ready stays so. Returns early only
    when somebody has closed the loop.
    """
    while wanted() and not loop.is_closed():
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001
            logger.error("%s came out of the event loop; it goes on", type(error).__name__)
        else:
            if wanted():
                logger.error("a task has stopped the event loop; it goes on")


def bound_exit(patience: timedelta, *, code: Callable[[], int]) -> None:
    """From the interpreter's exit on, wait so long for threads that do not end; then leave them.

    For the program of a worker, once: a thread in which a task hangs, of an executor for example,
    would keep the process for ever.
    """
    if _at_exit is not None:
        _at_exit(functools.partial(_count_down, patience, code))


def _count_down(patience: timedelta, code: Callable[[], int]) -> None:
    timer = threading.Timer(patience.total_seconds(), _leave, (code,))
    timer.daemon = True
    timer.start()
    atexit.register(timer.cancel)  # called once no thread is waited for any more


def _leave(code: Callable[[], int]) -> None:
    # Daemons, too: an executor's threads are, where a daemon has started them, and are waited for.
    names = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
    logger.error(
        "the process leaves threads behind, of which some do not end: %s", ", ".join(names)
    )
    os._exit(code())
