"""A worker shows that it lives: its event loop touches a file, whatever broker and store do."""

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

logger = logging.getLogger("turnmill.alive")

_EVERY = timedelta(seconds=5)


class Alive:
    """Touches the file for as long as the loop turns. Used on that loop's thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._timer: asyncio.TimerHandle | None = None
        self._fails = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Touch it now, and again and again."""
        try:
            self._path.touch()
            self._fails = False
        except OSError as error:
            if not self._fails:  # once, until it can be touched again
                logger.warning("TURNMILL_ALIVE_FILE: %s", type(error).__name__)
            self._fails = True
        self._timer = loop.call_later(_EVERY.total_seconds(), self.start, loop)

    def stop(self) -> None:
        """Touch it no more. What it says then is out of date in a minute."""
        if self._timer is not None:
            self._timer.cancel()
