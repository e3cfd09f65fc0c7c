"""Files where content is encrypted: in frames, each sealed for its place in its file."""

from collections.abc import Iterable, Iterator
from itertools import chain

from turnmill.crypto.data_keys import DataKeys
from turnmill.crypto.envelope import MAGIC, is_sealed_file
from turnmill.crypto.sealing import FRAME_OVERHEAD, DataKey
from turnmill.crypto.wanted import KeyWanted
from turnmill.domain.errors import DataKeyMissing, FilesUnavailable, SealBroken
from turnmill.files.port import FileStore, MissingBytes, Stored

#: Bytes of a file that are sealed together: whoever reads a range reads these.
FRAME = 64 * 1024
_ID_BYTES = 22
_HEADER = len(MAGIC) + _ID_BYTES
_SEALED = FRAME + FRAME_OVERHEAD
#: A file is looked at again so often.
_TRIES = 3


class SealedFiles:
    """A file store whose files are sealed by their users' keys; those of before are plain."""

    def __init__(self, store: FileStore, keys: DataKeys | None) -> None:
        """Without `keys` files are kept plain, and what is sealed is refused."""
        self._store = store
        self._keys = keys

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        """Keep the bytes."""
        if self._keys is None:
            self._store.put(key, chunks)
            return
        owner = self._keys.owner_of_folder(key.partition("/")[0])
        if owner is None:
            raise DataKeyMissing("nobody has said whose file this is")
        try:
            by = self._keys.current(owner)
        except KeyWanted as wanted:
            self._keys.fetch(owners=wanted.owners)
            by = self._keys.current(owner)
        self._store.put(key, _sealed(by, key, chunks))

    def chunks(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """Yield the bytes from `start` on.

        A file may be sealed anew between a look at how it begins and one at the rest: it is looked
        at again then. Whoever has begun to read reads what was there to its end.
        """
        for _ in range(_TRIES):
            head, rest = self._opened(key)
            by = self._key(head) if is_sealed_file(head) else None
            found = (
                self._plain(key, head, rest, start) if by is None else self._open(key, by, start)
            )
            try:
                first = next(found, b"")
            except SealBroken:
                if by is None or self.sealed_by(key) == by.id:
                    raise
                continue
            if by is None and start and self.sealed_by(key) is not None:
                continue
            if first:
                yield first
            yield from found
            return
        raise FilesUnavailable("the file is being sealed anew again and again")

    def _open(self, key: str, by: DataKey, start: int) -> Iterator[bytes]:
        raw = self._store.size(key)
        if raw is None:
            raise MissingBytes()
        first, skipped = divmod(start, FRAME)
        last = max(-(-(raw - _HEADER) // _SEALED) - 1, 0)
        pieces = self._store.chunks(key, start=_HEADER + first * _SEALED)
        for n, frame in enumerate(_in_pieces(pieces, _SEALED), first):
            found = by.open_bytes(frame, about=_about(key, n, is_last=n == last))
            if found := found[skipped:]:
                yield found
            skipped = 0

    def size(self, key: str) -> int | None:
        """Return how many bytes there are."""
        raw = self._store.size(key)
        if raw is None or raw < _HEADER or self._keys is None:
            return raw
        head, rest = self._opened(key)
        _close(rest)
        if not is_sealed_file(head):
            return raw
        frames = -(-(raw - _HEADER) // _SEALED)
        return raw - _HEADER - frames * FRAME_OVERHEAD

    def delete(self, key: str) -> None:
        """Delete the bytes."""
        self._store.delete(key)

    def keys(self, prefix: str = "") -> Iterator[Stored]:
        """Yield what lies there, with the sizes that it has there."""
        return self._store.keys(prefix)

    def sealed_by(self, key: str) -> str | None:
        """Return the id of the data key that a file is sealed by; None: it is plain."""
        head, rest = self._opened(key)
        _close(rest)
        return _key_id(head) if is_sealed_file(head) else None

    def _opened(self, key: str) -> tuple[bytes, Iterator[bytes]]:
        """Return the first bytes, enough to tell what it is, and those behind them."""
        pieces = self._store.chunks(key)
        head = b""
        for piece in pieces:
            head += piece
            if len(head) >= _HEADER:
                break
        return head, pieces

    def _plain(self, key: str, head: bytes, rest: Iterator[bytes], start: int) -> Iterator[bytes]:
        if not start:
            yield from chain((head,) if head else (), rest)
            return
        _close(rest)
        yield from self._store.chunks(key, start=start)

    def _key(self, head: bytes) -> DataKey:
        if self._keys is None:
            raise DataKeyMissing("this file is encrypted, and no keys are set here")
        key_id = _key_id(head)
        try:
            return self._keys.key(key_id)
        except KeyWanted as wanted:
            self._keys.fetch(ids=wanted.ids)
            return self._keys.key(key_id)


def _key_id(head: bytes) -> str:
    return head[len(MAGIC) : _HEADER].decode("ascii", "replace")


def _sealed(by: DataKey, key: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the file as it is to lie; the last frame says that it is, so that none can be cut."""
    yield MAGIC + by.id.encode()
    n, held = 0, b""
    for frame in _in_pieces(chunks, FRAME):
        if held:
            yield by.seal_bytes(held, about=_about(key, n, is_last=False))
            n += 1
        held = frame
    yield by.seal_bytes(held, about=_about(key, n, is_last=True))


def _in_pieces(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the same bytes in pieces of this size; the last may be shorter, none is empty."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


def _about(key: str, n: int, *, is_last: bool) -> bytes:
    return f"{key}\0{n}\0{int(is_last)}\0".encode()


def _close(pieces: Iterator[bytes]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
