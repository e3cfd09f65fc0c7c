"""Observing: what reads events beside the turns, for observers and for webhooks."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from turnmill.domain.errors import StoreError
from turnmill.net.public_address import Reach
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.nouns.batch_ends import tell_ends
from turnmill.store.nouns.delivering import is_any
from turnmill.store.nouns.subscribing import subscribe
from turnmill_worker.observers.reader import Pace, Reader
from turnmill_worker.observers.registered import Named, registered
from turnmill_worker.providers.foreign import name_of

logger = logging.getLogger("turnmill.observers")

#: Whether there are webhooks, and which batches have finished, is looked at so often.
_LOOK_EVERY = 1.0


class Observing:
    """All of them, started and stopped together."""

    def __init__(self, settings: Settings, database: Database, *, owner: str) -> None:
        """Raises InvalidSetting for observers that are not there."""
        timeout = settings.observer_timeout
        pace = Pace(timeout=timeout, lease=settings.lease + timeout)
        self._named = registered(settings.observers)
        self._readers = [Reader(one, database, owner=owner, pace=pace) for one in self._named]
        self._posts = _Posts(settings, database, owner=owner)
        self._database = database
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._watch: asyncio.Task[None] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start, on the loop's thread."""
        self._loop = loop
        self._tasks = [loop.create_task(reader.run()) for reader in self._readers]
        self._watch = loop.create_task(self._watching())

    def wake(self) -> None:
        """Look now for what has happened. From any thread."""
        self._each(Reader.wake)

    def drain(self) -> None:
        """Begin no other call. From any thread."""
        self._each(Reader.stop)
        self._call(self._posts.stop)

    async def stop(self, *, within: timedelta, after_a_last_look: bool = False) -> None:
        """End, on the loop's thread; a call that lasts longer is given up, and made again later."""
        for reader in self._readers:
            reader.stop(after_a_last_look=after_a_last_look)
        self._posts.stop()
        if self._watch is not None:
            self._watch.cancel()
        tasks = [*self._tasks, *self._posts.tasks]
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=within.total_seconds())
            for task in pending:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watching(self) -> None:
        """Say what the observers want, then look for webhooks and for batches that finished."""
        said = False
        while True:
            try:
                said = said or await asyncio.to_thread(_subscribe, self._database, self._named)
                if await asyncio.to_thread(_look, self._database):
                    self._posts.start()
            except StoreError as error:
                logger.warning("events: %s; trying again", error.code)
            except Exception as error:  # noqa: BLE001
                # The edge of this task, which nobody waits for.
                logger.error("events: %s; trying again", name_of(error))
            await asyncio.sleep(_LOOK_EVERY)

    def _each(self, act: Callable[[Reader], None]) -> None:
        for reader in self._readers:
            self._call(lambda one=reader: act(one))  # type: ignore[misc]

    def _call(self, act: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(act)


class _Posts:
    """What sends to webhooks: made, and even imported, as soon as there is one."""

    def __init__(self, settings: Settings, database: Database, *, owner: str) -> None:
        self._settings = settings
        self._database = database
        self._owner = owner
        self._stop: Callable[[], None] | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self._stopped = False

    def start(self) -> None:
        """Send from now on, on the loop's thread."""
        if self.tasks or self._stopped:
            return
        from turnmill_worker.webhooks.posting import Posting  # noqa: PLC0415

        reach = Reach.of(self._settings.webhook_allow)
        posting = Posting(self._database, owner=self._owner, reach=reach)
        self._stop = posting.stop
        self.tasks = [asyncio.get_running_loop().create_task(posting.run())]

    def stop(self) -> None:
        """Begin no other request. On the loop's thread."""
        self._stopped = True
        if self._stop is not None:
            self._stop()


def _subscribe(database: Database, named: Sequence[Named]) -> bool:
    with database.begin() as conn:
        for one in named:
            subscribe(conn, one.subscriber, one.asked.kinds)
    return True


def _look(database: Database) -> bool:
    with database.begin() as conn:
        tell_ends(conn)
        return is_any(conn)
