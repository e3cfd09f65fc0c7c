"""Batch files that are tables: CSV, and Parquet with its extra."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from turnmill.domain.errors import InvalidBatchFile, InvalidInput, MissingExtra
from turnmill.verbs.batch_files.problems import NO_JSON, WRONG_VALUE, Refused
from turnmill.verbs.batch_files.strict_json import value_in

#: A row's number, from 1, and what it says, or why it cannot be read.
Row = tuple[int, Mapping[str, Any] | Refused]

CSV, PARQUET = ".csv", ".parquet"
_MOST_COLUMNS = 1000
_OF_PARQUET = 1000  #: rows that are read at once


def columns_given(value: object) -> dict[str, str]:
    """Return which field each named column is, by column; raises InvalidInput."""
    hint = 'columns={"text": "prompt"}: the field, and the column that it stands in'
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput("columns must be a mapping of fields to columns", hint=hint)
    try:
        found = dict(value)
    except Exception:  # noqa: BLE001
        # The edge to a caller's own kind of mapping.
        raise InvalidInput("columns cannot be read", hint=hint) from None
    if not all(isinstance(one, str) and one for pair in found.items() for one in pair):
        raise InvalidInput("columns must be names", hint=hint)
    by_column = {column: field for field, column in found.items()}
    if len(by_column) < len(found):
        raise InvalidInput("columns: two fields stand in one column", hint=hint)
    return by_column


def csv_rows(file: BinaryIO, by_column: Mapping[str, str], *, most: int) -> Iterator[Row]:
    """Yield the rows of a CSV with a head line; their numbers count rows, not lines."""
    csv.field_size_limit(most)
    text = io.TextIOWrapper(io.BufferedReader(_Readable(file)), encoding="utf-8-sig", newline="")
    rows = csv.reader(text, strict=True)
    number = 0
    try:
        names = _fields(next(rows, []), by_column)
        for row in rows:
            number += 1
            if not row or not any(row):
                continue
            if len(row) != len(names):
                yield number, Refused(WRONG_VALUE, f"has {len(row)} cells, not {len(names)}")
            else:
                yield number, _said(names, row)
    except UnicodeDecodeError:
        yield number + 1, Refused(NO_JSON, "no UTF-8 from here on")
    except csv.Error as error:
        yield number + 1, Refused(NO_JSON, f"no CSV: {_reason(error)}")


def _said(names: list[str], row: list[str]) -> Mapping[str, Any] | Refused:
    """Return what a row says: a cell that is empty says nothing, and a conversation is JSON."""
    cells = zip(names, row, strict=True)
    found: dict[str, Any] = {name: one for name, one in cells if name and one}
    for name in _TALKS & found.keys():
        try:
            found[name] = value_in(found[name])
        except Refused as refused:
            return Refused(NO_JSON, f"{name}: {refused.what}")
    return found


def _reason(error: csv.Error) -> str:
    known = ("field larger than", "unexpected end of data", "expected after", "new-line", "NUL")
    said = str(error)
    return next((one for one in known if one in said), "it cannot be read") + ", from here on"


def parquet_rows(path: str, by_column: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of a Parquet file; raises MissingExtra where nobody can read one."""
    arrow = _parquet()
    try:
        file = arrow.ParquetFile(path)
        names = _fields(file.schema_arrow.names, by_column)
        number = 0
        for batch in file.iter_batches(batch_size=_OF_PARQUET):
            for row in batch.to_pylist():
                number += 1
                yield (
                    number,
                    {
                        name: one
                        for name, one in zip(names, row.values(), strict=True)
                        if name and one is not None
                    },
                )
    except (OSError, ValueError) as error:  # what pyarrow raises of a broken file is a ValueError
        raise InvalidBatchFile(f"cannot read the Parquet file: {type(error).__name__}") from None


def _fields(columns: list[str], by_column: Mapping[str, str]) -> list[str]:
    """Return the field of each column; "" for one that is passed over.

    Where columns are named, the others are passed over, but for those whose names are fields.
    """
    if not columns:
        raise InvalidBatchFile("the file has no lines")
    if len(columns) > _MOST_COLUMNS:
        raise InvalidBatchFile(f"the file has more than {_MOST_COLUMNS} columns")
    if missing := sorted(set(by_column) - set(columns)):
        raise InvalidInput(
            f"the file has no column {missing[0][:40]!r}", hint="its head names them"
        )
    taken = set(by_column.values())
    found = [
        by_column.get(one, one if one in KNOWN and one not in taken else "") for one in columns
    ]
    named = [one for one in found if one]
    if len(set(named)) < len(named):
        raise InvalidBatchFile("a column stands twice in the head of the file")
    return found


#: Columns that say something by their names.
_TALKS = frozenset({"messages", "conversations", "conversation"})
KNOWN = _TALKS | {
    *("custom_id", "user_id", "session", "text", "provider", "model", "system_prompt")
}


class _Readable(io.RawIOBase):
    """What a text reader wants of a file: ours read, and do nothing else."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer."""
        found = self._file.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


def _parquet() -> Any:
    try:
        from pyarrow import parquet  # noqa: PLC0415  of an extra
    except ImportError:
        raise MissingExtra(
            "Parquet is read and written by pyarrow, which is not installed here",
            hint="pip install 'turnmill[parquet]'",
        ) from None
    return parquet
