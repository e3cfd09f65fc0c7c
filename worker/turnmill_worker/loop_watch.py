"""A watch on the event loop: code that blocks it is named in the log."""

import asyncio
import logging
import sys
import threading
import time

logger = logging.getLogger("turnmill.pool")

_PERIOD = 0.25
_TOO_LONG = 0.5
_QUIET = 30.0


class LoopWatch:
    """Asks the loop for a sign of life, and looks where it is when none comes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.longest = 0.0  #: seconds that the loop was blocked at most
        self._loop = loop
        self._stopped = threading.Event()
        self._alive = threading.Event()
        self._watched: threading.Thread | None = None
        self._logged_at = 0.0
        self._thread = threading.Thread(target=self._run, name="turnmill-watch", daemon=True)

    def start(self, watched: threading.Thread) -> None:
        """Watch the loop that runs on this thread."""
        self._watched = watched
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(_PERIOD):
            self._alive.clear()
            asked_at = time.monotonic()
            self._loop.call_soon_threadsafe(self._alive.set)
            if not self._alive.wait(_TOO_LONG) and not self._stopped.is_set():
                self._report()
                while not self._alive.wait(1.0) and not self._stopped.is_set():
                    pass
            self.longest = max(self.longest, time.monotonic() - asked_at)

    def _report(self) -> None:
        if time.monotonic() - self._logged_at < _QUIET or self._watched is None:
            return
        self._logged_at = time.monotonic()
        frame = sys._current_frames().get(self._watched.ident or 0)
        if frame is None:
            return
        code = frame.f_code
        logger.warning(
            "the event loop has been blocked for %.1f s in %s (%s:%d)",
            _TOO_LONG,
            code.co_qualname,
            code.co_filename,
            frame.f_lineno,
        )
