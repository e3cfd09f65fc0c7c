"""What a provider says, as plain parts of ours: all of it, or what is wrong with it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from types import MappingProxyType
from typing import Any

from turnmill.domain.bounds import MOST_PARTS
from turnmill.domain.content import KINDS, TEXT_ONLY, Kind, Native, Part, Text, strings_of
from turnmill_worker.providers.foreign import field, is_a, name_of

#: What makes a plain value of one whose class may be somebody's.
_PLAIN: Mapping[Any, Callable[[Any], Any]] = MappingProxyType(
    {str: str.__str__, bool: bool, int: int.__int__}
)
#: A source, which a caller may give in the place of what is kept, is none of a provider's.
_FIELDS: Mapping[Kind, Mapping[str, Any]] = MappingProxyType(
    {
        kind: {one.name: one.type for one in fields(kind) if one.type in _PLAIN}
        for kind in KINDS.values()
    }
)
_ALL: frozenset[Kind] = frozenset(KINDS.values())


def parts_of(answer: object) -> tuple[Part, ...] | str:
    """Return the parts of an answer, or what is wrong with one: none is left out.

    A class of somebody's that hides its parts may still have a text.
    """
    given = field(answer, "parts")
    if given is None:
        given = (Text(field(answer, "text")),)
    if not (is_a(given, list) or is_a(given, tuple)):
        return f"its parts are a {name_of(given)}"
    parts: list[Part] = []
    for one in _first_of(given, MOST_PARTS + 1):
        part = _part(one)
        if isinstance(part, str):
            return part
        parts.append(part)
    return tuple(parts) if len(parts) <= MOST_PARTS else "it has too many parts"


def is_one_text(parts: object, *, most: int) -> bool:
    """Tell whether it is a plain text of ours, and no longer than that, as nearly all are."""
    if type(parts) is not tuple or len(parts) != 1 or type(parts[0]) is not Text:
        return False
    text = parts[0].text
    return type(text) is str and len(text) <= most


def are_longer(parts: Sequence[Part], most: int) -> bool:
    """Tell whether all their strings together take more bytes."""
    total = 0
    for part in parts:
        for text in strings_of(part):
            total += len(text) if text.isascii() or len(text) > most else _bytes_of(text)
    return total > most


def taken_by(provider: object) -> frozenset[Kind]:
    """Return the kinds of parts that a provider takes: text alone, unless it `Accepts` more."""
    given = field(provider, "accepts")
    if type(given) is frozenset and given <= _ALL:
        return given
    if not is_a(given, frozenset):
        return TEXT_ONLY
    return frozenset(one for one in KINDS.values() if frozenset.__contains__(given, one))


def _first_of(given: Any, most: int) -> list[object]:
    """Return the first of a list or tuple, whatever its class makes of being read."""
    kind: Any = list if is_a(given, list) else tuple
    return [*islice(kind.__iter__(given), most)]


def _part(given: object) -> Part | str:
    """Return a part as a plain one, or what is wrong with it."""
    kind = next((one for one in KINDS.values() if is_a(given, one)), None)
    if kind is None:
        return f"one of its parts is a {name_of(given)}"
    said: dict[str, Any] = {}
    for name, must_be in _FIELDS[kind].items():
        value = field(given, name)
        if not is_a(value, must_be):
            return f"the {name} of a part is a {name_of(value)}"
        said[name] = _PLAIN[must_be](value)
    if kind is Native and not _is_json(said["item"]):
        return "a native part is no JSON"
    return kind(**said)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _bytes_of(text: str) -> int:
    return len(str.encode(text, "utf-8", "surrogatepass"))
