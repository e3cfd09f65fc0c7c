"""Observing: a task for each observer of the operator's, which reads events beside the turns."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill_worker.observers.reader import Pace, Reader
from turnmill_worker.observers.registered import registered


class Observing:
    """All of them, started and stopped together."""

    def __init__(self, settings: Settings, database: Database, *, owner: str) -> None:
        """Raises InvalidSetting for observers that are not there."""
        timeout = settings.observer_timeout
        pace = Pace(timeout=timeout, lease=settings.lease + timeout)
        self._readers = [
            Reader(one, database, owner=owner, pace=pace) for one in registered(settings.observers)
        ]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start, on the loop's thread."""
        self._loop = loop
        self._tasks = [loop.create_task(reader.run()) for reader in self._readers]

    def wake(self) -> None:
        """Look now for what has happened. From any thread."""
        self._each(Reader.wake)

    def drain(self) -> None:
        """Begin no other call. From any thread."""
        self._each(Reader.stop)

    async def stop(self, *, within: timedelta, after_a_last_look: bool = False) -> None:
        """End, on the loop's thread; a call that lasts longer is given up, and made again later."""
        for reader in self._readers:
            reader.stop(after_a_last_look=after_a_last_look)
        if self._tasks:
            _, pending = await asyncio.wait(self._tasks, timeout=within.total_seconds())
            for task in pending:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _each(self, act: Callable[[Reader], None]) -> None:
        if self._loop is None:
            return
        with suppress(RuntimeError):  # the loop is closed
            for reader in self._readers:
                self._loop.call_soon_threadsafe(act, reader)
