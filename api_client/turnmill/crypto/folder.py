"""A folder as a key store: one file for each user, by a hash of his id."""

import json
import os
import threading
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from turnmill.crypto.key_store import Forgotten, WrappedKey, welcome
from turnmill.domain.errors import DataKeyMissing
from turnmill.domain.ids import hash_of_user
from turnmill.lasting import make_lasting
from turnmill.new_ids import new_id

try:
    import fcntl
except ImportError:  # pragma: no cover  no such system is supported
    fcntl = None  # type: ignore[assignment]


class FolderKeys:
    """Keys below one folder, which nobody but its owner may read.

    It stands apart from the database for as long as nobody backs it up along with that. Whoever
    writes holds a lock on one file of it, so that processes of one machine may share it.
    """

    apart = True

    def __init__(self, root: Path, *, keeps: timedelta | None = None) -> None:
        """`keeps` is for how long backups of the folder are kept; None: there are none."""
        self._root = root
        self._keeps = keeps
        self._lock = threading.Lock()
        self._users: dict[str, str] = {}  # key id → the name of the file that it is in

    def get(self, *, ids: Collection[str] = (), users: Collection[str] = ()) -> list[WrappedKey]:
        """Return the keys with these ids, and all of these users."""
        with _as_ours():
            found = [key for user in users for key in self._of(_name_of(user))]
            left = set(ids) - {key.id for key in found}
            for key_id in left:
                found += [key for key in self._of(self._where(key_id)) if key.id == key_id]
        return found

    def add(self, keys: Sequence[WrappedKey]) -> None:
        """Keep keys, unless there is one of that version."""
        with self._writing():
            for key in welcome(keys, self._notes_on(keys)):
                known = self._of(_name_of(key.user))
                if not any((one.scope, one.version) == (key.scope, key.version) for one in known):
                    self._write(_name_of(key.user), [*known, key])

    def rewrap(self, key: WrappedKey, *, was: str) -> bool:
        """Keep it as it is wrapped now."""
        with self._writing():
            known = self._of(_name_of(key.user))
            ours = [one for one in known if one.id == key.id and one.wrapped_by == was]
            if not ours:
                return False
            changed = replace(ours[0], wrapped=key.wrapped, wrapped_by=key.wrapped_by)
            self._write(_name_of(key.user), [changed if one.id == key.id else one for one in known])
            return True

    def drop(self, ids: Collection[str]) -> int:
        """Write the files of their users anew, without them; what was there is overwritten."""
        gone = 0
        with self._writing():
            for name in {self._where(one) for one in ids} - {""}:
                known = self._of(name)
                left = [one for one in known if one.id not in ids]
                gone += len(known) - len(left)
                if len(left) < len(known):
                    self._overwrite(name)
                    self._write(name, left)
        return gone

    def forget(self, user: str) -> Forgotten:
        """Delete the user's file, and overwrite it before."""
        name = _name_of(user)
        with self._writing():
            known = self._of(name)
            path = self._root / name
            with suppress(FileNotFoundError):
                self._overwrite(name)
                path.unlink()
                make_lasting(self._root)
        now = datetime.now(UTC)
        until = None if self._keeps is None or not known else now + self._keeps
        return Forgotten(keys=len(known), at=now, apart=True, readable_until=until)

    def ls(self) -> Iterator[WrappedKey]:
        """Yield all keys."""
        with _as_ours():
            names = [one.name for one in self._root.glob("*.key")] if self._root.is_dir() else []
            found = [key for name in names for key in self._of(name)]
        yield from sorted(found, key=lambda key: key.id)

    def note_erasure(self, erasure_id: str, document: str) -> None:
        """Keep a note of an erasure."""
        with self._writing():
            self._put(_note_of(erasure_id), [erasure_id, document])

    def erasures(self) -> Iterator[tuple[str, str]]:
        """Yield the erasures that were noted."""
        with _as_ours():
            paths = sorted(self._root.glob("*.erased")) if self._root.is_dir() else []
            found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        yield from ((one[0], one[1]) for one in found)

    def close(self) -> None:
        """Do nothing: no file is held open."""

    def _notes_on(self, keys: Sequence[WrappedKey]) -> dict[str, str]:
        """Return the notes of erasures of these keys' users, by their hashes."""
        found = {}
        for one in {hash_of_user(key.user) for key in keys}:
            with suppress(FileNotFoundError):
                note = json.loads((self._root / _note_of(one)).read_text(encoding="utf-8"))
                found[one] = note[1]
        return found

    def _overwrite(self, name: str) -> None:
        with (self._root / name).open("r+b") as file:
            file.write(os.urandom(os.fstat(file.fileno()).st_size))
            file.flush()
            os.fsync(file.fileno())

    def _where(self, key_id: str) -> str:
        """Return the name of the file that holds a key; they are looked through once."""
        if key_id not in self._users:
            self._users = {key.id: _name_of(key.user) for key in self.ls()}
        return self._users.get(key_id, "")

    def _of(self, name: str) -> list[WrappedKey]:
        if not name:
            return []
        try:
            rows = json.loads((self._root / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        except ValueError:
            raise DataKeyMissing("a file of the key store cannot be read") from None
        return [_key_from(row) for row in rows]

    def _write(self, name: str, keys: list[WrappedKey]) -> None:
        self._put(name, [_row_of(key) for key in keys])

    def _put(self, name: str, document: list[Any]) -> None:
        beside = self._root / f"{name}.{new_id().hex}.part"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._root / name)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        make_lasting(self._root)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Let one writer at a time in."""
        with self._lock, _as_ours():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._root / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)


def _name_of(user: str) -> str:
    return f"{sha256(user.encode()).hexdigest()}.key"


def _note_of(erasure_id: str) -> str:
    return f"{sha256(erasure_id.encode()).hexdigest()}.erased"


def _row_of(key: WrappedKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "user": key.user,
        "scope": key.scope,
        "version": key.version,
        "wrapped_by": key.wrapped_by,
        "wrapped": b64encode(key.wrapped).decode(),
        "created_at": key.created_at.isoformat(),
    }


def _key_from(row: Any) -> WrappedKey:
    return WrappedKey(
        id=row["id"],
        user=row["user"],
        scope=row["scope"],
        version=row["version"],
        wrapped_by=row["wrapped_by"],
        wrapped=b64decode(row["wrapped"]),
        created_at=datetime.fromisoformat(row["created_at"]),
    )


@contextmanager
def _as_ours() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataKeyMissing(f"the key store: {os.strerror(error.errno or 0)}") from None
