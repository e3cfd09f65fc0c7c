"""What may be stored as text, and what is done with text that may not."""

import re

from turnmill.domain.bounds import NAME_LENGTH
from turnmill.domain.errors import InvalidInput, InvalidText

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def check_text(
    text: object,
    *,
    name: str = "text",
    max_bytes: int,
    hint: str = "shorten it, or raise TURNMILL_MAX_TEXT_BYTES",
) -> str:
    """Return `text` if every store and provider can take it, else raise InvalidText.

    The error says where and what, and never quotes the text. `hint` is what to do about one that
    is too long.
    """
    if not isinstance(text, str):
        raise InvalidText(
            f"{name} must be a str, not {type(text).__name__}", hint='such as "Hello"'
        )
    text = str.__str__(text)  # of a subclass, what it holds and not what it says
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
        raise InvalidText(f"{name} is {size} bytes long, more than {max_bytes}", hint=hint)
    position = text.find("\0")
    if position >= 0:
        raise InvalidText(
            f"{name} holds a NUL at character {position}", hint="remove it: no database stores it"
        )
    return text


def check_name(value: object, *, name: str) -> str:
    """Return a short identifier such as a user id or key, else raise InvalidInput."""
    hint = f"1 to {NAME_LENGTH} characters that can be printed"
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a str, not {type(value).__name__}", hint=hint)
    text = str.__str__(value)
    if not text.strip():
        raise InvalidInput(f"{name} is empty", hint=hint)
    if len(text) > NAME_LENGTH:
        raise InvalidInput(f"{name} is longer than {NAME_LENGTH} characters", hint=hint)
    if not text.isprintable():
        raise InvalidInput(f"{name} holds a character that cannot be printed", hint=hint)
    return text


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
