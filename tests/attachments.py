"""Attachments of a test's own: real pictures, and what stands in for the file store."""

import io
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from struct import pack
from typing import Any

from turnmill.domain.content import Attached, Audio, File, Image

PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
WAV = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\0\0\0\0"


def a_png(width: int = 8, height: int = 8, *, filler: int = 0) -> bytes:
    """Return a grey picture, with so many bytes in it that nobody looks at."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + bytes([90]) * width) * height, 1)
    head = chunk(b"IHDR", pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    beside = chunk(b"prVt", bytes(filler)) if filler else b""
    return b"\x89PNG\r\n\x1a\n" + head + beside + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def size_of(said: bytes) -> tuple[int, int]:
    """Return width and height of any picture."""
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(said)) as opened:
        return opened.size


@dataclass(slots=True)
class Held:
    """Holds files in memory, and gives them in small chunks."""

    files: dict[str, bytes] = field(default_factory=dict)
    read_ids: list[str] = field(default_factory=list)  #: which were read, each time
    chunk: int = 1000

    async def kept(self, parts: Iterable[Attached]) -> Mapping[str, Any]:
        return {one.id: one for one in parts if one.id in self.files}

    async def info(self, part: Attached) -> Any:
        return part if part.id in self.files else None

    async def chunks(self, part: Attached, *, start: int = 0) -> AsyncIterator[bytes]:
        self.read_ids.append(part.id)
        said = self.files[part.id]
        for place in range(start, len(said), self.chunk):
            yield said[place : place + self.chunk]

    async def read(self, part: Attached, *, at_most: int) -> bytes:
        return self.files[part.id][:at_most]

    def image(self, said: bytes, name: str = "cat", **given: Any) -> Image:
        """Hold a picture; its part."""
        self.files[name] = said
        width, height = size_of(said)
        sizes: Any = {"size": len(said), "width": width, "height": height, "sha256": "0"}
        return Image(id=name, name=f"{name}.png", media_type="image/png", **sizes, **given)

    def file(self, said: bytes, media_type: str = "application/pdf", name: str = "paper") -> File:
        """Hold a document; its part."""
        self.files[name] = said
        return File(id=name, name=f"{name}.x", media_type=media_type, size=len(said), sha256="0")

    def audio(self, said: bytes = WAV, media_type: str = "audio/wav", name: str = "q") -> Audio:
        """Hold a sound; its part."""
        self.files[name] = said
        return Audio(id=name, media_type=media_type, size=len(said), sha256="0")


#: What a test sends for each API: settings of a session.
APIS: Mapping[str, Mapping[str, Any]] = {
    "messages": {},
    "chain": {},
    "client": {"thread": "client"},
    "chat": {"api": "chat"},
}
