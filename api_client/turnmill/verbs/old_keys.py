"""Data keys of before: dropped when nothing that is stored is sealed by them any more."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from turnmill.crypto.data_keys import DataKeys
from turnmill.crypto.key_store import WrappedKey
from turnmill.domain.auditing import Action
from turnmill.domain.errors import InvalidInput
from turnmill.files.opened import file_store
from turnmill.files.port import MissingBytes
from turnmill.files.sealed import SealedFiles
from turnmill.settings import Settings
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
from turnmill.store.file_records import folder_of
from turnmill.store.nouns.audit import audited
from turnmill.store.upkeep.keys_in_use import keys_in_use

#: Whoever has sealed something by the key of before has written it by then, or never will.
GRACE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What became of data keys that newer ones have taken the place of."""

    dropped: int
    used: int  #: something that is stored is sealed by them
    young: int  #: something may be about to be, or a backup may be


class OldKeys:
    """The data keys of a store that seal no more. Blocks."""

    def __init__(self, database: Database, settings: Settings) -> None:
        """Raises InvalidInput where nothing is encrypted."""
        if database.keys is None:
            raise InvalidInput(
                "nothing is encrypted here",
                hint="TURNMILL_ENCRYPTION_KEYS: `turnmill encryption init --out FILE` writes some",
            )
        self._database = database
        self._settings = settings
        self._keys: DataKeys = database.keys

    def count(self) -> int:
        """Return how many there are."""
        return sum(1 for _ in self._superseded())

    def drop(self, *, actor: str, older_than: timedelta = GRACE) -> Dropped:
        """Drop those that have sealed nothing for so long, a day at the least, and seal nothing.

        What is looked at is every row and every file of their users', and not what somebody has
        noted: a value that could not be sealed anew keeps its key.
        """
        before = datetime.now(UTC) - max(older_than, GRACE)
        found = list(self._superseded())
        old = [key for key, since in found if since < before]
        if not old:
            return Dropped(dropped=0, used=0, young=len(found))
        used = self._database.run(keys_in_use, {one.id for one in old})
        used |= self._in_files([one for one in old if one.id not in used])
        unused = {one.id for one in old if one.id not in used}
        if unused:
            self._database.run(
                audited, Action.KEYS_DROPPED, actor=actor, figures={"keys": len(unused)}
            )
        gone = self._keys.store.drop(unused) if unused else 0
        return Dropped(dropped=gone, used=len(used), young=len(found) - len(old))

    def _superseded(self) -> Iterator[tuple[WrappedKey, datetime]]:
        """Yield each key that seals no more, and since when."""
        of_owner: defaultdict[tuple[str, str], list[WrappedKey]] = defaultdict(list)
        for key in self._keys.store.ls():
            of_owner[key.user, key.scope].append(key)
        for known in of_owner.values():
            known.sort(key=lambda one: one.version)
            for key, next_ in pairwise(known):
                yield key, next_.created_at

    def _in_files(self, keys: Sequence[WrappedKey]) -> set[str]:
        """Return by which of these keys a file of their users' is sealed."""
        lasting = self._database.can(Capability.LASTING)
        files = file_store(self._settings, beside=self._database, lasting=lasting)
        if not isinstance(files, SealedFiles):
            return set()
        users = {one.user for one in keys if one.user}
        stored = (one.key for user in users for one in files.keys(f"{folder_of(user)}/"))
        return {found for one in stored if (found := _sealed_by(files, one)) is not None}


def _sealed_by(files: SealedFiles, key: str) -> str | None:
    try:
        return files.sealed_by(key)
    except MissingBytes:  # it went meanwhile
        return None
