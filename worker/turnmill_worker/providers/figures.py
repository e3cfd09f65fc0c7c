"""Figures: what is kept of a vendor's words about usage, which are numbers and a few names."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from turnmill_worker.providers.boundary import attempted

#: Of one call. The vendors' largest has some thirty.
FIGURES_MAX = 100
#: Calls of one attempt of which it is kept: summaries and answers that were paused are several.
CALLS_MAX = 50

_DEEP = 5
_LARGEST = 10**18
_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
#: What may be a word: names of ours, and the vendors'. Any other text may be anybody's.
_WORDS = frozenset({"inference_geo", "model", "service_tier", "speed", "type"})
_WORD = re.compile(r"[A-Za-z0-9_.:/@+-]{1,100}")

_ENCODE = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
#: JSON of figures and such words alone, and not too much of it.
_PLAIN_MAX = 1_500
_PLAIN = re.compile(
    r'(?:"[A-Za-z0-9_]{1,64}":(?:-?[0-9]{1,18}(?=[,}])|null|true|false|(?=[{[]))|[][{},]'
    r'|"(?:inference_geo|model|service_tier|speed|type)":"[A-Za-z0-9_.:/@+-]{1,100}")*'
)


def figures(said: object) -> str | None:
    """Return, as JSON, what is kept of each call; None where nothing is.

    A provider may be anybody's: what is no plain figure is left out, and what cannot be read is as
    if it had not been said.
    """
    if not said or type(said) is not tuple:
        return None
    text = attempted("what was said of usage", partial(_written, said))
    if text is None or (len(text) <= _PLAIN_MAX and _PLAIN.fullmatch(text)):
        return text  # nearly always: looking at each figure takes five times as long
    found = [kept for one in said[:CALLS_MAX] if (kept := _of_call(one))]
    return _ENCODE(found) if found else None


def _written(said: object) -> str:
    try:
        return to_json(said).decode()
    except PydanticSerializationError:
        return _ENCODE(said)  # a third of the speed, and stranger things


def _of_call(call: object) -> dict[str, Any]:
    return _object(call, left=[FIGURES_MAX], deep=_DEEP) if type(call) is dict else {}


def _object(given: dict[Any, Any], *, left: list[int], deep: int) -> dict[str, Any]:
    return {
        name: figure
        for name, value in islice(given.items(), FIGURES_MAX)
        if type(name) is str and _NAME.fullmatch(name)
        for figure in _figure(name, value, left=left, deep=deep)
    }


def _figure(name: str, value: object, *, left: list[int], deep: int) -> Iterator[Any]:
    """Yield the value where it is kept."""
    left[0] -= 1
    if left[0] < 0:
        return
    if type(value) is dict and deep:
        yield _object(value, left=left, deep=deep - 1)
    elif type(value) is list and deep:
        yield _list(value, left=left, deep=deep - 1)
    elif _is_kept(name, value):
        yield value


def _is_kept(name: str, value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return name in _WORDS and _WORD.fullmatch(value) is not None
    if kind is float:
        return math.isfinite(value)
    if kind is int:
        return bool(-_LARGEST <= value <= _LARGEST)
    return value is None or kind is bool


def _list(given: Sequence[Any], *, left: list[int], deep: int) -> list[dict[str, Any]]:
    kept = (one for one in islice(given, FIGURES_MAX) if type(one) is dict)
    return [_object(one, left=left, deep=deep) for one in kept if left[0] > 0]
