"""Pictures and documents in messages of lines, as vendors' shapes have them: to be kept, then sent.

Bytes of a line are kept as an attachment of its user's, and what stands in their place is stored.
"""

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from turnmill.domain.bounds import MOST_ATTACHMENTS
from turnmill.domain.content import Attached, File, Image, Message, Part, Text
from turnmill.verbs.batch_files.problems import UNKNOWN, WRONG_TYPE, WRONG_VALUE, Refused

_PICTURES = frozenset({"image", "image_url", "input_image"})
_DOCUMENTS = frozenset({"document", "file", "input_file"})
_SOUNDS = frozenset({"audio", "input_audio"})
_WORDS = frozenset({"text", "input_text"})
_FILES = _PICTURES | _DOCUMENTS | _SOUNDS
#: Of what a vendor keeps for its own account: nobody here has the bytes.
_AT_VENDOR = ("file_id",)


class LineFile(NamedTuple):
    """A file of a line, and in which of its turns, messages and parts it stands."""

    turn: int
    message: int
    part: int
    loose: Attached


def with_files(messages: Sequence[Any]) -> list[Any]:
    """Return the messages; those of the user's that hold files as ours, none of them kept yet.

    Raises Refused, which names the field of what cannot be taken.
    """
    return [_taken(n, one) if _holds_files(one) else one for n, one in enumerate(messages)]


def files_in(turns: Sequence[Sequence[Message]]) -> list[LineFile]:
    """Return the files in what is to be answered; raises Refused for too many in a message."""
    found = [
        LineFile(t, m, p, part)
        for t, turn in enumerate(turns)
        for m, message in enumerate(turn)
        for p, part in enumerate(message.parts)
        if isinstance(part, Attached)
    ]
    for turn, message in {(one.turn, one.message) for one in found}:
        if sum((one.turn, one.message) == (turn, message) for one in found) > MOST_ATTACHMENTS:
            raise Refused(WRONG_VALUE, f"a message holds more than {MOST_ATTACHMENTS} files")
    return found


def refuse_files(messages: Sequence[Message]) -> None:
    """Raise Refused where a message that was had before holds a file: nobody is asked about it."""
    if any(isinstance(part, Attached) for one in messages for part in one.parts):
        raise Refused(
            WRONG_VALUE, "messages: a file stands before the last reply: only new messages hold any"
        )


def _holds_files(one: object) -> bool:
    content = one.get("content") if isinstance(one, Mapping) else None
    return isinstance(content, list) and any(_kind(part) in _FILES for part in content)


def _kind(part: object) -> str:
    """Return what a part says it is, and "" of one that says no word."""
    kind = part.get("type", "text") if isinstance(part, Mapping) else None
    return kind if isinstance(kind, str) else ""


def _taken(n: int, one: Mapping[str, Any]) -> Message:
    if one.get("role") != "user":
        raise Refused(WRONG_VALUE, f"messages[{n}]: only messages of the user's hold files")
    return Message("user", [*_parts(f"messages[{n}].content", one["content"])])


def _parts(where: str, content: Sequence[Any]) -> Iterator[Part]:
    for n, block in enumerate(content):
        if isinstance(block, str):
            yield Text(block)
            continue
        kind = _kind(block)
        if kind in _WORDS and isinstance(block.get("text"), str):
            yield Text(block["text"])
        elif kind in _PICTURES or kind in _DOCUMENTS:
            yield _file(f"{where}[{n}]", kind, block)
        elif kind in _SOUNDS:
            raise Refused(WRONG_VALUE, f"{where}[{n}]: a line holds no sounds")
        else:
            raise Refused(WRONG_VALUE, f"{where}[{n}] cannot stand beside a file")


def _file(where: str, kind: str, block: Mapping[str, Any]) -> Image | File:
    """Return the part with its source: bytes, or a URL that is fetched when the line is kept."""
    # OpenAI's Chat nests what its Responses have beside the type; Anthropic has a source.
    told: Any = block.get(kind) if isinstance(block.get(kind), Mapping) else block.get("source")
    told = told if isinstance(told, Mapping) else block
    for name in _AT_VENDOR:
        if told.get(name):
            raise Refused(UNKNOWN, f"{where}.{name}: a file that its vendor keeps is not taken")
    found = _source(where, told)
    if kind in _DOCUMENTS:
        name = told.get("filename") or block.get("title") or ""
        return File(found, name=name if isinstance(name, str) else "")
    detail = told.get("detail", block.get("detail")) or ""
    if detail not in ("", "auto", "low", "high", "original"):
        raise Refused(WRONG_VALUE, f"{where}.detail is none of auto, low and high")
    return Image(found, detail=detail)


def _source(where: str, told: Mapping[str, Any]) -> bytes | str:
    if told.get("type") == "text" and isinstance(said := told.get("data"), str):
        return said.encode()
    if told.get("type") == "base64":
        return _bytes(f"{where}.data", told.get("data"))
    name = next((one for one in _URLS if isinstance(told.get(one), str)), None)
    if name is None:
        raise Refused(WRONG_TYPE, f"{where} has neither a URL nor bytes")
    value: str = told[name]
    if value.startswith(("https://", "http://")):
        return value
    head, _, data = value.rpartition(",")
    if name == "file_data" or (head.startswith("data:") and head.endswith(";base64")):
        return _bytes(f"{where}.{name}", data)
    raise Refused(WRONG_VALUE, f"{where}.{name} is neither an http(s) URL nor base64")


#: Fields that name a file, or are one.
_URLS: Sequence[str] = ("url", "image_url", "file_data", "file_url")


def _bytes(where: str, data: object) -> bytes:
    try:
        return b64decode(data, validate=True) if isinstance(data, str) and data else _no(where)
    except (NotBase64, ValueError):
        return _no(where)


def _no(where: str) -> bytes:
    raise Refused(WRONG_VALUE, f"{where} is no base64")
