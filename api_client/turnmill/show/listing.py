"""A listing: the same things as a table for people, or as one line of JSON each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from turnmill.show.tables import ENOUGH, print_json, print_table

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[T]):
    """How things of one kind are listed."""

    columns: Sequence[str]
    row: Callable[[T], Iterable[object]]
    document: Callable[[T], Mapping[str, Any]]  #: what `show --json` has too, where there is one
    numbers: Sequence[str] = ()  #: columns that hold numbers
    spare: Sequence[str] = ()  #: columns that a narrow terminal goes without, the last one first
    enough: int = ENOUGH  #: so many letters of a text are worth more than a spare column


def print_listing(found: Sequence[T], listing: Listing[T], *, as_json: bool) -> None:
    """Print all of them; nothing where there are none."""
    if as_json:
        for one in found:
            print_json(listing.document(one))
    elif found:
        rows = map(listing.row, found)
        print_table(
            listing.columns,
            rows,
            right=listing.numbers,
            spare=listing.spare,
            cut=True,
            enough=listing.enough,
        )
