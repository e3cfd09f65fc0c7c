"""Kinds of text, list and the like that fail at whatever is asked of them, or never end."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, NoReturn
from uuid import UUID

import pytest

#: More than anybody has a use for: whoever reads on would read for ever.
_MOST = 150_000
#: What Python itself needs of an object, and a test that fails.
_LEFT = frozenset(
    {
        *("__class__", "__new__", "__init__", "__getattribute__", "__setattr__", "__delattr__"),
        *("__init_subclass__", "__subclasshook__", "__class_getitem__", "__repr__", "__dir__"),
    }
)


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("not for you")


def _failing(kind: type, **more: Any) -> Any:
    """Return a subclass of which whatever is asked fails."""
    named = {name: getattr(kind, name) for name in dir(kind) if name not in _LEFT}
    refused = {name: _refuse for name, one in named.items() if callable(one) and one is not None}
    shown = {"__repr__": lambda self: f"<a failing {kind.__name__}>"}
    return type(f"Failing{kind.__name__.title()}", (kind,), {**refused, **shown, **more})


def _endless(*_: Any) -> Iterator[Any]:
    for n in count():
        if n == _MOST:
            pytest.fail("nobody reads this far")  # no Exception: no edge takes it for a caller's
        yield f"k{n}"


def _endless_pairs(*_: Any) -> Iterator[Any]:
    return ((one, one) for one in _endless())


class _Iterable:
    """What can be iterated over, and nothing else."""

    __iter__ = _endless


class _Mapping(Mapping[str, Any]):
    """What is no dict."""

    __iter__ = _endless

    def __getitem__(self, key: str) -> Any:
        return key

    def __len__(self) -> int:
        return 1


class _Sequence(Sequence[Any]):
    """What is no list."""

    __iter__ = _endless

    def __getitem__(self, at: Any) -> Any:
        return "k"

    def __len__(self) -> int:
        return 1


def _without_end(kind: type) -> Any:
    said = {"items": _endless_pairs, "keys": _endless, "values": _endless}
    methods = {"__iter__": _endless, **(said if kind is dict else {})}
    return type(f"Endless{kind.__name__.title()}", (kind,), methods)


class _Moody:
    """What is neither true nor equal to anything, as arrays are, and has no hash."""

    __bool__ = __eq__ = __ne__ = __len__ = __iter__ = _refuse
    __hash__ = None  # type: ignore[assignment]


class _Closed:
    """What nothing can be asked of."""

    __getattr__ = _refuse
    __fspath__ = _refuse


_text, _bytes = _failing(str), _failing(bytes)

FAILING: tuple[Any, ...] = (
    *(_text("mock"), _text("bulk"), _text("7d"), _text("xx"), _text(UUID(int=7)), _bytes(b"x")),
    *(_failing(int)(5), _failing(float)(0.5), _failing(Decimal)("1.5"), _failing(UUID)(int=7)),
    *(_failing(datetime)(2030, 1, 1, tzinfo=UTC), _failing(date)(2026, 1, 2)),
    *(_failing(timedelta)(days=30), _failing(list)(["x"]), _failing(tuple)(["x"])),
    *(_failing(dict)(a=1), _failing(set)(["x"]), [_text("x")], {"a": _text("x")}, [_Moody()]),
    *({"a": _Moody()}, {"a": _failing(list)(["x"])}, _Moody(), _Closed(), [_Closed()]),
)

ENDLESS: tuple[Any, ...] = (
    *(_Iterable(), _Mapping(), _Sequence(), range(10**12)),
    *(kind(["x"]) for kind in map(_without_end, (list, tuple, set, frozenset))),
    *(_without_end(dict)(a=1), [_without_end(dict)(a=1)], {"a": _without_end(list)(["x"])}),
)
