"""What the lines of a batch came to, as it is written into files and printed."""

import csv
import io
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Protocol, cast

from turnmill.domain.errors import InvalidInput, MissingExtra
from turnmill.domain.json_values import on_a_line
from turnmill.named_file import OURS, NamedFile
from turnmill.store.batch_records import BatchResult
from turnmill.store.codec import exported
from turnmill.verbs.openai_shape import as_openai, status_of

JSON_LINES, CSV, PARQUET = "jsonl", "csv", "parquet"
FORMATS = (JSON_LINES, CSV, PARQUET)
OPENAI = "openai"
SHAPES = (OPENAI,)

#: Rows of a Parquet file that are kept together.
_ROW_GROUP = 5000
#: A line without a turn, until there is one.
_STAGED = "staged"


def chosen_format(given: object, path: object) -> str:
    """Return in which format results are written: as its name ends, unless it was said."""
    if given is None:
        suffix = str(path).rpartition(".")[2].lower()
        return suffix if suffix in FORMATS else JSON_LINES
    if given not in FORMATS:
        raise InvalidInput(f"format must be one of {', '.join(FORMATS)}", hint='format="csv"')
    return str(given)


def chosen_shape(given: object, form: str) -> Callable[[BatchResult], dict[str, Any] | None]:
    """Return what makes a line of a result; None of one that has no line in this shape."""
    if given is None:
        return as_line
    if given not in SHAPES:
        raise InvalidInput(f"shape must be one of {', '.join(SHAPES)}", hint="or leave it out")
    if form != JSON_LINES:
        raise InvalidInput("a vendor's shape is one of JSON lines", hint="format='jsonl'")
    return as_openai


class ResultsFile:
    """A file of results: there with all its lines, or as it was before."""

    def __init__(self, path: Path, *, form: object = None, shape: object = None) -> None:
        """Raise InvalidInput, MissingExtra, or OSError with nothing changed."""
        chosen = chosen_format(form, path)
        made = chosen_shape(shape, chosen)
        if chosen == PARQUET:
            _parquet()
        self.lines = 0
        self._file = NamedFile(path)
        self._rows = _rows_into(self._file.stream, chosen, made)

    def write_results(self, results: Iterable[BatchResult]) -> None:
        """Add a line for each of them."""
        self.lines += self._rows.add(results)

    def finish(self) -> None:
        """Put the file where it belongs."""
        self._rows.end()
        self._file.finish()

    def close(self) -> None:
        """Leave nothing unfinished behind."""
        self._file.close()


class FollowedFile:
    """A file that grows as lines finish: begun anew, its owner's alone, and never replaced.

    One at a time lets it grow.
    """

    def __init__(self, path: Path, *, form: object = None, shape: object = None) -> None:
        """Raise InvalidInput or OSError."""
        chosen = chosen_format(form, path)
        if chosen == PARQUET:
            raise InvalidInput("a Parquet file is written whole", hint="format='jsonl', or 'csv'")
        made = chosen_shape(shape, chosen)
        self.lines = 0
        self._stream = os.fdopen(_begun_anew(path), "w", encoding="utf-8")
        self._rows = _rows_into(self._stream, chosen, made)

    def write_results(self, results: Iterable[BatchResult]) -> None:
        """Add a line for each of them, for whoever reads the file meanwhile."""
        self.lines += self._rows.add(results)
        self._stream.flush()

    def finish(self) -> None:
        """See that the file outlives a crash of the machine, where it is one on a disk."""
        self._rows.end()
        self._stream.flush()

    def close(self) -> None:
        """Close the file; what stands in it stays."""
        self._stream.close()


