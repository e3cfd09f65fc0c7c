"""The files of a stand-in: uploaded, listed in pages, deleted, and gone when their time is over."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from itertools import count
from typing import Any

from tests.doubles.vendor_double import Refused
from tests.validators.attached import PICTURES, is_of, size_of

MOST_BYTES = 512 * 2**20


@dataclass(slots=True, kw_only=True)
class StoredFile:
    """A file that the vendor keeps."""

    id: str
    filename: str
    media_type: str
    said: bytes = field(repr=False)
    created_at: float
    expires_at: float | None
    purpose: str = ""


class Files:
    """All files of one account."""

    def __init__(self, begins: str) -> None:
        self._begins = begins
        self._numbers = count(1)
        self._kept: dict[str, StoredFile] = {}
        self.uploads = 0

    @property
    def kept(self) -> Mapping[str, StoredFile]:
        """What is kept and has not expired."""
        now = time.time()
        alive = {n: one for n, one in self._kept.items() if (one.expires_at or now + 1) > now}
        self._kept = alive
        return alive

    def expire(self) -> None:
        """Let the time of all be over, as after a month."""
        for one in self._kept.values():
            one.expires_at = time.time() - 1

    def forget(self) -> None:
        """Keep nothing any more."""
        self._kept.clear()

    def add(self, form: Mapping[str, Any], *, seconds: object, purpose: str = "") -> StoredFile:
        """Keep what a form holds; raises Refused."""
        file = form.get("file")
        if not isinstance(file, tuple):
            raise Refused(400, "", "'file' is a required property")
        filename, media_type, said = file
        if not said or len(said) > MOST_BYTES:
            raise Refused(400, "", "File is empty or too large.")
        if not filename:
            raise Refused(400, "", "'filename' is missing")
        if media_type and not is_of(media_type, said):
            raise Refused(400, "", f"The file is not of the type {media_type}.")
        if media_type in PICTURES:
            _decode(said)
        lasts = int(seconds) if isinstance(seconds, str) and seconds.isdecimal() else None
        self.uploads += 1
        one = StoredFile(
            id=f"{self._begins}{next(self._numbers):08}",
            filename=filename.rpartition("/")[2],
            media_type=media_type,
            said=said,
            created_at=time.time(),
            expires_at=None if lasts is None else time.time() + lasts,
            purpose=purpose,
        )
        self._kept[one.id] = one
        return one

    def find(self, ref: str) -> StoredFile:
        """Return one that is kept; raises Refused."""
        if ref not in self.kept:
            raise Refused(404, "not_found_error", f"File not found: {ref}")
        return self._kept[ref]

    def delete(self, ref: str) -> None:
        """Delete one; raises Refused where there is none."""
        self.find(ref)
        del self._kept[ref]

    def check_refs(self, body: object) -> None:
        """Raise Refused for the name of a file that is not kept, or is none for its place."""
        for block, ref in _refs_in(body):
            one = self.find(ref)
            picture = block.get("type") in ("image", "input_image")
            if picture != (one.media_type in PICTURES):
                raise Refused(400, "invalid_request_error", f"{ref} is no file for this place")


def form_of(raw: bytes, content_type: str) -> dict[str, Any]:
    """Return the fields of a form: texts, and of files (name, media type, bytes)."""
    if not content_type.startswith("multipart/form-data"):
        raise Refused(400, "invalid_request_error", "Content-Type must be multipart/form-data")
    parsed = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + raw)
    fields: dict[str, Any] = {}
    for part in parsed.get_payload():
        assert isinstance(part, Message)
        name = str(part.get_param("name", header="content-disposition"))
        said = part.get_payload(decode=True)
        assert isinstance(said, bytes)
        filename = part.get_filename()
        text = said.decode(errors="replace")
        fields[name] = text if filename is None else (filename, part.get_content_type(), said)
    return fields


def _decode(said: bytes) -> None:
    try:
        size_of(said)
    except ValueError:
        raise Refused(400, "invalid_request_error", "Could not process image") from None


def _refs_in(body: object) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield each block that names a file, or whose source does, and the name."""
    if isinstance(body, dict):
        source = body.get("source")
        for holder in (body, body.get("file"), source):
            if isinstance(holder, dict) and isinstance(ref := holder.get("file_id"), str):
                yield body, ref
        for name, one in body.items():
            if name not in ("file", "source"):
                yield from _refs_in(one)
    elif isinstance(body, list | tuple):
        for one in body:
            yield from _refs_in(one)
