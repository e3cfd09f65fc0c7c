"""Bodies with attachments in them: JSON with gaps, filled while it is sent.

Whoever builds a body puts a gap where the bytes of an attachment belong. Nothing is read then: how
long the whole will be follows from the sizes, and the bytes go from the file store to the vendor in
small pieces, as base64 or as the text that they are.
"""

import codecs
import json
import re
import secrets
from base64 import b64encode
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from turnmill.domain.content import Attached
from turnmill.domain.errors import NotFound, NotSent, ProviderError, Rejected
from turnmill_worker.http1.body import Body
from turnmill_worker.providers.attached import files_of, info_of, sent_in
from turnmill_worker.providers.foreign import name_of
from turnmill_worker.providers.port import Request

#: Stands in no text of anybody's, since nobody is told it.
_SECRET = secrets.token_hex(16)
_MARK = f"<{_SECRET}".encode()
_GAP = re.compile(rf"<{_SECRET} (base64|text) ([\w-]{{1,64}})>".encode())
#: Bytes that are encoded at a time: a multiple of three.
_STEP = 48 * 1024


class _Gap(NamedTuple):
    """Where an attachment's bytes belong."""

    kind: str
    part: Attached
    length: int  #: of what fills it


def base64_of(request: Request, part: Attached) -> str:
    """Return what stands in a body for the bytes of an attachment, in base64.

    Raises Rejected where the request cannot fill it.
    """
    return _gap("base64", request, part)


def text_of(request: Request, part: Attached) -> str:
    """Return what stands in a body for a text that is attached, within a JSON string."""
    return _gap("text", request, part)


async def filled(body: bytes, request: Request) -> bytes | Body:
    """Return a body that was encoded, with the attachments in their places.

    Raises what reading them raises, which says that nothing was sent.
    """
    if _MARK not in body:
        return body
    split = _GAP.split(body)
    parts = {one.id: one for one in sent_in(request)}
    gaps: list[_Gap] = []
    for kind, given in zip(split[1::3], split[2::3], strict=True):
        part = parts[given.decode()]
        gaps.append(_Gap(kind.decode(), part, await _length_of(kind.decode(), part, request)))
    return _body_of(split[::3], gaps, request)


async def chunks_of(request: Request, part: Attached) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of an attachment; raises ProviderError for whatever stands in the way."""
    if part.id in request.made:
        yield request.made[part.id].said
        return
    try:
        async for chunk in files_of(request, part).chunks(part):
            yield chunk
    except ProviderError:
        raise
    except Exception as error:  # noqa: BLE001
        # The edge to a file store, whose errors may name what lies there.
        name, is_gone = name_of(error), isinstance(error, NotFound)
    else:
        return
    raise (Rejected if is_gone else NotSent)("attachment_unread", detail=name)


def _gap(kind: str, request: Request, part: Attached) -> str:
    if part.id not in request.made:
        files_of(request, part)
    return f"<{_SECRET} {kind} {part.id}>"


def _body_of(around: Sequence[bytes], gaps: Sequence[_Gap], request: Request) -> Body:
    async def pieces() -> AsyncGenerator[bytes, None]:
        for before, gap in zip(around, gaps, strict=False):
            yield before
            async with aclosing(_filling(gap.kind, gap.part, request)) as filling:
                left = gap.length
                async for piece in filling:
                    left -= len(piece)
                    if left < 0:
                        raise NotSent("attachment_changed")
                    yield piece
            if left:
                raise NotSent("attachment_changed")
        yield around[-1]

    return Body(sum(map(len, around)) + sum(gap.length for gap in gaps), pieces)


async def _length_of(kind: str, part: Attached, request: Request) -> int:
    if kind == "base64":
        return (info_of(request, part).size + 2) // 3 * 4
    async with aclosing(_filling(kind, part, request)) as filling:
        return sum([len(piece) async for piece in filling])


def _filling(kind: str, part: Attached, request: Request) -> AsyncGenerator[bytes, None]:
    chunks = chunks_of(request, part)
    return _in_base64(chunks) if kind == "base64" else _in_json(chunks)


async def _in_base64(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    rest = b""
    async with aclosing(chunks):
        async for chunk in chunks:
            given = rest + chunk if rest else chunk
            view = memoryview(given)
            whole = len(view) - len(view) % 3
            for start in range(0, whole, _STEP):
                yield b64encode(view[start : min(start + _STEP, whole)])
            rest = bytes(view[whole:])
    if rest:
        yield b64encode(rest)


async def _in_json(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield a text as it stands within a JSON string; what is no UTF-8 in it is replaced."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    async with aclosing(chunks):
        async for chunk in chunks:
            for start in range(0, len(chunk), _STEP):
                yield _escaped(decoder.decode(chunk[start : start + _STEP]))
    yield _escaped(decoder.decode(b"", final=True))


def _escaped(said: str) -> bytes:
    return json.dumps(said, ensure_ascii=False)[1:-1].encode()
