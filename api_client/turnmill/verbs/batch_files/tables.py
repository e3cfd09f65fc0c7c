"""Batch files that are tables: CSV, and Parquet with its extra."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import chain
from typing import Any, BinaryIO

from turnmill.domain.bounds import STATEMENT_BYTES
from turnmill.domain.errors import InvalidBatchFile, InvalidInput, MissingExtra
from turnmill.domain.plain import fields_of, text_of
from turnmill.verbs.batch_files.problems import NO_JSON, TOO_LONG, WRONG_VALUE, Refused
from turnmill.verbs.batch_files.sources import BOM, BROKEN, something_else
from turnmill.verbs.batch_files.strict_json import value_in

#: A row's number, from 1, and what it says, or why it cannot be read.
Row = tuple[int, Mapping[str, Any] | Refused]

CSV, PARQUET = ".csv", ".parquet"
#: The usual one first.
_SEPARATORS = (",", ";", "\t")
_SAYS_SEPARATOR = re.compile(r"sep=([,;\t|])\r?\n?")
_MOST_COLUMNS = 1000
_OF_PARQUET = 1000  #: rows that are read at once


def columns_given(value: object) -> dict[str, str]:
    """Return which field each named column is, by column; raises InvalidInput."""
    hint = 'columns={"text": "prompt"}: the field, and the column that it stands in'
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput("columns must be a mapping of fields to columns", hint=hint)
    found = fields_of(value, most=_MOST_COLUMNS)
    if found is None:
        raise InvalidInput("columns cannot be read", hint=hint)
    if len(found) > _MOST_COLUMNS:
        raise InvalidInput(f"columns are more than {_MOST_COLUMNS}", hint=hint)
    by_column = {}
    for pair in found.items():
        field, column = map(text_of, pair)
        if not field or not column:
            raise InvalidInput("columns must be names", hint=hint)
        by_column[column] = field
    if len(by_column) < len(found):
        raise InvalidInput("columns: two fields stand in one column", hint=hint)
    return by_column


def csv_rows(file: BinaryIO, by_column: Mapping[str, str], *, most: int) -> Iterator[Row]:
    """Yield the rows of a CSV with a head line; their numbers count rows, not lines."""
    csv.field_size_limit(most)
    lines = _lines_of(file, most=most)
    number = 0
    try:
        first = next((line for line in lines if not line.isspace()), "")
        if what := something_else(first.encode(errors="surrogateescape")):
            yield 1, Refused(NO_JSON, what)
            return
        rows = _rows(first, lines, {*KNOWN, *by_column})
        head = next((row for row in rows if _says_anything(row)), [])
        if refused := _unreadable(head):
            yield 1, refused
            return
        names = _fields(head, by_column)
        for row in rows:
            number += 1
            if _says_anything(row):
                yield number, _unreadable(row) or _said(names, row)
    except csv.Error as error:
        code = TOO_LONG if "field larger than" in str(error) else NO_JSON
        yield number + 1, Refused(code, f"no CSV: {_reason(error)}")
    except BROKEN:
        yield number + 1, Refused(NO_JSON, "the file is packed, and broken from here on")


def _rows(first: str, others: Iterator[str], wanted: Set[str]) -> Iterator[list[str]]:
    """Return the rows of a CSV, whatever its columns are separated by: that says most of its head.

    Programs write a semicolon where a comma stands in numbers, and Excel says it in a line before.
    """
    if said := _SAYS_SEPARATOR.fullmatch(first):
        return csv.reader(others, delimiter=said[1], strict=True)

    def found(separator: str) -> int:
        return sum(cell.strip('"') in wanted for cell in first.rstrip("\r\n").split(separator))

    return csv.reader(chain([first], others), delimiter=max(_SEPARATORS, key=found), strict=True)


def _lines_of(file: BinaryIO, *, most: int) -> Iterator[str]:
    """Yield lines, whatever ends them; bytes that are no UTF-8 are escaped, each by itself."""
    rest, is_first = b"", True
    while piece := file.readline(most + 1):
        if is_first:
            piece, is_first = piece.removeprefix(BOM), False
        lines = (rest + piece).splitlines(keepends=True)
        rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        if len(rest) > most:
            raise csv.Error("field larger than a line may be")
        for line in lines:
            yield line.decode(errors="surrogateescape")
    if rest:
        yield rest.decode(errors="surrogateescape")


def _says_anything(row: Sequence[str]) -> bool:
    return any(cell and not cell.isspace() for cell in row)


def _unreadable(cells: Sequence[str]) -> Refused | None:
    """Return why these are no texts: bytes that are none are escaped, as nothing else can be."""
    if any(not one.isascii() and not _is_text(one) for one in cells):
        return Refused(NO_JSON, "no UTF-8")
    return None


def _is_text(cell: str) -> bool:
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True


def _said(names: Sequence[str], row: Sequence[str]) -> Mapping[str, Any] | Refused:
    """Return what a row says: a cell that is empty says nothing."""
    if len(row) != len(names):
        return Refused(WRONG_VALUE, f"has {len(row)} cells, not {len(names)}")
    return _read({name: one for name, one in zip(names, row, strict=True) if name and one})


def _read(cells: dict[str, Any]) -> Mapping[str, Any] | Refused:
    """Return what cells say: a text that stands where a list or an object has to be is JSON."""
    for name in OF_JSON & cells.keys():
        if isinstance(said := cells[name], str):
            try:
                cells[name] = value_in(said)
            except Refused as refused:
                return Refused(NO_JSON, f"{name}: {refused.what}")
    return cells


def _reason(error: csv.Error) -> str:
    known = ("field larger than", "unexpected end of data", "expected after", "new-line", "NUL")
    said = str(error)
    return next((one for one in known if one in said), "it cannot be read") + ", from here on"


def parquet_rows(path: str, by_column: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of a Parquet file; raises MissingExtra where nobody can read one."""
    arrow, broken = _parquet()
    try:
        file = arrow.ParquetFile(path)
        columns: list[str] = file.schema_arrow.names
        fields = _fields(columns, by_column)
        field_of = {column: name for column, name in zip(columns, fields, strict=True) if name}
        number = 0
        for batch in file.iter_batches(batch_size=_rows_at_once(file), columns=[*field_of]):
            for row in _rows_in(batch):
                number += 1
                yield number, row if isinstance(row, Refused) else _told(field_of, row)
    except (OSError, ValueError, broken) as error:
        raise InvalidBatchFile(f"cannot read the Parquet file: {type(error).__name__}") from None


