"""A watch on the event loop: code that blocks it is named in the log."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import FrameType

logger = logging.getLogger("turnmill.pool")

_FRAMES = 8


class LoopWatch:
    """Asks the loop for a sign of life, and looks where it is when none comes.

    A block of `too_long` plus `period` is always seen, a shorter one by chance. Of blocks that
    follow each other within `quiet`, the first is logged and the others are counted. As long as a
    block lasts, `blocked` is called each `too_long`, on the watch's thread.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        too_long: timedelta = timedelta(seconds=0.5),
        period: timedelta = timedelta(seconds=0.25),
        quiet: timedelta = timedelta(seconds=30),
        blocked: Callable[[], None] = lambda: None,
    ) -> None:
        self.blocks = 0  #: how often the loop has been blocked
        self.longest = timedelta(0)  #: the longest that it took to give a sign of life
        self._loop = loop
        self._too_long, self._period, self._quiet = too_long, period, quiet
        self._blocked = blocked
        self._unlogged = 0
        self._logged_at = float("-inf")
        self._stopped = threading.Event()
        self._alive = threading.Event()
        self._thread = threading.Thread(target=self._run, name="turnmill-watch", daemon=True)
        self._watched = 0

    def start(self, watched: threading.Thread) -> None:
        """Watch the loop, which runs on this thread."""
        self._watched = watched.ident or 0
        self._thread.start()

    def stop(self) -> None:
        """End the watch, before the loop is closed."""
        self._stopped.set()
        self._alive.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stopped.wait(self._period.total_seconds()):
            self._alive.clear()
            asked_at = time.monotonic()
            self._loop.call_soon_threadsafe(self._alive.set)
            if not self._alive.wait(self._too_long.total_seconds()):
                self._report()
                self._blocked()
                while not self._alive.wait(self._too_long.total_seconds()):
                    self._blocked()
            self.longest = max(self.longest, timedelta(seconds=time.monotonic() - asked_at))

    def _report(self) -> None:
        self.blocks += 1
        now = time.monotonic()
        frame = sys._current_frames().get(self._watched)
        if frame is None or now - self._logged_at < self._quiet.total_seconds():
            self._unlogged += 1
            return
        logger.warning(
            "the event loop is blocked for more than %.1f s (%d more times since the last such"
            " line); every task of this process waits for: %s",
            self._too_long.total_seconds(),
            self._unlogged,
            _place(frame),
        )
        self._logged_at, self._unlogged = now, 0


def _place(innermost: FrameType) -> str:
    """Return where the code is, from the inside out: functions, files and lines, no values."""
    places: list[str] = []
    frame: FrameType | None = innermost
    while frame is not None and len(places) < _FRAMES:
        code = frame.f_code
        places.append(f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})")
        frame = frame.f_back
    return " < ".join(places)
