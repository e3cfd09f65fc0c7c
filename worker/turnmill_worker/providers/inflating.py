"""Undoing a content encoding, with a bound on what may come out of it."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from turnmill_worker.http1.failures import CutShort, TooLarge

#: What vendors are asked for: the two that Python's own zlib undoes in bounded steps.
ACCEPTED = "gzip, deflate"

_GZIP_MAGIC = b"\x1f\x8b"
_MOST_MEMBERS = 64  #: of a gzip stream; for each, zlib copies all that follows it
_MOST_ENCODINGS = 4


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
    for name in reversed(encodings):
        undo = _UNDO.get(name)
        if undo is None:
            raise Corrupt
        wire = undo(wire, most)
    return wire


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
