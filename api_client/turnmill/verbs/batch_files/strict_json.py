"""One JSON object a line, and nothing that two readers could read differently."""

import json
from math import isinf
from typing import Any

from turnmill.verbs.batch_files.problems import NO_JSON, Refused


def object_in(content: bytes) -> dict[str, Any]:
    """Return the object that the line is; raises Refused, which says where, and quotes nothing."""
    try:
        found = value_in(content.decode())
    except UnicodeDecodeError as error:
        raise Refused(NO_JSON, f"no UTF-8 at byte {error.start}") from None
    if not isinstance(found, dict):
        raise Refused(NO_JSON, "no JSON object")
    return found


def value_in(text: str) -> Any:
    """Return what the text says; raises Refused, as above."""
    try:
        return _decode(text)
    except (ValueError, RecursionError) as error:  # also a number of more digits than Python reads
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise Refused(NO_JSON, f"no JSON{where}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refused(NO_JSON, "a key stands twice in an object")
    return found


def _finite(text: str) -> float:
    if isinf(found := float(text)):
        raise Refused(NO_JSON, "a number is beyond what readers can hold")
    return found


def _constant(_name: str) -> Any:
    raise Refused(NO_JSON, "NaN and Infinity are no JSON")


_decode = json.JSONDecoder(
    object_pairs_hook=_once, parse_float=_finite, parse_constant=_constant
).decode
