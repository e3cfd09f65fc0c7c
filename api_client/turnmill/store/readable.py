"""Rows that cannot be read: each fails alone, and those beside it are read."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select

from turnmill.crypto.wanted import KeyWanted
from turnmill.domain.errors import SealBroken, UnreadableRow

logger = logging.getLogger("turnmill.store")

T = TypeVar("T")

#: What reading a row may raise that holds what nobody expects.
ODD = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)

#: So many rows are looked at where those before could not be read.
_AT_LEAST = 100


def readable(rows: Iterable[Any], read: Callable[[Any], T]) -> Iterator[T]:
    """Yield what the rows say; one that cannot be read is noted, and left out.

    Raises KeyWanted at the end, for all that cannot be opened yet.
    """
    wanted: set[str] = set()
    for row in rows:
        try:
            found = read(row)
        except KeyWanted as missed:
            wanted.update(missed.ids)
            continue
        except ODD as error:
            logger.warning(
                "a row cannot be read: %s",
                type(error).__name__,
                extra={"action": "unreadable_row", "row": str(row[0])},
            )
            continue
        yield found
    if wanted:
        raise KeyWanted(ids=wanted)


def read_page(
    conn: Connection,
    query: Select[Any],
    read: Callable[[Any], T],
    *,
    by: ColumnElement[Any],
    limit: int,
    newest_first: bool = True,
) -> list[T]:
    """Return what the first `limit` rows say that can be read, in the order of this column.

    It is less than that only at the end of all: who reads page after page stops there, and would
    miss what stands behind rows that cannot be read.
    """
    found: list[T] = []
    asked, query = limit, query.order_by(by.desc() if newest_first else by)
    while True:
        rows = conn.execute(query.limit(asked)).all()
        found += readable(rows, read)
        if len(rows) < asked or len(found) >= limit:
            return found[:limit]
        last = rows[-1]._mapping[by]
        query = query.where(by < last if newest_first else by > last)
        asked = max(limit - len(found), _AT_LEAST)


def read_all(rows: Iterable[Any], read: Callable[[Any], T]) -> list[T]:
    """Return what each row says; raises KeyWanted for all that cannot be opened yet."""
    wanted: set[str] = set()
    found: list[T] = []
    for row in rows:
        try:
            found.append(read(row))
        except KeyWanted as missed:
            wanted.update(missed.ids)
    if wanted:
        raise KeyWanted(ids=wanted)
    return found


def read_one(row: Any, read: Callable[[Any], T]) -> T:
    """Return what the row says, or raise UnreadableRow."""
    try:
        return read(row)
    except SealBroken:
        raise
    except ODD:
        raise UnreadableRow() from None
