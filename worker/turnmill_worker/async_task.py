"""Tasks whose body is `async def`, under every pool that Celery has."""

import asyncio
import inspect
import os
import threading
from collections.abc import Coroutine
from typing import Any

from celery import Task

from turnmill_worker.bridge import await_here


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


class _Background:
    """The loop beside the pool: started on first use, and anew in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                threading.Thread(
                    target=self._loop.run_forever, name="turnmill-loop", daemon=True
                ).start()
            return self._loop


_background = _Background()


def background_loop() -> asyncio.AbstractEventLoop:
    """Return the loop that coroutines run on where the pool has none."""
    return _background.loop()


def _wait_for(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await_here(coroutine)
    except LookupError:
        return asyncio.run_coroutine_threadsafe(coroutine, background_loop()).result()
