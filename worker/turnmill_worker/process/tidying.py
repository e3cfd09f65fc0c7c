"""Files that nobody uses go: first marked, then their bytes, then their rows. See `attachments`.

Killed between any two of these it goes on there; bytes that no row knows are found by listing.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from turnmill.domain.errors import FilesUnavailable
from turnmill.domain.ids import as_uuid
from turnmill.files.opened import file_store
from turnmill.files.port import FileStore, Stored
from turnmill.settings import Settings
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
from turnmill.store.file_records import Owed, key_of
from turnmill.store.nouns import attachments as rows

logger = logging.getLogger("turnmill.files")

#: Bytes without a row are left alone for so long: an older store may have been put back.
_SPARED_FOR = timedelta(hours=1)
#: What one run looks at; the next goes on.
_MOST_CHUNKS = 200
_CHUNK = 500


class Tidying:
    """What upkeep does about files. Blocks."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def tidy(self) -> dict[str, int]:
        """Let go of what nobody uses, and delete what is to go; how many of each."""
        marked = self._until_none(rows.mark_due)
        return {"files_seen": marked, "files_deleted": self._delete_owed()}

    def sweep(self) -> dict[str, int]:
        """Find what was missed: files without a use that say nothing, and bytes without a row."""
        unused = self._until_none(rows.find_unused)
        return {"files_unused": unused, "files_orphaned": self._delete_orphans()} | self.tidy()

    def _until_none(self, chunk: Callable[..., int]) -> int:
        total = 0
        for _ in range(_MOST_CHUNKS):
            with self._database.begin() as conn:
                done = chunk(conn, limit=_CHUNK)
            if not done:
                break
            total += done
        return total

    def _delete_owed(self) -> int:
        after: UUID | None = None
        deleted = 0
        for _ in range(_MOST_CHUNKS):
            with self._database.single() as conn:
                owed = rows.owed(conn, after=after, limit=_CHUNK)
            if not owed:
                break
            deleted += sum(map(self._deleted, owed))
            after = owed[-1].id
        return deleted

    def _deleted(self, owed: Owed) -> bool:
        try:
            self._store.delete(key_of(owed.user_id, owed.id))
        except FilesUnavailable as error:
            logger.warning("a file cannot be deleted: %s; it is tried again", error.code)
            return False
        with self._database.begin() as conn:
            rows.forget(conn, owed)
        return True

    def _delete_orphans(self) -> int:
        before = datetime.now(UTC) - _SPARED_FOR
        stored = self._store.keys()
        old = (one for one in stored if one.at < before)
        return sum(map(self._delete_unknown, _chunked(old)))

    def _delete_unknown(self, found: list[Stored]) -> int:
        """Delete what no row knows, and what was left of uploads that were killed."""
        ids = {one.key: _id_in(one.key) for one in found}
        with self._database.single() as conn:
            unknown = rows.unknown_among(conn, [one for one in ids.values() if one is not None])
        keys = [
            key for key, one in ids.items() if one is not None and (one in unknown or "." in key)
        ]
        for key in keys:
            self._store.delete(key)
        return len(keys)

    @property
    def _store(self) -> FileStore:
        lasting = self._database.can(Capability.LASTING)
        return file_store(self._settings, beside=self._database, lasting=lasting)


def _id_in(key: str) -> UUID | None:
    """Return which attachment a key is of; None: it is no key of ours, and left alone."""
    user, _, name = key.partition("/")
    if len(user) != 64 or user.strip("0123456789abcdef"):
        return None
    return as_uuid(name.partition(".")[0])


def _chunked(found: Iterable[Stored]) -> Iterator[list[Stored]]:
    coming: Any = iter(found)
    while chunk := list(islice(coming, _CHUNK)):
        yield chunk
