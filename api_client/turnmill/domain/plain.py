"""What callers' own kinds of text, list and the like hold, whatever these say of themselves.

Nothing here runs code of theirs, but where it says so, and all of it ends.
"""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from itertools import islice
from typing import Any
from uuid import UUID


def text_of(value: object) -> str | None:
    """Return the text that this is; None where it is none."""
    return str.__str__(value) if isinstance(value, str) else None


def id_of(value: UUID) -> UUID:
    """Return an id without the rest of a subclass."""
    if type(value) is UUID:
        return value
    number: Any = UUID.__dict__["int"]
    return UUID(int=number.__get__(value))


def span_of(value: timedelta) -> timedelta:
    """Return a span of time without the rest of a subclass."""
    return timedelta.__add__(timedelta(0), value)


def day_of(value: date) -> date:
    """Return a day without the rest of a subclass."""
    return date.fromordinal(date.toordinal(value))


def items_of(value: object, *, most: int) -> list[Any] | None:
    """Return what it holds, and one more than `most` where there are more.

    None for what cannot be iterated over, or raises an error then: of lists and tuples, and their
    subclasses, nothing is asked.
    """
    if isinstance(value, list):
        return list.__getitem__(value, slice(most + 1))
    if isinstance(value, tuple):
        return [*tuple.__getitem__(value, slice(most + 1))]
    try:
        return [*islice(value, most + 1)] if isinstance(value, Iterable) else None
    except Exception:  # noqa: BLE001
        return None  # the edge to a caller's own kind of iterable


def fields_of(value: Mapping[Any, Any], *, most: int) -> dict[Any, Any] | None:
    """Return what it holds, and one more than `most` where there are more.

    None for what raises an error then: of dicts, and their subclasses, nothing is asked.
    """
    try:
        pairs = dict.items(value) if isinstance(value, dict) else value.items()
        return dict(islice(pairs, most + 1))
    except Exception:  # noqa: BLE001
        return None  # the edge to a caller's own kind of mapping, or of key
