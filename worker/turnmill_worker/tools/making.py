"""What is lazy in a tool's output, wherever it stands in it: made up to a bound."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

_SINGLE = frozenset({str, int, float, bool, type(None)})
_SEVERAL: tuple[type[Any], ...] = (list, tuple, set, frozenset)
_FEW = 1_000  #: values that are looked at on an event loop


class TooLong(Exception):
    """An output has more in it than an output may have."""


def is_at_hand(output: object) -> bool:
    """Tell whether an output is made of few plain values, so that nothing is left to be made."""
    left, waiting = _FEW, [output]
    while waiting and left:
        left -= 1
        one = waiting.pop()
        if type(one) is dict and len(one) <= left:
            waiting += one.values()
        elif type(one) is list and len(one) <= left:
            waiting += one
        elif type(one) not in _SINGLE:
            return False
    return not waiting


class Making:
    """One walk over an output, which goes no further than `most` bytes of JSON."""

    def __init__(self, *, most: int) -> None:
        self._left = most

    def made(self, output: Any) -> Any:
        """Return the output without anything lazy. Raises TooLong, and what the tool's own raises.

        Objects that write themselves as JSON, such as models of pydantic's, are left to do so.
        """
        self._take(1)  # at least: the same list may stand in it a thousand times
        if isinstance(output, str | bytes):
            self._take(len(output))
        elif isinstance(output, dict):
            return {key: self.made(one) for key, one in dict.items(output)}
        elif isinstance(output, Iterator):
            return [self.made(one) for one in output]
        elif is_dataclass(output) and not hasattr(output, "__pydantic_serializer__"):
            return {one.name: self.made(getattr(output, one.name)) for one in fields(output)}
        for kind in _SEVERAL:
            if isinstance(output, kind):
                return [self.made(one) for one in kind.__iter__(output)]
        return output

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLong
