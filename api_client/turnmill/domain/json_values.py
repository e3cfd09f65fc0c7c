"""JSON as every store and reader can hold it, and what is done with JSON that is not."""

import json
import re
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, Never

from turnmill.domain.bounds import JSON_BITS, JSON_BYTES, JSON_DEPTH, READABLE_DEPTH
from turnmill.domain.errors import InvalidInput, InvalidText

#: A string is one match, so that a bracket in it is none.
_STRINGS_AND_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
#: What JSON lets stand in a text as it is, though some readers take it for the end of a line.
_ENDS_FOR_SOME = {ord(one): f"\\u{ord(one):04x}" for one in "\x85\u2028\u2029"}
_CONTAINERS = (dict, list, tuple, Mapping)
_HINT = "str keys; str, int, finite float, bool, None, list and dict as values"


class Unreadable(dict[str, Any]):
    """Stands for JSON in a row that cannot be read. Empty, so that whoever shows it goes on."""

    def __repr__(self) -> str:
        return "<unreadable>"


def json_object(value: object, *, name: str) -> dict[str, Any]:
    """Return `value` as a plain dict that comes back from every store as it is.

    Raises InvalidInput, which names the argument and the bound, and quotes nothing.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} must be a mapping, not {type(value).__name__}", hint=_HINT)
    try:
        found: dict[str, Any] = _Reading(name).plain(value, depth=1)
    except InvalidInput:
        raise
    except Exception as error:  # noqa: BLE001
        # The edge to a caller's own type: whatever it does when it is read, nothing was written.
        raise InvalidInput(
            f"{name} cannot be read: {type(error).__name__}", hint="give a plain dict"
        ) from None
    if json_size(found) > JSON_BYTES:
        raise _too_large(name)
    return found


def json_size(value: object) -> int:
    """Return how many bytes it has as JSON."""
    return len(json.dumps(value, ensure_ascii=False).encode())


def json_text(value: object, *, name: str) -> str:
    """Return a value as JSON, or raise InvalidInput for what is none; see `json_object`."""
    return json.dumps(json_object({"": value}, name=name)[""], ensure_ascii=False)


def lenient_json(text: str | bytes) -> Any:
    """Return what a store holds as JSON, or Unreadable: one odd row must not cost its neighbours.

    For all that this code has written, `json.loads`. What is nested so deep that somebody further
    on could stumble over it counts as unreadable too.
    """
    try:
        document = text if isinstance(text, str) else bytes(text).decode()
        if document == "{}":  # most settings, and most metadata
            return {}
        if (
            len(document) > READABLE_DEPTH
            and document.count("[") + document.count("{") > READABLE_DEPTH
        ):
            _refuse_deep(document)
        return json.loads(document)
    except (ValueError, RecursionError):
        return Unreadable()


def _refuse_deep(document: str) -> None:
    if nesting(document) > READABLE_DEPTH:
        raise ValueError("nested too deep")


def nesting(document: str) -> int:
    """Return how deep JSON is nested; without reading it, which is what fails where it is deep."""
    deepest = depth = 0
    for token in _STRINGS_AND_BRACKETS.findall(document):
        if token in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token in "]}":
            depth -= 1
    return deepest


class _Reading:
    """One walk over what a caller handed in, with an end whatever that is."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._left = JSON_BYTES  # values take a byte at least

    def plain(self, value: object, *, depth: int) -> Any:
        """Return the value made of plain types only."""
        self._left -= 1
        if self._left < 0:
            raise _too_large(self._name)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            return self._whole(int.__int__(value))
        if isinstance(value, float):
            return self._fraction(float.__float__(value))
        return self._container(value, depth=depth)

    def _container(self, value: object, *, depth: int) -> Any:
        if not isinstance(value, _CONTAINERS):
            self._refuse(f"holds a {type(value).__name__}")
        if depth > JSON_DEPTH:
            self._refuse(f"is nested deeper than {JSON_DEPTH}", hint="flatten it")
        if isinstance(value, list | tuple):
            return [self.plain(one, depth=depth + 1) for one in value]
        return dict(self._pairs(value, depth=depth))

    def _pairs(self, value: Mapping[Any, Any], *, depth: int) -> Iterator[tuple[str, Any]]:
        for key, one in value.items():
            if not isinstance(key, str):
                self._refuse(f"has a key that is a {type(key).__name__}")
            yield self._text(key), self.plain(one, depth=depth + 1)

    def _text(self, value: str) -> str:
        text = str.__str__(value)  # of a subclass, what it holds and not what it says
        self._left -= len(text)
        if self._left < 0:
            raise _too_large(self._name)
        if "\0" in text:
            raise InvalidText(f"{self._name} holds a NUL", hint="remove it: no database stores it")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise InvalidText(
                    f"{self._name} holds a lone surrogate",
                    hint="decode the source with errors='replace'",
                ) from None
        return text

    def _whole(self, value: int) -> int:
        if value.bit_length() > JSON_BITS:
            self._refuse(f"holds a whole number of more than {JSON_BITS} bits")
        return value

    def _fraction(self, value: float) -> float | int:
        if not isfinite(value):
            self._refuse("holds a number that is not finite")
        # Postgres gives a large float back as the whole number that its digits spell, and of no
        # zero the sign.
        return self._whole(int(value)) if abs(value) >= 2**53 else value or 0.0

    def _refuse(self, what: str, *, hint: str = _HINT) -> Never:
        raise InvalidInput(f"{self._name} {what}", hint=hint)


def _too_large(name: str) -> InvalidInput:
    return InvalidInput(
        f"{name} is larger than {JSON_BYTES} bytes", hint="keep the data elsewhere, and its id here"
    )


def on_a_line(said: str) -> str:
    """Return JSON without U+0085, U+2028 and U+2029, so that it is one line for every reader."""
    return said if said.isascii() else said.translate(_ENDS_FOR_SOME)
