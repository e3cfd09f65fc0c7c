"""Tasks whose body is `async def`, under every pool that Celery has."""

import asyncio
import inspect
import os
import threading
from collections.abc import Coroutine
from typing import Any

from celery import Task

from turnmill_worker.bridge import await_here

_lock = threading.Lock()
_background: tuple[int, asyncio.AbstractEventLoop] | None = None


class AsyncTask(Task):
    """Runs a coroutine on the asyncio pool's loop; under other pools, on one beside them.

    The pool's worker (a thread, a process) waits for the coroutine there, as it would for any
    other task.
    """

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body. Celery's tracer calls this, within `self.request`."""
        result = self.run(*args, **kwargs)
        if not inspect.iscoroutine(result):
            return result
        return _wait_for(result)


def background_loop() -> asyncio.AbstractEventLoop:
    """Return the loop beside the pool; a forked child gets one of its own."""
    global _background
    with _lock:
        if _background is None or _background[0] != os.getpid():
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="turnmill-loop", daemon=True).start()
            _background = (os.getpid(), loop)
        return _background[1]


def _wait_for(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await_here(coroutine)
    except LookupError:
        return asyncio.run_coroutine_threadsafe(coroutine, background_loop()).result()
