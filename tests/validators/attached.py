"""What vendors refuse of files in a request: base64 that is none, bytes of another type, sizes."""

import io
import re
from base64 import b64decode
from binascii import Error
from collections.abc import Iterator, Mapping
from typing import Any

PICTURES = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
PDF = "application/pdf"
_MB = 2**20
_DATA_URL = re.compile(r"data:([\w.+/-]+);base64,([A-Za-z0-9+/]*={0,2})")
_BEGINS: Mapping[str, tuple[bytes, ...]] = {
    PDF: (b"%PDF-",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/webp": (b"RIFF",),
}
_DETAILS = frozenset({"auto", "high", "low", "original"})
_SOUNDS = {"wav": (b"RIFF",), "mp3": (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")}


def decoded(data: object) -> bytes | None:
    """Return the bytes, or None where it is no base64."""
    if not isinstance(data, str) or len(data) % 4:
        return None
    try:
        return b64decode(data, validate=True)
    except (Error, ValueError):
        return None


def is_of(media_type: str, said: bytes) -> bool:
    """Tell whether bytes are of that type, as far as their beginning shows."""
    if media_type.startswith("text/") or media_type == "application/json":
        return b"\0" not in said
    return said.startswith(_BEGINS.get(media_type, ()))


def size_of(said: bytes) -> tuple[int, int]:
    """Return width and height of a picture that can be decoded; raises ValueError."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(said)) as opened:
            return opened.size
    except Exception as error:
        raise ValueError from error


def input_image(block: Mapping[str, Any], *, at: str) -> Iterator[str]:
    """Yield what is wrong with a picture in the Responses API."""
    if set(block) - {"type", "image_url", "file_id", "detail"}:
        yield f"{at}: unknown parameter"
    if block.get("detail") not in _DETAILS:
        yield f"{at}.detail: supported values are: {sorted(_DETAILS)}"
    if ("image_url" in block) == ("file_id" in block):
        yield f"{at}: provide one of 'image_url' and 'file_id'"
    elif "image_url" in block:
        yield from _url(block["image_url"], PICTURES, at=at)


def input_file(block: Mapping[str, Any], *, at: str) -> Iterator[str]:
    """Yield what is wrong with a document in the Responses API, or in chat completions."""
    if set(block) - {"type", "file_data", "file_id", "filename"}:
        yield f"{at}: unknown parameter"
    if "file_id" in block:
        if set(block) & {"file_data", "filename"}:
            yield f"{at}: mutually exclusive parameters"
        return
    if not isinstance(block.get("filename"), str) or not block["filename"]:
        yield f"{at}: missing required parameter: 'filename'"
    yield from _url(block.get("file_data"), None, at=at)


def image_url(block: Mapping[str, Any], *, at: str) -> Iterator[str]:
    """Yield what is wrong with a picture in chat completions."""
    given = block.get("image_url")
    if set(block) != {"type", "image_url"} or not isinstance(given, dict):
        yield f"{at}: invalid image_url"
        return
    if set(given) - {"url", "detail"} or given.get("detail", "auto") not in _DETAILS - {"original"}:
        yield f"{at}.image_url: invalid parameter"
    yield from _url(given.get("url"), PICTURES, at=at)


def input_audio(block: Mapping[str, Any], *, at: str) -> Iterator[str]:
    """Yield what is wrong with a sound in chat completions."""
    given = block.get("input_audio")
    if set(block) != {"type", "input_audio"} or not isinstance(given, dict):
        yield f"{at}: invalid input_audio"
        return
    said = decoded(given.get("data"))
    begins = _SOUNDS.get(str(given.get("format")))
    if begins is None or set(given) != {"data", "format"}:
        yield f"{at}.input_audio.format: supported values are: 'wav' and 'mp3'"
    elif said is None or not said.startswith(begins):
        yield f"{at}.input_audio.data: not a valid sound"


def source(block: Mapping[str, Any], *, at: str, many: bool) -> Iterator[str]:
    """Yield what is wrong with the source of a picture or a document to Anthropic."""
    given = block.get("source")
    kind = given.get("type") if isinstance(given, dict) else None
    is_picture = block["type"] == "image"
    if not isinstance(given, dict):
        yield f"{at}.source: Field required"
    elif kind == "file":
        if set(given) != {"type", "file_id"}:
            yield f"{at}.source.file: invalid"
    elif kind == "text" and not is_picture:
        if given.get("media_type") != "text/plain" or not str(given.get("data", "")).strip():
            yield f"{at}.source.text: invalid"
    elif kind == "base64":
        takes = PICTURES if is_picture else {PDF}
        yield from _base64(given, takes, at=f"{at}.source.base64", many=many)
    else:
        yield f"{at}.source: Input tag {kind!r} does not match any of the expected tags"


def _base64(given: Mapping[str, Any], takes: Any, *, at: str, many: bool) -> Iterator[str]:
    media_type, said = str(given.get("media_type")), decoded(given.get("data"))
    if set(given) != {"type", "media_type", "data"} or media_type not in takes:
        yield f"{at}.media_type: Input should be one of {sorted(takes)}"
    elif said is None or not said:
        yield f"{at}.data: invalid base64 data"
    elif not is_of(media_type, said):
        yield f"{at}: the data does not match the media type {media_type}"
    elif media_type in PICTURES:
        if len(given["data"]) > 10 * _MB:
            yield f"{at}: image exceeds 10 MB maximum: {len(given['data'])} bytes"
        yield from _pixels(said, side=2000 if many else 8000, at=at)


def _pixels(said: bytes, *, side: int, at: str) -> Iterator[str]:
    try:
        width, height = size_of(said)
    except ValueError:
        yield f"{at}: Could not process image"
        return
    if max(width, height) > side:
        yield f"{at}: image dimensions exceed max allowed size: {side} pixels"


def _url(url: object, takes: frozenset[str] | None, *, at: str) -> Iterator[str]:
    found = _DATA_URL.fullmatch(url) if isinstance(url, str) else None
    if found is None:
        yield f"{at}: expected a base64-encoded data URL"
        return
    media_type, said = found[1], decoded(found[2])
    if takes is not None and media_type not in takes:
        yield f"{at}: unsupported image type {media_type}"
    elif said is None or not said:
        yield f"{at}: invalid base64"
    elif not is_of(media_type, said):
        yield f"{at}: the data is not of the type {media_type}"
    elif media_type in PICTURES:
        yield from _pixels(said, side=65_535, at=at)
