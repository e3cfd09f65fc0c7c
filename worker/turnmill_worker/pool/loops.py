"""Event loops of ours that other people's code can neither end nor keep from ending."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from traceback import extract_tb
from typing import Any

logger = logging.getLogger("turnmill.loops")

#: How long tasks that are left over may take to end when they are cancelled.
_PATIENCE = timedelta(seconds=2)


def run_to_end(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on the loop, and close the loop; raises what `main` raises.

    A task that somebody else has started may raise SystemExit, which ends a loop, or refuse to be
    cancelled, which keeps `asyncio.run` from returning. Neither is of consequence here.
    """
    loop.set_exception_handler(log_type)
    task = loop.create_task(main)
    try:
        while not task.done():
            try:
                loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as error:
                if task.done():
                    raise
                logger.error("a task wants to end the process: %s", type(error).__name__)
    finally:
        _cancel_the_rest(loop)
        loop.close()


def log_type(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """Log what nobody has handled, without its words: they may quote the user."""
    error = context.get("exception")
    if error is None:
        logger.error("unhandled on the event loop: %s", context.get("message"))
        return
    last = next(iter(reversed(extract_tb(error.__traceback__))), None)
    where = f"{last.filename}:{last.lineno}" if last else "an unknown place"
    logger.error("unhandled on the event loop: %s at %s", type(error).__name__, where)


def _cancel_the_rest(loop: asyncio.AbstractEventLoop) -> None:
    rest = asyncio.all_tasks(loop)
    for task in rest:
        task.cancel()
    if rest:
        waiting = asyncio.wait(rest, timeout=_PATIENCE.total_seconds())
        _, stubborn = loop.run_until_complete(waiting)
        if stubborn:
            logger.error("%d tasks do not end though they were cancelled", len(stubborn))
    loop.run_until_complete(loop.shutdown_asyncgens())
