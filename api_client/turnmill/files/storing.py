"""On its way in: a file is looked at, counted and hashed while it passes, and never held whole."""

import hashlib
from collections.abc import Iterator
from itertools import chain
from time import monotonic

from turnmill.domain.errors import AttachmentRefused, FilesQuotaExceeded
from turnmill.files.kinds import (
    HEAD,
    MOST_PIXELS,
    TAIL,
    Kind,
    kind_of,
    media_type_of,
    refuse_end,
    track_check,
)
from turnmill.files.pictures import Size
from turnmill.files.port import CHUNK, FileStore, Found
from turnmill.files.texts import TextCheck
from turnmill.files.tracks import TrackCheck

#: An upload has an hour before upkeep takes it for dead; this long it may take.
LONGEST = 15 * 60.0


class Storing:
    """One file on its way into the store.

    `begin` reads its first bytes and says what it is: what is refused by them leaves nothing
    behind. `finish` stores it, and what is refused by its end is deleted again. Both block.
    """

    media_type = ""  #: known when it has begun

    def __init__(self, chunks: Iterator[bytes], *, name: str, claimed: str, most: int) -> None:
        """`most` is how many bytes a file may have."""
        self._chunks = _small(chunks)
        self._name = name
        self._claimed = claimed
        self._most = most
        self._head = b""
        self._kind: Kind | None = None
        self._check: TextCheck | TrackCheck | None = None  #: of all bytes, while they pass
        self._pixels: Size | None = None

    def begin(self) -> None:
        """Read enough to tell what it is; raises AttachmentRefused."""
        head = bytearray()
        for piece in self._chunks:
            head += piece
            if len(head) >= HEAD:
                break
        self._head = bytes(head)
        if len(self._head) > self._most:
            raise too_large(self._most)
        self._kind = kind_of(self._head)
        kind = self._kind
        self._check = TextCheck() if kind is None else track_check(kind, self._head)
        self.media_type = media_type_of(self._kind, claimed=self._claimed, name=self._name)
        if self._kind is not None and self._kind.size is not None:
            self._pixels = self._kind.size(self._head)
            refuse_pixels(self._pixels)

    def finish(self, store: FileStore, key: str, granted: int) -> Found:
        """Store it, and return what it is; raises as `begin` does, or FilesQuotaExceeded."""
        passed = _Passed()
        store.put(key, self._passing(passed, granted))
        try:
            self._judge_end(passed)
        except BaseException:
            store.delete(key)
            raise
        width, height = self._pixels or (None, None)
        return Found(
            sha256=passed.sha256.hexdigest(),
            size=passed.size,
            media_type=self.media_type,
            name=self._name,
            width=width,
            height=height,
        )

    def _passing(self, passed: "_Passed", granted: int) -> Iterator[bytes]:
        until = monotonic() + LONGEST
        for piece in chain(_small(iter((self._head,))), self._chunks):
            passed.take(piece)
            if passed.size > self._most:
                raise too_large(self._most)
            if passed.size > granted:
                raise FilesQuotaExceeded("no more bytes are left than it has so far")
            if monotonic() > until:
                raise AttachmentRefused("the file takes too long to come")
            if self._check is not None:
                self._check.take(piece)
            yield piece

    def _judge_end(self, passed: "_Passed") -> None:
        if self._check is not None:
            self._check.end()
        if self._kind is not None:
            refuse_end(self._kind, self._head, bytes(passed.tail), passed.size)


class _Passed:
    """What is remembered of all bytes that have passed."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.tail = bytearray()

    def take(self, piece: bytes) -> None:
        self.sha256.update(piece)
        self.size += len(piece)
        self.tail += piece
        del self.tail[:-TAIL]


def refuse_pixels(size: Size | None) -> None:
    """Raise AttachmentRefused for a picture whose header cannot be, or would fill a memory."""
    if size is None or not size.width or not size.height:
        raise AttachmentRefused("the picture does not say how large it is")
    if size.width * size.height > MOST_PIXELS:
        raise AttachmentRefused(
            f"the picture has {size.width} × {size.height} pixels",
            hint=f"{MOST_PIXELS:,} are the most",
        )


def too_large(most: int) -> AttachmentRefused:
    """Return the error for a file that has too many bytes."""
    return AttachmentRefused(
        f"the file is larger than {most} bytes", hint="raise TURNMILL_MAX_FILE_BYTES"
    )


def _small(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in pieces of CHUNK at the most, none of them empty."""
    for piece in chunks:
        for at in range(0, len(piece), CHUNK):
            yield piece if len(piece) <= CHUNK else piece[at : at + CHUNK]
