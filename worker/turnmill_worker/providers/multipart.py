"""Forms with a file in them, `multipart/form-data` (RFC 7578): sent in pieces, never held whole."""

import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain

from turnmill_worker.http1.body import Body

#: Of a file's name: what no server reads in two ways.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormFile:
    """A file in a form."""

    part: str = "file"  #: its name in the form
    name: str = field(repr=False)  #: what it is called; letters, digits, dots, - and _ of it are
    media_type: str
    size: int  #: bytes
    chunks: Callable[[], AsyncIterator[bytes]] = field(repr=False)  #: its bytes, each time anew


def form(fields: Mapping[str, str], *, file: FormFile) -> Body:
    """Return a form as a body: the fields, and the file behind them."""
    boundary = secrets.token_hex(16)
    texts = (_text(boundary, name, value) for name, value in fields.items())
    before = b"".join(chain(texts, [_beginning(boundary, file)]))
    after = f"\r\n--{boundary}--\r\n".encode()

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield before
        async for chunk in file.chunks():
            yield chunk
        yield after

    length = len(before) + file.size + len(after)
    return Body(length, pieces, content_type=f"multipart/form-data; boundary={boundary}")


def _text(boundary: str, name: str, value: str) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
    return f"{head}{value}\r\n".encode()


def _beginning(boundary: str, file: FormFile) -> bytes:
    name = _NOT_IN_NAMES.sub("_", file.name) or "file"
    disposition = f'form-data; name="{file.part}"; filename="{name}"'
    kind = re.sub(r"[^\x21-\x7e ]", "", file.media_type) or "application/octet-stream"
    return (
        f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {kind}\r\n\r\n"
    ).encode()