def _begun_anew(path: Path) -> int:
    """Open a file that grows; InvalidInput where another lets it grow, who is not disturbed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, OURS)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            _hold(descriptor)
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _hold(descriptor: int) -> None:
    """Keep others from beginning the file anew, for as long as it is open."""
    try:
        import fcntl  # noqa: PLC0415  Windows has none
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InvalidInput(
            "somebody follows results into this file already", hint="give another path"
        ) from None
    except OSError:  # of a folder where nobody can hold any
        return


def written_to(
    path: Path, *, form: object, shape: object, follow: bool
) -> ResultsFile | FollowedFile:
    """Begin a file of results; raises as these do."""
    kind = FollowedFile if follow else ResultsFile
    return kind(path, form=form, shape=shape)


class _Rows(Protocol):
    def add(self, results: Iterable[BatchResult]) -> int: ...
    def end(self) -> None: ...


def _rows_into(
    stream: IO[str], form: str, made: Callable[[BatchResult], dict[str, Any] | None]
) -> _Rows:
    if form == CSV:
        return _Csv(stream)
    return _Parquet(stream) if form == PARQUET else _JsonLines(stream, made)


class _JsonLines:
    def __init__(
        self, stream: IO[str], made: Callable[[BatchResult], dict[str, Any] | None]
    ) -> None:
        self._stream = stream
        self._made = made

    def add(self, results: Iterable[BatchResult]) -> int:
        written = 0
        for result in results:
            if (line := self._made(result)) is not None:
                self._stream.write(on_a_line(json.dumps(line, ensure_ascii=False)) + "\n")
                written += 1
        return written

    def end(self) -> None:
        pass


class _Csv:
    def __init__(self, stream: IO[str]) -> None:
        self._writer = csv.writer(stream, lineterminator="\r\n")
        self._writer.writerow(_COLUMNS)

    def add(self, results: Iterable[BatchResult]) -> int:
        rows = [[_cell(value) for value in as_row(one).values()] for one in results]
        self._writer.writerows(rows)
        return len(rows)

    def end(self) -> None:
        pass


class _Parquet:
    def __init__(self, stream: IO[str]) -> None:
        arrow, parquet = _parquet()
        kinds = {"usd": arrow.string(), "n": arrow.int64(), "yes": arrow.bool_()}
        fields = [(name, kinds.get(_KINDS.get(name, ""), arrow.string())) for name in _COLUMNS]
        self._schema = arrow.schema(fields)
        self._table = arrow.Table
        self._writer = parquet.ParquetWriter(cast("io.TextIOWrapper", stream).buffer, self._schema)
        self._waiting: list[dict[str, Any]] = []

    def add(self, results: Iterable[BatchResult]) -> int:
        rows = [as_row(one) for one in results]
        self._waiting += rows
        if len(self._waiting) >= _ROW_GROUP:
            self._flush()
        return len(rows)

    def end(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(self._table.from_pylist(self._waiting, schema=self._schema))
        self._waiting = []


def as_line(result: BatchResult) -> dict[str, Any]:
    """Return a result as it is written into files and printed."""
    return {
        "custom_id": result.custom_id,
        "turn_id": _text_of(result.turn_id),
        "session_id": _text_of(result.session_id),
        "state": _state(result),
        "status_code": status_of(result),
        **({"text": None} if result.parts is None else exported(result.parts)),
        "usage": {
            "input_tokens": result.input_tokens,
            "output_tokens": result.output_tokens,
            "cached_tokens": result.cached_tokens,
            "cost_usd": None if result.cost_usd is None else format(result.cost_usd, "f"),
        },
        "attempts": result.attempts,
        "reused": result.reused,
        "finish_reason": result.finish_reason,
        "answered_by": result.answered_by,
        "answered_because": result.answered_because,
        "error": None if result.error_code is None else {"code": result.error_code},
    }


def as_row(result: BatchResult) -> dict[str, Any]:
    """Return a result as a row of a table."""
    line = as_line(result)
    return {
        "line": result.line,
        **{name: line[name] for name in ("custom_id", "turn_id", "session_id", "state")},
        "status_code": line["status_code"],
        "text": result.text,
        **line["usage"],
        "attempts": result.attempts,
        "reused": result.reused,
        **{name: line[name] for name in ("finish_reason", "answered_by", "answered_because")},
        "error_code": result.error_code,
    }


_COLUMNS = (
    *("line", "custom_id", "turn_id", "session_id", "state", "status_code", "text"),
    *("input_tokens", "output_tokens", "cached_tokens", "cost_usd", "attempts", "reused"),
    *("finish_reason", "answered_by", "answered_because", "error_code"),
)
_KINDS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("line", "status_code", "attempts"), "n"),
        **dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens"), "n"),
        "reused": "yes",
    }
)


def _state(result: BatchResult) -> str:
    return _STAGED if result.state is None else result.state.value


def _text_of(one: object) -> str | None:
    return None if one is None else str(one)


def _cell(value: object) -> object:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value


def _parquet() -> Sequence[Any]:
    try:
        import pyarrow  # noqa: PLC0415  of an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise MissingExtra(
            "Parquet is read and written by pyarrow, which is not installed here",
            hint="pip install 'turnmill[parquet]'",
        ) from None
    return pyarrow, parquet
