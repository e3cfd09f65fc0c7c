"""What is attached to a message, as the Messages API takes it."""

from typing import Any

from turnmill.domain.content import File, Image
from turnmill_worker.providers.attached import (
    PDF,
    PICTURES,
    Terms,
    info_of,
    is_text,
    sent_in,
    unsupported_type,
)
from turnmill_worker.providers.filling import base64_of, text_of
from turnmill_worker.providers.port import PictureBounds, Request
from turnmill_worker.providers.pricing import window

_MB = 2**20
#: Models that take in more than this are sent more pictures at once.
_SMALL_WINDOW = 200_000
_FEW, _MANY = 100, 600
#: What is sent with every turn of a session is uploaded, if it has so many bytes.
LARGE = _MB
#: From here on pictures have to be smaller.
_SOME = 20


def terms_of(request: Request) -> Terms:
    """Return what is taken: https://platform.claude.com/docs/en/build-with-claude/vision."""
    seen = window("anthropic", request.model) or 0
    return Terms(
        named=frozenset({File, Image}),
        pictures_max=_MANY if seen > _SMALL_WINDOW else _FEW,
        body_max=30 * _MB,  # of 32 that a request may have
    )


def bounds_of(request: Request) -> PictureBounds:
    """Return how large a picture may be: its base64 has up to 10 MB."""
    many = sum(isinstance(one, Image) for one in sent_in(request)) > _SOME
    side = 2000 if many else 8000
    return PictureBounds(bytes_max=10 * _MB // 4 * 3, side_max=side, side_seen=1568)


def picture_of(request: Request, part: Image) -> dict[str, Any]:
    """Return a picture as a block."""
    info = info_of(request, part)
    if info.media_type not in PICTURES:
        raise unsupported_type(info)
    if ref := request.uploaded.get(part.id):
        return {"type": "image", "source": {"type": "file", "file_id": ref}}
    source = {"type": "base64", "media_type": info.media_type, "data": base64_of(request, part)}
    return {"type": "image", "source": source}


def document_of(request: Request, part: File) -> dict[str, Any]:
    """Return a document as a block: a PDF, or a plain text."""
    info = info_of(request, part)
    if info.media_type != PDF and not is_text(info.media_type):
        raise unsupported_type(info)
    title = {"title": part.name[:500]} if part.name else {}
    if ref := request.uploaded.get(part.id):
        source = {"type": "file", "file_id": ref}
    elif info.media_type == PDF:
        source = {"type": "base64", "media_type": PDF, "data": base64_of(request, part)}
    else:
        source = {"type": "text", "media_type": "text/plain", "data": text_of(request, part)}
    return {"type": "document", "source": source, **title}
