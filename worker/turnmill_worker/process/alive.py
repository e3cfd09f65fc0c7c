"""A worker shows that it lives: its event loop writes a file, whatever broker and store do."""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from turnmill import alive
from turnmill.alive import State
from turnmill.settings import Settings

logger = logging.getLogger("turnmill.alive")

_EVERY_SECONDS = 2.0
#: While it starts: probes, and whoever has seen that it is ready, wait for the end of that.
_SOON_SECONDS = 0.1


class Noting:
    """Writes down how a process of one program does. What cannot be written is said once."""

    def __init__(
        self, settings: Settings, program: str, *, every: float, path: Path | None
    ) -> None:
        """`path` is where; None: a file of this process's own in the home."""
        self._home = settings.home
        self._program = program
        self._every = every
        self._path = path or alive.place_of(self._home, program, os.getpid())
        self._is_own = path is None
        self._fails = False

    def note(self, state: State, says: str = "") -> None:
        """Write it down now."""
        try:
            if self._is_own:
                alive.make_room(self._home, self._program)
                self._is_own = False  # once
            alive.write(
                self._path, alive.sign(self._program, every=self._every, state=state, says=says)
            )
            self._fails = False
        except OSError as error:
            if not self._fails:  # once, until it can be written again
                logger.warning("health cannot be noted in %s: %s", self._path, error.strerror)
            self._fails = True

    def remove(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class Alive:
    """Says how a worker does for as long as its loop turns. Used on that loop's thread."""

    def __init__(self, settings: Settings, doing: Callable[[], tuple[State, str]]) -> None:
        self._noting = noting_of_worker(settings)
        self._doing = doing
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say it now, and again and again."""
        state, says = self._doing()
        self._noting.note(state, says)
        pause = _SOON_SECONDS if state is State.STARTING else _EVERY_SECONDS
        self._timer = loop.call_later(pause, self.start, loop)

    def stop(self) -> None:
        """Say it no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._noting.remove()


def noting_of_worker(settings: Settings) -> Noting:
    """Return what a worker writes its state down with."""
    return Noting(settings, "worker", every=_EVERY_SECONDS, path=settings.alive_file)
