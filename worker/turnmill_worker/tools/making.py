"""What is lazy in a tool's output, wherever it stands in it: made up to a bound."""

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import fields, is_dataclass
from types import GeneratorType
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
        #: each object in a model, by its id, which is its own as long as it lives, and its copy
        self._bound: dict[int, tuple[Any, Any]] = {}
        #: what was raised while a model wrote itself, which makes an error of its own of it
        self.raised: Exception | None = None

    def made(self, output: Any) -> Any:
        """Return the output without anything lazy. Raises TooLong, and what the tool's own raises.

        Objects that write themselves as JSON, such as models of pydantic's, are left to do so: what
        is lazy in their fields raises while they write it, see `raised`.
        """
        self._take(1)  # at least: the same list may stand in it a thousand times
        if isinstance(output, str | bytes):
            self._take(len(output))
        elif isinstance(output, dict):
            return {key: self.made(one) for key, one in dict.items(output)}
        elif isinstance(output, Iterator):
            return [self.made(one) for one in output]
        elif hasattr(output, "__pydantic_serializer__"):
            return self._within_bounds(output)
        elif is_dataclass(output):
            return {one.name: self.made(getattr(output, one.name)) for one in fields(output)}
        for kind in _SEVERAL:
            if isinstance(output, kind):
                return [self.made(one) for one in kind.__iter__(output)]
        return output

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLong

    def _within_bounds(self, given: Any) -> Any:
        """Return the same, or a copy of it where something lazy stands in it, which has a bound.

        Nothing is counted but what is lazy: a model may hold far more than it writes.
        """
        if type(given) in _SINGLE:
            return given
        if id(given) not in self._bound:
            self._bound[id(given)] = given, given  # what holds itself is left as it is
            self._bound[id(given)] = given, self._copied(given)
        return self._bound[id(given)][1]

    def _copied(self, given: Any) -> Any:
        if _is_lazy(given):
            return self._one_by_one(given)
        if isinstance(given, dict):
            found = {key: self._within_bounds(one) for key, one in dict.items(given)}
            return found if _differ(given, found) else given
        for kind in _SEVERAL:
            if isinstance(given, kind):
                several = [self._within_bounds(one) for one in kind.__iter__(given)]
                return given if _are_same(kind.__iter__(given), several) else kind(several)
        held = _held_by(given)
        found = {name: self._within_bounds(one) for name, one in held.items()}
        return _with(given, found) if _differ(held, found) else given

    def _one_by_one(self, lazy: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from self._counted(lazy)
        except Exception as error:
            self.raised = self.raised or error
            raise

    def _counted(self, lazy: Iterator[Any]) -> Iterator[Any]:
        from pydantic_core import to_json  # noqa: PLC0415  there is a model of its

        for one in lazy:
            bound = self._within_bounds(one)
            as_it_is = bound is one
            self._bound.clear()
            self._take(1 + (len(to_json(one, serialize_unknown=True)) if as_it_is else 0))
            yield bound


def _is_lazy(given: object) -> bool:
    """Tell whether a model that holds it would write all that comes of it: of no other iterator."""
    is_of_pydantic = type(given).__module__.startswith("pydantic_core")
    return isinstance(given, GeneratorType) or (is_of_pydantic and isinstance(given, Iterator))


def _held_by(given: Any) -> Mapping[str, Any]:
    """Return the fields of a model or a dataclass; nothing of any other object."""
    if isinstance(given, type):
        return {}
    if is_dataclass(given):
        return {one.name: getattr(given, one.name) for one in fields(given)}
    if not hasattr(given, "__pydantic_serializer__"):
        return {}
    return {**vars(given), **(getattr(given, "__pydantic_extra__", None) or {})}


def _with(given: Any, found: Mapping[str, Any]) -> Any:
    """Return a copy of a model or a dataclass, frozen or not, whose fields are these."""
    made = copy(given)
    extra = getattr(made, "__pydantic_extra__", None) or {}
    for name, one in found.items():
        if name in extra:
            extra[name] = one
        else:
            object.__setattr__(made, name, one)
    return made


def _differ(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    return not _are_same(iter(one.values()), list(other.values()))


def _are_same(some: Iterator[Any], others: list[Any]) -> bool:
    return all(one is other for one, other in zip(some, others, strict=True))
