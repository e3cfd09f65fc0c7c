"""Posting: events are divided among webhooks, and what is due is sent, beside the turns."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from turnmill.domain.errors import StoreError, StoreUnavailable, TurnmillError
from turnmill.domain.states import ENDINGS
from turnmill.net.public_address import Reach
from turnmill.store.database import Database
from turnmill.store.hook_records import Sent, ToSend
from turnmill.store.nouns import delivering, reading
from turnmill.store.nouns.reading import Hold
from turnmill.store.nouns.webhooks import READER
from turnmill_worker.providers.foreign import name_of
from turnmill_worker.webhooks.names import Names
from turnmill_worker.webhooks.sending import TIMEOUT, send
from turnmill_worker.webhooks.sharing import AT_ONCE, Sharing
from turnmill_worker.webhooks.signing import signed

logger = logging.getLogger("turnmill.webhooks")

T = TypeVar("T")

_POLL = 0.5
#: A request ends within its time; then it is another's to send.
_LEASE = timedelta(seconds=TIMEOUT * 2)


class Posting:
    """Divides and sends, while there are webhooks; others do, too, and nothing is sent by two."""

    def __init__(
        self, database: Database, *, owner: str, reach: Reach, timeout: float = TIMEOUT
    ) -> None:
        self._database = database
        self._owner = owner
        self._names = Names(reach)
        self._timeout = timeout
        self._hold: Hold | None = None
        self._kept_at = 0.0
        self._sharing = Sharing()
        self._requests: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look now. On the loop's thread."""
        self._woken.set()

    def stop(self) -> None:
        """Begin nothing any more. On the loop's thread."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Divide and send until it is stopped, through outages."""
        try:
            while not self._stopping:
                self._woken.clear()
                if not await self._attempted():
                    await self._rest()
            if self._requests:
                await asyncio.wait(self._requests)
        finally:
            for one in self._requests:
                one.cancel()
            if self._hold is not None:
                with suppress(StoreError):
                    await self._on(reading.give_back, self._hold)

    async def _attempted(self) -> bool:
        try:
            divided = await self._divide()
            return await self._begin() or divided
        except StoreError as error:
            logger.warning("webhooks: %s; trying again", error.code)
        except Exception as error:  # noqa: BLE001
            # The edge of this task: without it, nothing would be sent any more.
            logger.error("webhooks: %s; trying again", name_of(error))
        return False

    async def _divide(self) -> bool:
        """Write deliveries of what has happened, if no other process does."""
        hold = self._hold or await self._on(reading.hold, READER, owner=self._owner, lease=_LEASE)
        self._hold = hold
        if hold is None:
            return False
        if not await self._on(reading.waits, hold):
            await self._keep(hold)
            return False
        self._kept_at = time.monotonic()
        found = await self._on(delivering.divide, hold, lease=_LEASE)
        if found is None:
            self._hold = None
        return bool(found)

    async def _keep(self, hold: Hold) -> None:
        """Hold on, now and then, while there is nothing to divide."""
        now = time.monotonic()
        if now > self._kept_at + _LEASE.total_seconds() / 3:
            self._kept_at = now
            if not await self._on(reading.extend, hold, lease=_LEASE):
                self._hold = None

    async def _begin(self) -> bool:
        """Send what is due, as far as there is room; False where nothing was."""
        room = AT_ONCE - len(self._requests)
        if room <= 0:
            await asyncio.wait(self._requests, return_when=asyncio.FIRST_COMPLETED)
            return True
        found = await self._on(delivering.claim, room=self._sharing.room(room), lease=_LEASE)
        if self._stopping:
            await self._on(delivering.give_back, found)
            return False
        for one in found:
            self._sharing.begun(one.webhook_id)
            task = asyncio.create_task(self._send(one))
            self._requests.add(task)
            task.add_done_callback(self._requests.discard)
        return bool(found)

    async def _send(self, one: ToSend) -> None:
        sent = None
        try:
            sent = await self._tried(one)
            await self._settle(one, sent)
        except Exception as error:  # noqa: BLE001
            # The edge of a task that nobody waits for: it is due again when its lease is over.
            logger.error("a webhook was not sent to: %s; trying again", name_of(error))
        finally:
            self._sharing.ended(one.webhook_id, sent)
            self._woken.set()

    async def _tried(self, one: ToSend) -> Sent:
        """Send it once; where there is nothing that can be sent, that is a try, too."""
        try:
            content = await self._content(one) if one.include_content else None
            request = signed(one, content)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001
            # The edge to what stands in rows: one that cannot be read must not be tried for ever.
            code = error.code if isinstance(error, TurnmillError) else name_of(error)
            return Sent(ok=False, error_code=code)
        return await send(one.url, request, self._names, timeout=self._timeout)

    async def _content(self, one: ToSend) -> dict[str, Any] | None:
        """Return what it says in words: a reply, or the sentence of an alert or of a report."""
        if one.turn_id is not None and one.kind in ENDINGS:
            return await self._on(delivering.content_of, one.turn_id)
        if one.kind.startswith(("alert.", "report.")):
            from turnmill.store.analytics.telling import words_of  # noqa: PLC0415  few hear of any

            return await self._on(words_of, one.kind, one.session_id)
        return None

    async def _settle(self, one: ToSend, sent: Sent) -> None:
        await self._on(delivering.settle, one, sent)
        if not sent.ok:
            logger.warning(
                "webhook %s did not take %s: %s; try %d",
                one.webhook_id,
                one.kind,
                sent.error_code,
                one.tries,
                extra={"action": "webhook_failed", "webhook_id": str(one.webhook_id)},
            )

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL):
                await self._woken.wait()

    async def _on(self, verb: Callable[..., T], *args: object, **options: object) -> T:
        """Do something in a transaction of its own."""
        return await asyncio.to_thread(
            lambda: self._database.run(lambda conn: verb(conn, *args, **options))
        )
