"""How large a picture is, by its headers: nothing is decoded.

One file may say several sizes, of a canvas and of the frames on it: what counts is the largest,
for which a decoder may make room.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Size(NamedTuple):
    """Of a picture, in pixels."""

    width: int
    height: int


def _largest(sizes: Iterable[Size]) -> Size | None:
    """Return what holds them all, as a decoder may have to: a later header may say another size."""
    found = list(sizes)
    if not found:
        return None
    return Size(max(one.width for one in found), max(one.height for one in found))


def png_size(head: bytes) -> Size | None:
    """Return what IHDR says, which comes first; or a later one, or a frame, that is larger."""
    if head[12:16] != b"IHDR" or len(head) < 24:
        return None
    return _largest(_png_sizes(head))


def _png_sizes(head: bytes) -> Iterator[Size]:
    at = 8
    while at + 24 <= len(head):
        data, kind = at + 8, head[at + 4 : at + 8]
        if kind in (b"IHDR", b"fcTL"):
            data += 4 * (kind == b"fcTL")  # the number of a frame stands before its size
            yield Size(
                int.from_bytes(head[data : data + 4]), int.from_bytes(head[data + 4 : data + 8])
            )
        at += 12 + int.from_bytes(head[at : at + 4])


def gif_size(head: bytes) -> Size | None:
    """Return the size of the screen that frames are drawn on, or of what they need if more."""
    if len(head) < 13:
        return None
    screen = Size(_number(head[6:8]), _number(head[8:10]))
    frames = list(_gif_frames(head))
    return _largest([screen, *frames]) if frames and all(screen) else None


def gif_ends_at(head: bytes) -> int:
    """Return where the last block of a GIF ends; -1 where that is further than `head`."""
    at = -1
    for at, kind in _gif_blocks(head):
        if kind == b";":
            return at + 1
    return -1


def _gif_frames(head: bytes) -> Iterator[Size]:
    for at, kind in _gif_blocks(head):
        if kind == b"," and at + 9 <= len(head):
            left, top, width, height = (_number(head[at + n : at + n + 2]) for n in (1, 3, 5, 7))
            yield Size(left + width, top + height)


def _gif_blocks(head: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield where each block begins, and its first byte, to the last one or the end of `head`."""
    at = 13 + _colours(head[10])
    while at + 10 <= len(head) or head[at : at + 1] == b";":
        kind = head[at : at + 1]
        yield at, kind
        if kind == b"!":
            at += 2
        elif kind == b",":
            at += 11 + _colours(head[at + 9])
        else:
            return
        while at < len(head) and head[at]:
            at += 1 + head[at]
        at += 1


def _colours(flags: int) -> int:
    """Return how many bytes a table of colours takes."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def webp_size(head: bytes) -> Size | None:
    """Return the size of the canvas, or of a picture on it that is larger; None without any."""
    canvas, pictures = [], []
    for kind, data in _riff_chunks(head):
        if kind == b"VP8X" and len(data) >= 10:
            canvas.append(Size(_number(data[4:7]) + 1, _number(data[7:10]) + 1))
        elif kind == b"ANMF" and len(data) >= 16:
            pictures.append(Size(_number(data[6:9]) + 1, _number(data[9:12]) + 1))
        elif found := _of_a_bitstream(kind, data):
            pictures.append(found)
    return _largest(canvas + pictures) if pictures else None


def _of_a_bitstream(kind: bytes, data: bytes) -> Size | None:
    """Return what the picture itself says, in each of its two codings."""
    if kind == b"VP8L" and len(data) >= 5 and data[0] == 0x2F:
        bits = _number(data[1:5])
        return Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 " and len(data) >= 10 and data[3:6] == b"\x9d\x01\x2a":
        return Size(_number(data[6:8]) & 0x3FFF, _number(data[8:10]) & 0x3FFF)
    return None


def _riff_chunks(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and the first bytes of each chunk, and of those within a frame."""
    at = 12
    while at + 8 <= len(head):
        kind, length = head[at : at + 4], _number(head[at + 4 : at + 8])
        yield kind, head[at + 8 : at + 8 + min(length, 16)]
        # What a frame holds stands in chunks behind its own sixteen bytes.
        at += 24 if kind == b"ANMF" else 8 + length + length % 2


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


#: Start of a frame, in each of its codings.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def jpeg_size(head: bytes) -> Size | None:
    """Return what the frame's header says, which stands behind thumbnails and profiles."""
    return _largest(
        Size(int.from_bytes(data[3:5]), int.from_bytes(data[1:3]))
        for marker, data in _segments(head)
        if marker in _FRAMES and len(data) >= 5
    )


def _segments(head: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the segments before the picture itself: the marker of each, and what it holds."""
    at = 2
    while at + 4 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF:  # fills
            at += 1
            continue
        if marker == 0xDA:
            return
        length = int.from_bytes(head[at + 2 : at + 4])
        yield marker, head[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)
