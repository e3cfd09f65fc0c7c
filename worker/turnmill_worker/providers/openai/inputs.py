"""What is attached to a message, as OpenAI's two APIs take it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from turnmill.domain.content import Audio, File, Image, Part, Text
from turnmill_worker.providers.attached import (
    PDF,
    PICTURES,
    FileInfo,
    Terms,
    info_of,
    is_text,
    unsupported_type,
)
from turnmill_worker.providers.filling import base64_of, text_of
from turnmill_worker.providers.fitting import unsupported
from turnmill_worker.providers.port import PictureBounds, Request

_MB = 2**20

#: Of the Responses API: https://developers.openai.com/api/docs/guides/images-vision, …/pdf-files.
RESPONSES = Terms(named=frozenset({File, Image}), pictures_max=500, body_max=50 * _MB)
#: Of chat completions: a picture has no name there, and no other document than a PDF.
CHAT = Terms(
    named=frozenset({File}),
    pictures_max=500,
    body_max=50 * _MB,
    names_texts=False,
)
#: In a thread that the vendor keeps, files of so many bytes are uploaded.
LARGE = 8 * _MB
#: It takes any size that fits into a request, and looks at no more than this without being asked.
BOUNDS = PictureBounds(bytes_max=37 * _MB, side_max=65_535, side_seen=2048)

_SOUNDS: Mapping[str, str] = MappingProxyType(
    {
        "audio/mp3": "mp3",
        "audio/mpeg": "mp3",
        "audio/vnd.wave": "wav",
        "audio/wav": "wav",
        "audio/wave": "wav",
        "audio/x-wav": "wav",
    }
)


def input_part_of(request: Request, part: Part) -> dict[str, Any]:
    """Return a part of a message to the Responses API."""
    match part:
        case Text():
            return {"type": "input_text", "text": part.text}
        case Image():
            info = info_of(request, part)
            media_type = _picture_type(info)
            ref = request.uploaded.get(part.id)
            named = {"file_id": ref} if ref else {"image_url": _data_url(request, media_type, part)}
            return {"type": "input_image", **named, "detail": part.detail or "auto"}
        case File():
            info = info_of(request, part)
            if info.media_type != PDF and not is_text(info.media_type):
                raise unsupported_type(info)
            return {"type": "input_file", **_document(request, part, info)}
        case _:
            raise unsupported(part)


def chat_part_of(request: Request, part: Part) -> dict[str, Any]:
    """Return a part of a message to chat completions."""
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Image():
            info = info_of(request, part)
            url = _data_url(request, _picture_type(info), part)
            detail = {"detail": part.detail} if part.detail in ("low", "high", "auto") else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        case File():
            info = info_of(request, part)
            if info.media_type == PDF:
                return {"type": "file", "file": _document(request, part, info)}
            if not is_text(info.media_type):
                raise unsupported_type(info)
            return {"type": "text", "text": text_of(request, part)}
        case Audio():
            info = info_of(request, part)
            if info.media_type not in _SOUNDS:
                raise unsupported_type(info)
            sound = {"data": base64_of(request, part), "format": _SOUNDS[info.media_type]}
            return {"type": "input_audio", "input_audio": sound}
        case _:
            raise unsupported(part)


def _document(request: Request, part: File, info: FileInfo) -> dict[str, str]:
    if part.id in request.uploaded:
        return {"file_id": request.uploaded[part.id]}
    named = part.name or ("document.pdf" if info.media_type == PDF else "document.txt")
    return {"filename": named, "file_data": _data_url(request, info.media_type, part)}


def _data_url(request: Request, media_type: str, part: File | Image) -> str:
    return f"data:{media_type};base64,{base64_of(request, part)}"


def _picture_type(info: FileInfo) -> str:
    if info.media_type not in PICTURES:
        raise unsupported_type(info)
    return info.media_type
