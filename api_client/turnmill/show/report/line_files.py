"""The lines of a report as a table: CSV, or Parquet, with columns that stay as they are."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from turnmill.domain.errors import MissingExtra
from turnmill.named_file import NamedFile

if TYPE_CHECKING:
    from datetime import datetime

    from turnmill.store.analytics.figures import Totals

_NAMES = ("provider", "model", "tier", "lane", "tag")
_COUNTS = (
    *("turns", "succeeded", "failed", "dead", "cancelled", "expired", "attempts", "retries"),
    *("steps", "input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens"),
)
_COSTS = ("cost_usd", "waste_usd")
_LAST = "unpriced_attempts"
#: In this order; more may come at the end.
COLUMNS = ("since", *_NAMES, *_COUNTS, *_COSTS, _LAST)
#: What a program that calculates takes for a formula; the wide signs, where it is of East Asia.
_SIGNS = "=+@\uff1d\uff0b\uff0d\uff20-"
_FORMULA = (*_SIGNS, *"\t\r\n")
#: Where cells are separated by semicolons or tabs, a name with one in it is two of them, and quotes
#: in the middle of a line quote nothing: what comes after it begins a cell.
_NEXT_CELL = re.compile(rf'([;\t\r\n]["\s]*)(?=[{_SIGNS}])')


def rows(lines: Sequence[Totals]) -> Iterator[dict[str, Any]]:
    """Yield the lines as rows. `since` is when the span begins, in UTC."""
    for one in lines:
        by = {name.value: value for name, value in one.by.items()}
        found: dict[str, Any] = {"since": _moment(by)}
        found |= {name: str(by.get(name, "")) for name in _NAMES}
        found |= {name: getattr(one, name) for name in (*_COUNTS, *_COSTS, _LAST)}
        yield found


def _moment(by: dict[str, Any]) -> datetime:
    moment: datetime = next(by[grain] for grain in ("hour", "day", "week", "month") if grain in by)
    return moment


def write_csv(path: Path, lines: Sequence[Totals]) -> None:
    """Write a head line and the lines; the file is there when it is complete."""

    def into(stream: IO[Any]) -> None:
        writer = csv.writer(stream, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        for row in rows(lines):
            writer.writerow([_cell(row[name]) for name in COLUMNS])

    _write(path, into, binary=False)


def _cell(value: Any) -> str:
    """Return a cell. What begins like a formula in a name has an apostrophe before it."""
    if isinstance(value, str):
        told = _NEXT_CELL.sub(r"\1'", value)
        return "'" + told if told.startswith(_FORMULA) else told
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return format(value, "f") if hasattr(value, "as_tuple") else str(value)


def write_parquet(path: Path, lines: Sequence[Totals]) -> None:
    """Write the lines with their types; costs are decimals. Raises MissingExtra."""
    arrow, parquet = _arrow()
    kinds = {"since": arrow.timestamp("us", tz="UTC")}
    kinds |= dict.fromkeys(_NAMES, arrow.string())
    kinds |= dict.fromkeys((*_COUNTS, _LAST), arrow.int64())
    kinds |= dict.fromkeys(_COSTS, arrow.decimal128(38, 10))
    schema = arrow.schema([(name, kinds[name]) for name in COLUMNS])
    table = arrow.Table.from_pylist(list(rows(lines)), schema=schema)
    _write(path, lambda stream: parquet.write_table(table, stream), binary=True)


def _write(path: Path, into: Callable[[IO[Any]], object], *, binary: bool) -> None:
    file = NamedFile(path, binary=binary)
    try:
        into(file.bytes if binary else file.stream)
        file.finish()
    finally:
        file.close()


def write_text(path: Path, text: str) -> None:
    """Write a page, or a document; the file is there when it is complete."""
    _write(path, lambda stream: stream.write(text), binary=False)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra(
            "Parquet is written by pyarrow, which is not installed here",
            hint="pip install 'turnmill[parquet]'",
        ) from None
    return pyarrow, parquet
