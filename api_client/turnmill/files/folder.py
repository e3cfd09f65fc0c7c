"""A folder as a file store: the default."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from turnmill.domain.errors import FilesUnavailable
from turnmill.files.port import CHUNK, MissingBytes, Stored
from turnmill.lasting import make_lasting
from turnmill.new_ids import new_id

_KEY = re.compile(r"[0-9a-f]{64}/[0-9a-f]{32}")
#: Of what is being written, until it is whole.
_PART = ".part"


class Folder:
    """Files below one folder, which nobody but its owner may read.

    Written beside, made lasting, and renamed: under its key a file is whole, or not there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        """Keep the bytes."""
        path = self._path(key)
        beside = path.with_name(f"{path.name}.{new_id().hex}{_PART}")
        try:
            with _as_ours():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb", buffering=0) as file:
                for chunk in chunks:
                    with _as_ours():
                        _write(file.fileno(), chunk)
                with _as_ours():
                    os.fsync(file.fileno())
            with _as_ours():
                beside.replace(path)
                make_lasting(path.parent)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise

    def chunks(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """Yield the bytes from `start` on."""
        with _as_ours():
            file = self._path(key).open("rb", buffering=0)
        with file:
            file.seek(start)
            while True:
                with _as_ours():
                    piece = file.read(CHUNK)
                if not piece:
                    return
                yield piece

    def size(self, key: str) -> int | None:
        """Return how many bytes there are."""
        try:
            with _as_ours():
                return self._path(key).stat().st_size
        except MissingBytes:
            return None

    def delete(self, key: str) -> None:
        """Delete the bytes, and the folder of a user who has no others."""
        path = self._path(key)
        with suppress(MissingBytes), _as_ours():
            path.unlink()
        with suppress(OSError):
            path.parent.rmdir()

    def keys(self, prefix: str = "") -> Iterator[Stored]:
        """Yield what lies there."""
        with _as_ours():
            users = sorted(self._root.iterdir()) if self._root.is_dir() else []
        for user in users:
            if not user.is_dir():
                continue
            for path in sorted(user.iterdir()):
                key = f"{user.name}/{path.name}"
                if key.startswith(prefix) and (found := _seen(key, path)):
                    yield found

    def _path(self, key: str) -> Path:
        name = key.removesuffix(_PART).partition(".")[0]
        if not _KEY.fullmatch(name):
            raise ValueError("no key of ours")
        return self._root / key


def _seen(key: str, path: Path) -> Stored | None:
    name = key.partition(".")[0]
    if not _KEY.fullmatch(name) or (name != key and not key.endswith(_PART)):
        return None  # somebody else's: it is left alone
    try:
        told = path.stat()
    except OSError:
        return None
    return Stored(key, told.st_size, datetime.fromtimestamp(told.st_mtime, UTC))


def _write(descriptor: int, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        left = left[os.write(descriptor, left) :]


@contextmanager
def _as_ours() -> Iterator[None]:
    """Turn what the system says into an error of ours, which names no path."""
    try:
        yield
    except FileNotFoundError:
        raise MissingBytes() from None
    except OSError as error:
        raise FilesUnavailable(f"the folder of files: {os.strerror(error.errno or 0)}") from None
