"""The files of turns: what messages refer to, and what a turn itself brings forth."""

import asyncio
import logging
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID

from turnmill.domain.content import Attached
from turnmill.domain.errors import AttachmentNotFound, NotSent, Rejected, StoreError
from turnmill.domain.ids import SessionId, TurnId, as_uuid
from turnmill.files.opened import file_store
from turnmill.files.port import FileStore, Found
from turnmill.files.storing import Storing
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
from turnmill.store.file_records import Attachment, AttachmentId, Owed, Reserved, key_of
from turnmill.store.line.attached import use
from turnmill.store.line.leases import holds
from turnmill.store.nouns import attachments as rows

if TYPE_CHECKING:
    from sqlalchemy import Connection

logger = logging.getLogger("turnmill.files")

T = TypeVar("T")

#: That read and write files for all turns of a process.
_THREADS = 16
#: Bytes that were there are not looked for again for so many seconds.
_SEEN_FOR = 60.0
_MOST_SEEN = 10_000
#: For the next piece of what a turn brings forth, in seconds.
_PATIENCE = 600.0


class OfTurn(Protocol):
    """Whose turn it is, under which fence: a Claim, or the Request that was made of one."""

    @property
    def user_id(self) -> str: ...
    @property
    def session_id(self) -> SessionId: ...
    @property
    def turn_id(self) -> TurnId: ...
    @property
    def fence(self) -> int: ...


class TurnFiles:
    """Files of all turns of one process. Nothing is opened before the first is asked for."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._opened: FileStore | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._seen: dict[AttachmentId, float] = {}

    async def kept(self, parts: Iterable[Attached]) -> Mapping[str, Attachment]:
        """Return what is known of those that are kept, each by the `id` of its part."""
        ids = {found for part in parts if (found := as_uuid(part.id)) is not None}
        return await self._asked(self._kept, ids)

    async def info(self, part: Attached) -> Attachment | None:
        """Return what is known of one; None: it is kept no longer."""
        return (await self.kept([part])).get(part.id)

    async def chunks(self, part: Attached, *, start: int = 0) -> AsyncIterator[bytes]:
        """Yield its bytes from `start` on, in pieces of up to 256 KiB, read as they are asked for.

        Raises NotSent with the code `attachment_gone` where they are there no longer.
        """
        found = await self.info(part)
        if found is None:
            raise NotSent("attachment_gone")
        pieces = self._store.chunks(key_of(found.user_id, found.id), start=start)
        try:
            while piece := await self._asked(next, pieces, b""):
                yield piece
        finally:
            await self._aside(_close, pieces)

    async def read(self, part: Attached, *, at_most: int) -> bytes:
        """Return all its bytes; raises Rejected where there are more."""
        found = bytearray()
        async for piece in self.chunks(part):
            found += piece
            if len(found) > at_most:
                raise Rejected("attachment_too_large")
        return bytes(found)

    async def keep(
        self,
        turn: OfTurn,
        chunks: AsyncIterable[bytes],
        *,
        media_type: str = "",
        name: str = "",
        duration: timedelta | None = None,
    ) -> Attachment:
        """Keep what a turn has brought forth, as its user's, and note that the turn holds it.

        Whoever has lost the turn meanwhile raises AttachmentNotFound, and nothing is kept. Raises
        AttachmentRefused and FilesQuotaExceeded as for a file of the user's own. A turn that keeps
        the same content twice, since its worker was lost in between, keeps it once.
        """
        loop = asyncio.get_running_loop()
        storing = Storing(
            _from_loop(chunks, loop),
            name=name,
            claimed=media_type,
            most=self._settings.max_file_bytes,
        )
        await self._aside(storing.begin)
        reserved = await self._aside(self._reserve, turn.user_id)
        try:
            key = key_of(turn.user_id, reserved.id)
            found = await self._aside(storing.finish, self._store, key, reserved.bytes)
            kept = await self._aside(self._stand, turn, reserved, replace(found, duration=duration))
        except Exception:
            with suppress(StoreError):  # upkeep sees to the rest
                await self._aside(self._give_back, reserved)
            raise
        if kept.id != reserved.id:
            await self._aside(self._remove, Owed(id=reserved.id, user_id=turn.user_id))
        return kept

    async def measured(self, attachment_id: AttachmentId, duration: timedelta) -> None:
        """Note how long it takes to hear an attachment."""
        await self._aside(self._measured, attachment_id, duration)

    def close(self) -> None:
        """Let the threads go."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def _store(self) -> FileStore:
        if self._opened is None:
            lasting = self._database.can(Capability.LASTING)
            self._opened = file_store(self._settings, beside=self._database, lasting=lasting)
        return self._opened

    async def _aside(self, function: Callable[..., T], *args: object) -> T:
        """Do it on a thread of ours: those of the loop are for the database."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="turnmill-files")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *args)

    async def _asked(self, function: Callable[..., T], *args: object) -> T:
        """Do what a call to a provider needs; raises NotSent: it waits until it can be done."""
        try:
            return await self._aside(function, *args)
        except StoreError as error:
            raise NotSent(error.code) from None

    def _kept(self, ids: Collection[UUID]) -> dict[str, Attachment]:
        found = self._database.run_single(rows.kept_among, ids)
        return {str(one.id): one for one in found.values() if self._is_there(one)}

    def _is_there(self, kept: Attachment) -> bool:
        """Tell whether its bytes are where they were kept, asking once a minute at the most."""
        now = monotonic()
        if self._seen.get(kept.id, 0.0) > now - _SEEN_FOR:
            return True
        if self._store.size(key_of(kept.user_id, kept.id)) != kept.size:
            logger.error("an attachment's bytes are missing", extra={"attachment": str(kept.id)})
            return False
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[kept.id] = now
        return True

    def _reserve(self, user_id: str) -> Reserved:
        return self._database.run(
            rows.reserve,
            AttachmentId(new_id()),
            user_id,
            most=self._settings.max_file_bytes,
            least=1,
            quota=self._settings.files_quota,
        )

    def _stand(self, turn: OfTurn, reserved: Reserved, found: Found) -> Attachment:
        return self._database.run(self._stand_now, turn, reserved, found)

    def _stand_now(
        self, conn: "Connection", turn: OfTurn, reserved: Reserved, found: Found
    ) -> Attachment:
        if not holds(conn, turn.session_id, turn.turn_id, fence=turn.fence):
            raise AttachmentNotFound("the turn is somebody else's by now")
        kept = rows.keep(conn, reserved, found, grace=self._settings.files_grace)
        use(conn, turn.session_id, turn.turn_id, [kept.id])
        return kept

    def _measured(self, attachment_id: AttachmentId, duration: timedelta) -> None:
        with self._database.begin() as conn:
            rows.measured(conn, attachment_id, duration)

    def _give_back(self, reserved: Reserved) -> None:
        with self._database.begin() as conn:
            owed = rows.give_back(conn, reserved)
        for one in owed:
            self._remove(one)

    def _remove(self, owed: Owed) -> None:
        self._store.delete(key_of(owed.user_id, owed.id))
        with self._database.begin() as conn:
            rows.forget(conn, owed)


def _close(pieces: Iterator[bytes]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()


def _from_loop(chunks: AsyncIterable[bytes], loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """Yield, on a thread, what comes on the loop."""
    coming = aiter(chunks)

    async def come() -> bytes | None:
        return await anext(coming, None)

    while (piece := asyncio.run_coroutine_threadsafe(come(), loop).result(_PATIENCE)) is not None:
        yield piece
