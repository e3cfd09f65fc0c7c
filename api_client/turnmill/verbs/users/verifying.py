"""Looking for a user everywhere: tables, files, a Redis; what is found is told by its place."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from turnmill.crypto.envelope import is_sealed_file
from turnmill.domain.errors import DataKeyMissing, FilesUnavailable, SealBroken
from turnmill.domain.ids import hash_of_user
from turnmill.files.opened import file_store
from turnmill.files.port import FileStore, MissingBytes
from turnmill.settings import Settings
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
from turnmill.store.file_records import key_of
from turnmill.store.nouns.traces import Remains, look_in_tables, unvacuumed
from turnmill.verbs.users.looking_in_redis import look_in_redis

_NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureCheck:
    """What was found of a user, and where it was looked."""

    user_hash: str
    remains: Sequence[Remains]
    columns: int  #: of tables, that were looked at
    files: int
    keys: int  #: of a Redis
    unseen: Sequence[str]  #: where nobody could look, and why
    #: rows of tables that are gone, and whose bytes lie in their files until VACUUM; of SQLite,
    #: pages of its log, while somebody reads them
    unvacuumed: int

    @property
    def clean(self) -> bool:
        """Tell whether nothing was found, and it was looked everywhere."""
        return not self.remains and not self.unseen


class Verifying:
    """Looks for users of one store. Blocks."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def verify(self, user_id: str, *, words: Sequence[str]) -> ErasureCheck:
        """Look everywhere; see `AsyncUsers.verify_erasure`."""
        unseen: list[str] = []
        schema = self._database.schema
        with self._database.snapshot() as conn:
            columns, remains = look_in_tables(conn, user_id, words, schema=schema, unseen=unseen)
            dead = unvacuumed(conn, schema=schema)
        dead += self._database.cut_log()
        files = self._look_in_files(user_id, words, remains, unseen)
        keys, found = look_in_redis(self._settings, user_id, words, unseen)
        remains += [Remains(where="redis", what=what, count=n) for what, n in found.items() if n]
        self._look_in_keys(user_id, remains, unseen)
        return ErasureCheck(
            user_hash=hash_of_user(user_id),
            remains=remains,
            columns=columns,
            files=files,
            keys=keys,
            unseen=unseen,
            unvacuumed=dead,
        )

    def _look_in_keys(self, user_id: str, remains: list[Remains], unseen: list[str]) -> None:
        """Look for data keys of his: one that came back, from a backup, opens dumps of before."""
        if self._database.keys is None:
            return
        try:
            found = self._database.keys.store.get(users=[user_id])
        except DataKeyMissing as error:
            unseen.append(f"keys: {error.code}")
            return
        if found:
            remains.append(Remains(where="keys", what="id", count=len(found)))

    def _look_in_files(
        self, user_id: str, words: Sequence[str], remains: list[Remains], unseen: list[str]
    ) -> int:
        """Look for files of the user's; for words in everybody's."""
        lasting = self._database.can(Capability.LASTING)
        folder = key_of(user_id, _NOBODY).partition("/")[0]
        wanted = [one.encode() for one in words]
        looked_at = his = saying = 0
        closed: set[str] = set()
        try:
            store = file_store(self._settings, beside=self._database, lasting=lasting)
            for one in store.keys("" if words else folder):
                looked_at += 1
                his += one.key.startswith(folder)
                try:
                    saying += any(_holds(store, one.key, word) for word in wanted)
                except (DataKeyMissing, SealBroken) as error:
                    closed.add(error.code)
        except FilesUnavailable as error:
            closed.add(error.code)
        unseen += (f"files: {code}" for code in sorted(closed))
        for what, count in (("id", his), ("word", saying)):
            if count:
                remains.append(Remains(where="files", what=what, count=count))
        return looked_at


def _holds(store: FileStore, key: str, word: bytes) -> bool:
    """Tell whether a file holds these bytes, also across two pieces of it."""
    return _in_pieces(lambda: store.chunks(key), word)


def _in_pieces(pieces: Callable[[], Iterator[bytes]], word: bytes) -> bool:
    before = b""
    try:
        for piece in pieces():
            if not before and is_sealed_file(piece):
                raise DataKeyMissing  # whoever has keys is given what is within
            if word in before + piece:
                return True
            before = (before + piece)[-len(word) :]
    except MissingBytes:
        return False  # it went meanwhile
    return False
