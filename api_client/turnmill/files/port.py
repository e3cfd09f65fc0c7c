"""What a file store is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from turnmill.domain.errors import FilesUnavailable

#: Bytes are moved in pieces of up to this size, and never held whole.
CHUNK = 256 * 1024


class Stored(NamedTuple):
    """Bytes that lie in a store."""

    key: str
    size: int
    at: datetime  #: when they were written


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What bytes have turned out to be, when all of them were seen."""

    sha256: str
    size: int
    media_type: str
    name: str = field(default="", repr=False)
    width: int | None = None
    height: int | None = None
    duration: timedelta | None = None


class FileStore(Protocol):
    """Bytes under keys. All verbs block: on an event loop they are done on threads.

    Each raises FilesUnavailable where the store cannot do it. It may be used from any thread, and
    after a fork.
    """

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        """Keep the bytes, lastingly, in the place of others: all of them, or none.

        What iterating raises, it raises, and nothing is kept.
        """
        ...

    def chunks(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """Yield the bytes from `start` on, up to CHUNK at once; raises MissingBytes for none."""
        ...

    def size(self, key: str) -> int | None:
        """Return how many bytes there are; None: none are kept under the key."""
        ...

    def delete(self, key: str) -> None:
        """Delete the bytes; gone already counts as success."""
        ...

    def keys(self, prefix: str = "") -> Iterator[Stored]:
        """Yield what lies there, what was left of a `put` that was killed included."""
        ...


class MissingBytes(FilesUnavailable):
    """The bytes of an attachment are not where they were kept."""
