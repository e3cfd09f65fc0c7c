"""A store of files that lasts as long as its process: beside a store of turns that does."""

import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from turnmill.files.port import CHUNK, MissingBytes, Stored


class Memory:
    """Bytes in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[bytes, datetime]] = {}

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        """Keep the bytes."""
        whole = b"".join(chunks)
        with self._lock:
            self._kept[key] = whole, datetime.now(UTC)

    def chunks(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """Yield the bytes from `start` on."""
        with self._lock:
            found = self._kept.get(key)
        if found is None:
            raise MissingBytes()
        for at in range(start, len(found[0]), CHUNK):
            yield found[0][at : at + CHUNK]

    def size(self, key: str) -> int | None:
        """Return how many bytes there are."""
        with self._lock:
            found = self._kept.get(key)
        return None if found is None else len(found[0])

    def delete(self, key: str) -> None:
        """Delete the bytes."""
        with self._lock:
            self._kept.pop(key, None)

    def keys(self, prefix: str = "") -> Iterator[Stored]:
        """Yield what lies there."""
        with self._lock:
            found = [Stored(key, len(one), at) for key, (one, at) in self._kept.items()]
        return (one for one in found if one.key.startswith(prefix))
