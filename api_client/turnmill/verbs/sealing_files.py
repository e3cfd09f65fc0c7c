"""Files that are plain, or sealed by a key of before: sealed anew, one after the other."""

import hashlib
import logging
import time
from collections.abc import Iterator
from datetime import timedelta

from turnmill.crypto.data_keys import DataKeys
from turnmill.crypto.wanted import Owner
from turnmill.domain.errors import DataKeyMissing, FilesUnavailable, SealBroken, UserErased
from turnmill.files.opened import file_store
from turnmill.files.port import MissingBytes
from turnmill.files.sealed import SealedFiles
from turnmill.settings import Settings
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
from turnmill.store.file_records import key_of
from turnmill.store.upkeep import resealing_files as rows
from turnmill.store.upkeep.resealing_files import ToSeal

logger = logging.getLogger("turnmill.upkeep")


class FilesToSeal:
    """The files of a store. Blocks; no transaction is open while a file is read or written."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        lasting = database.can(Capability.LASTING)
        files = file_store(settings, beside=database, lasting=lasting)
        self._files = files if isinstance(files, SealedFiles) else None

    def seal(self, *, within: timedelta) -> int:
        """Seal files for so long at the most; return how many were seen.

        What the file store cannot do now, it can the next time.
        """
        ends, seen = time.monotonic() + within.total_seconds(), 0
        try:
            while time.monotonic() < ends and (done := self.seal_next()):
                seen += done
        except FilesUnavailable as error:
            logger.warning("files: %s", error, extra={"action": "seal_files", "code": error.code})
        return seen

    def seal_next(self, *, limit: int = 20) -> int:
        """Look at up to `limit` files, and seal what is to be; return how many it saw.

        0: all were looked at. Killed at any point, it leaves each file as it was or as it is to be,
        and whoever goes on goes on behind the last page that was noted.
        """
        if self._files is None or self._database.keys is None:
            return 0
        page = self._database.run(rows.page, limit=limit)
        if page is None:
            return 0
        keys, files = self._database.keys, self._files
        sealed = sum(self._seal(keys, files, one) for one in page.files)
        self._database.run(rows.passed, page, sealed=sealed)
        return len(page.files)

    def _seal(self, keys: DataKeys, files: SealedFiles, file: ToSeal) -> bool:
        """Seal one file, if it is to be. What nobody can read, or is gone, stays as it is."""
        key = key_of(file.user_id, file.id)
        owner = Owner(file.user_id)
        try:
            keys.fetch(owners=[owner])
            was = files.sealed_by(key)
            if was == keys.current(owner).id:
                return False
            keys.note_folder(owner)
            seen = hashlib.sha256()
            files.put(key, _seen(files.chunks(key), seen))
        except (DataKeyMissing, MissingBytes, SealBroken, UserErased):
            return False
        if not self._database.run(rows.is_kept, file):
            files.delete(key)  # it was deleted meanwhile, and is not to be back
            return False
        if was is None and seen.hexdigest() == file.sha256:
            self._database.run(rows.rekey, file, seen.hexdigest())
        return True


def _seen(chunks: Iterator[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
