"""What uploading attachments to vendors needs of the store."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from turnmill.store.database import Database
from turnmill.store.line import uploads
from turnmill.store.records import Claim
from turnmill_worker.providers.port import Uploaded
from turnmill_worker.turn.patience import patiently

T = TypeVar("T")


class Uploads:
    """The uploads of one process, on one store. Raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mark: str | None = None

    async def mark(self) -> str:
        """Return what the names of this store's uploads bear; asked for once in a process."""
        if self._mark is None:
            self._mark = await self._run(uploads.mark)
        return self._mark

    async def uploaded(self, claim: Claim, ids: Sequence[str]) -> Mapping[str, str]:
        """Return the vendor's names of those attachments that it keeps for this session."""
        return await self._run(uploads.uploaded, claim, ids)

    async def begin_upload(self, claim: Claim, attachment_id: str, name: str) -> bool:
        """Note that an upload begins; False: the turn is no longer ours."""
        return await self._run(uploads.begin, claim, attachment_id, name)

    async def keep_upload(
        self, claim: Claim, attachment_id: str, name: str, done: Uploaded
    ) -> bool:
        """Note what it came to; False: nobody needs it any more."""
        return await self._run(
            uploads.keep, claim, attachment_id, name, ref=done.ref, expires_at=done.expires_at
        )

    async def drop_upload(self, claim: Claim, name: str) -> None:
        """Forget an upload that has certainly come to nothing."""
        await self._run(uploads.drop, claim, name)

    async def lost_uploads(self, claim: Claim, refs: Sequence[str]) -> None:
        """Give up files that the vendor says it does not have."""
        await self._run(uploads.lose, claim, refs)

    async def _run(self, step: Callable[..., T], *given: Any, **named: Any) -> T:
        """Run a step in a transaction of its own. See `patiently`."""

        def run() -> T:
            with self._database.begin() as conn:
                return step(conn, *given, **named)

        return await patiently(run)
