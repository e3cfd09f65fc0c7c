"""How large a picture is, by its header: nothing is decoded."""

from collections.abc import Iterator
from typing import NamedTuple


class Size(NamedTuple):
    """Of a picture, in pixels."""

    width: int
    height: int


def png_size(head: bytes) -> Size | None:
    """Return what IHDR says, which comes first."""
    if head[12:16] != b"IHDR" or len(head) < 24:
        return None
    return Size(int.from_bytes(head[16:20]), int.from_bytes(head[20:24]))


def gif_size(head: bytes) -> Size | None:
    """Return the size of the screen that all frames are drawn on."""
    if len(head) < 13:
        return None
    return Size(_number(head[6:8]), _number(head[8:10]))


def webp_size(head: bytes) -> Size | None:
    """Return what the first chunk says, in each of its three forms."""
    form, data = head[12:16], head[20:30]
    if form == b"VP8X" and len(data) == 10:
        return Size(_number(data[4:7]) + 1, _number(data[7:10]) + 1)
    if form == b"VP8L" and len(data) >= 5 and data[0] == 0x2F:
        bits = _number(data[1:5])
        return Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if form == b"VP8 " and len(data) == 10 and data[3:6] == b"\x9d\x01\x2a":
        return Size(_number(data[6:8]) & 0x3FFF, _number(data[8:10]) & 0x3FFF)
    return None


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


#: Start of a frame, in each of its codings.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def jpeg_size(head: bytes) -> Size | None:
    """Return what the frame's header says, which stands behind thumbnails and profiles."""
    for marker, data in _segments(head):
        if marker in _FRAMES and len(data) >= 5:
            return Size(int.from_bytes(data[3:5]), int.from_bytes(data[1:3]))
    return None


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
