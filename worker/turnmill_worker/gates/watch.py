"""The gates of a process, and the one look a second by which they know what stands in the rows."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from turnmill.domain.errors import StoreError
from turnmill.store.database import Database
from turnmill.store.nouns.accounts import read_closed
from turnmill.store.nouns.limits import read_limits
from turnmill.store.records import Head
from turnmill.store.upkeep.vitals import providers_lately
from turnmill_worker.gates.accounts import Accounts
from turnmill_worker.gates.limits import Limits
from turnmill_worker.gates.recalling import Recalling
from turnmill_worker.gates.rows import Rows
from turnmill_worker.layers.call import Call, Go, Layer
from turnmill_worker.providers.boundary import Answer

logger = logging.getLogger("turnmill.gates")

_EVERY = timedelta(seconds=1)
#: Which providers are in use changes seldom.
_PROVIDERS_EVERY = 10.0
_STOPS_WITHIN = timedelta(seconds=2)
#: A process that has just begun calls nobody before it has looked, or this is over.
_FIRST_LOOK_WITHIN = timedelta(seconds=5)


class Gates:
    """Limits and accounts. Started and stopped on the loop's thread."""

    def __init__(
        self,
        database: Database,
        *,
        owner: str,
        account_of: Callable[[str], str],
        announce: Callable[[Head], None],
        slots: Callable[[], int],
    ) -> None:
        """`slots` tells how many turns this process holds at once."""
        self._rows = Rows(database, owner=owner)
        self._recalling = Recalling(self._rows, announce)
        self._accounts = Accounts(self._rows, self._recalling, account_of=account_of)
        self._limits = Limits(
            self._rows,
            self._recalling,
            account_of=account_of,
            closed=self._accounts.refused,
            slots=slots,
        )
        self._woken = asyncio.Event()
        self._looked = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._providers: Sequence[str] = ()
        self._providers_at = -_PROVIDERS_EVERY
        self._refused: str | None = None

    @property
    def layers(self) -> Sequence[Layer]:
        """The gates, the outermost first."""
        return (self._limited, self._accounts.layer)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look from now on."""
        self._loop = loop
        self._task = loop.create_task(self._run())

    def wake(self) -> None:
        """Look now: something was closed, opened or limited. From any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)

    async def stop(self) -> None:
        """Look no more, and give permits back."""
        if self._task is not None:
            self._task.cancel()
        await self._accounts.stop()
        await self._recalling.stop()
        with suppress(TimeoutError, StoreError):
            async with asyncio.timeout(_STOPS_WITHIN.total_seconds()):
                await self._limits.stop()

    async def look(self) -> None:
        """Look once. Raises StoreError."""
        began = time.monotonic()
        if began - self._providers_at >= _PROVIDERS_EVERY:
            closed, limits, self._providers = await self._rows.read(
                read_closed, read_limits, providers_lately
            )
            self._providers_at = began
        else:
            closed, limits = await self._rows.read(read_closed, read_limits)
        self._accounts.look(closed, began=began)
        self._limits.look(limits, self._providers)
        self._looked.set()
        await self._accounts.tick()
        await self._limits.tick()

    def _limited(self, call: Call, go: Go) -> Awaitable[Answer]:
        """Let no call through of which it is not known yet what is closed, or limited."""
        if self._looked.is_set() or self._task is None:
            return self._limits.layer(call, go)
        return self._limited_once_known(call, go)

    async def _limited_once_known(self, call: Call, go: Go) -> Answer:
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LOOK_WITHIN.total_seconds()):
                await self._looked.wait()
        return await self._limits.layer(call, go)

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self.look()
                self._note(None)
            except StoreError as error:
                self._note(error.code)
            except Exception as error:  # noqa: BLE001
                # The edge of this task: without it, nothing closed would ever be known.
                logger.error("a look at limits failed: %s", type(error).__name__)
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY.total_seconds() * (0.8 + 0.4 * random.random())):
                    await self._woken.wait()

    def _note(self, refused: str | None) -> None:
        if refused is not None and refused != self._refused:
            logger.warning("cannot look at limits and accounts: %s; trying again", refused)
        self._refused = refused
