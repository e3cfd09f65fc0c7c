"""Undoing a content encoding, with a bound on what may come out of it."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from turnmill_worker.http1.failures import CutShort, TooLarge

#: What vendors are asked for: the two that Python's own zlib undoes in bounded steps.
ACCEPTED = "gzip, deflate"

_GZIP_MAGIC = b"\x1f\x8b"
_MOST_MEMBERS = 64  #: of a gzip stream; for each, zlib copies all that follows it
_MOST_ENCODINGS = 4
_STEP = 256 * 1024  #: bytes that a stream yields at a time


class Corrupt(Exception):
    """It is not what its header says, or nothing that was asked for."""


def encodings_of(header: str) -> tuple[str, ...]:
    """Return the encodings that a Content-Encoding names, in the order of their application."""
    names = (name.strip().lower() for name in header.split(","))
    return tuple(name for name in names if name not in {"", "identity"})


def inflated(wire: bytes, encodings: Sequence[str], *, most: int) -> bytes:
    """Return the body; raises TooLarge as soon as any step yields more than `most` bytes."""
    if len(encodings) > _MOST_ENCODINGS:
        raise Corrupt
    if not wire:
        return wire  # nothing was said, and so nothing packed
    for name in reversed(encodings):
        undo = _UNDO.get(name)
        if undo is None:
            raise Corrupt
        wire = undo(wire, most)
    return wire


class Inflating:
    """Undoes one encoding of a stream, as much of it as is there."""

    def __init__(self, encodings: Sequence[str]) -> None:
        """Raises Corrupt for what was not asked for; several, one upon the other, are that too."""
        if len(encodings) > 1 or not _UNDO.keys() >= {*encodings}:
            raise Corrupt
        self._name = encodings[0] if encodings else ""
        self._stream: Any = None  #: zlib names no type for it
        self._begun = b""
        self._members = 0

    def feed(self, wire: bytes) -> Iterator[bytes]:
        """Yield what comes out of the next bytes, at most `_STEP` bytes at a time."""
        if not self._name:
            yield wire
            return
        if self._stream is None:
            self._begun += wire
            if len(self._begun) < len(_GZIP_MAGIC):
                return
            wire = self._begun
            if self._is_undone(wire):
                self._name = ""
                yield wire
                return
            self._begin(wire)
        piece = b""
        while wire or len(piece) == _STEP:  # then there may be more in it
            piece = self._step(wire)
            if piece:
                yield piece
            wire = self._stream.unconsumed_tail or self._next_member()

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing of it is missing; of nothing at all, nothing is."""
        if self._stream is None and not self._begun:
            return True
        return not self._name or (self._stream is not None and self._stream.eof)

    def _is_undone(self, wire: bytes) -> bool:
        return self._name != "deflate" and not wire.startswith(_GZIP_MAGIC)

    def _begin(self, wire: bytes) -> None:
        if self._name != "deflate":
            bits = 16 + zlib.MAX_WBITS
        elif wire[0] & 0x0F == zlib.DEFLATED and int.from_bytes(wire[:2], "big") % 31 == 0:
            bits = zlib.MAX_WBITS
        else:
            bits = -zlib.MAX_WBITS  # without zlib's header, as some send it
        self._stream = zlib.decompressobj(bits)

    def _step(self, wire: bytes) -> bytes:
        try:
            return bytes(self._stream.decompress(wire, _STEP))
        except zlib.error:
            raise Corrupt from None

    def _next_member(self) -> bytes:
        rest: bytes = self._stream.unused_data
        if not rest.startswith(_GZIP_MAGIC):
            if len(rest) > _STEP:
                raise Corrupt
            return b""  # padding, if anything
        self._members += 1
        if self._members >= _MOST_MEMBERS:
            raise Corrupt
        self._begin(rest)
        return rest


def _gunzip(wire: bytes, most: int) -> bytes:
    if wire and not wire.startswith(_GZIP_MAGIC[: len(wire)]):
        return wire  # a proxy has undone it, and left the header as it was
    body, rest = b"", wire
    for _ in range(_MOST_MEMBERS):
        piece, rest = _stream(rest, 16 + zlib.MAX_WBITS, most - len(body))
        body += piece
        if not rest.startswith(_GZIP_MAGIC):
            return body  # padding
    raise Corrupt


def _undeflate(wire: bytes, most: int) -> bytes:
    try:
        return _stream(wire, zlib.MAX_WBITS, most)[0]
    except Corrupt:
        return _stream(wire, -zlib.MAX_WBITS, most)[0]  # without zlib's header, as some send it


def _stream(wire: bytes, bits: int, most: int) -> tuple[bytes, bytes]:
    """Return what the first stream in `wire` holds, and what follows it."""
    stream = zlib.decompressobj(bits)
    try:
        body = stream.decompress(wire, most + 1)
    except zlib.error:
        raise Corrupt from None
    if len(body) > most:
        raise TooLarge
    if not stream.eof:
        raise CutShort
    return body, stream.unused_data


_UNDO: Mapping[str, Callable[[bytes, int], bytes]] = MappingProxyType(
    {"gzip": _gunzip, "x-gzip": _gunzip, "deflate": _undeflate}
)
