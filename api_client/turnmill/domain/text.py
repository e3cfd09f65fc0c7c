"""What may be stored as text, and what is done with text that may not."""

import json
import re
from collections.abc import Mapping
from typing import Any

from turnmill.domain.errors import InvalidInput, InvalidText

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def check_text(text: object, *, name: str = "text", max_bytes: int) -> str:
    """Return `text` if every store and provider can take it, else raise InvalidText.

    The error says where and what, and never quotes the text.
    """
    if not isinstance(text, str):
        raise InvalidText(f"{name} must be a str, not {type(text).__name__}")
    if not text.strip():
        raise InvalidText(f"{name} is empty", hint="send something to answer")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidText(
            f"{name} holds a lone surrogate at character {error.start}",
            hint="decode the source with errors='replace'",
        ) from None
    if size > max_bytes:
        raise InvalidText(
            f"{name} is {size} bytes long, more than {max_bytes}",
            hint="shorten it, or raise TURNMILL_MAX_TEXT_BYTES",
        )
    position = text.find("\0")
    if position >= 0:
        raise InvalidText(
            f"{name} holds a NUL at character {position}", hint="remove it: no database stores it"
        )
    return text


def check_name(value: object, *, name: str, max_length: int = 200) -> str:
    """Return a short identifier such as a user id or key, else raise InvalidInput."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{name} must be a non-empty str")
    if len(value) > max_length:
        raise InvalidInput(f"{name} is longer than {max_length} characters")
    if not value.isprintable():
        raise InvalidInput(f"{name} holds a character that cannot be printed")
    return value


def check_json(value: Mapping[str, Any] | None, *, name: str, max_bytes: int) -> dict[str, Any]:
    """Return `value` as a dict that JSON columns can hold, else raise InvalidInput."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} must be a mapping, not {type(value).__name__}")
    try:
        text = json.dumps(dict(value), allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput(
            f"{name} cannot be written as JSON",
            hint="str keys; str, int, finite float, bool, None, list and dict as values",
        ) from None
    if size > max_bytes:
        raise InvalidInput(f"{name} is {size} bytes long, more than {max_bytes}")
    if "\\u0000" in text:
        raise InvalidText(f"{name} holds a NUL", hint="remove it: no database stores it")
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def storable(text: str) -> str:
    """Return a provider's text with what no database stores replaced by U+FFFD."""
    if "\0" not in text and (text.isascii() or _is_unicode(text)):
        return text
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