def _rows_at_once(file: Any) -> int:
    """Return how many rows are held at once: fewer of large ones."""
    about = file.metadata
    size = sum(int(about.row_group(n).total_byte_size) for n in range(about.num_row_groups))
    return max(1, min(_OF_PARQUET, STATEMENT_BYTES * int(about.num_rows) // max(size, 1)))


def _rows_in(batch: Any) -> Iterator[dict[str, Any] | Refused]:
    """Yield rows; where one holds a text that is no UTF-8, nobody reads them but one by one."""
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:
        pass
    for n in range(batch.num_rows):
        try:
            row: dict[str, Any] = batch.slice(n, 1).to_pylist()[0]
        except UnicodeDecodeError:
            yield Refused(NO_JSON, "no UTF-8")
        else:
            yield row


def _told(field_of: Mapping[str, str], row: Mapping[str, Any]) -> Mapping[str, Any] | Refused:
    """Return what a row says: what is null says nothing, and a whole number may be an id."""
    said = {field_of[column]: _whole(one) for column, one in row.items() if one is not None}
    for name in _NAMES & said.keys():
        if type(said[name]) is int:
            said[name] = str(said[name])
    return _read(said)


def _whole(value: Any) -> Any:
    """Return it without what is null in it: rows of a column have all the same fields."""
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items() if one is not None}
    return [_whole(one) for one in value] if isinstance(value, list) else value


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
    if _SAID.isdisjoint(named):
        raise InvalidBatchFile(
            "none of its columns is text, or messages",
            hint="--column text=NAME says which one it is; the first row is the head",
        )
    return found


#: Columns that say something by their names.
OF_JSON = frozenset(
    {"messages", "conversations", "conversation", "settings", "metadata", "fallback"}
)
#: One of these says what is asked.
_SAID = frozenset({"text", "messages", "conversations", "conversation"})
_NAMES = frozenset({"custom_id", "user_id", "session"})
KNOWN = OF_JSON | _NAMES | {"text", "provider", "model", "system_prompt"}


def _parquet() -> tuple[Any, type[Exception]]:
    """Return what reads such files, and what it raises, beside errors of Python's own."""
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415  of an extra
    except ImportError:
        raise MissingExtra(
            "Parquet is read and written by pyarrow, which is not installed here",
            hint="pip install 'turnmill[parquet]'",
        ) from None
    return parquet, ArrowException
