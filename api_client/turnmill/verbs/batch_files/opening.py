"""A batch file as numbered lines, whatever it is: JSON lines, CSV or Parquet."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

from turnmill.domain.bounds import STATEMENT_BYTES
from turnmill.domain.errors import InvalidInput
from turnmill.store.rules.accepting import in_json
from turnmill.verbs.batch_files.problems import Refused
from turnmill.verbs.batch_files.sources import BROKEN, Digest, Source, lines_of

#: Lines that are read, and written, together. SQLite has one lock for everybody: hold it shortly.
CHUNK = 1000
CHUNK_OF_SQLITE = 50
JSON_LINES = "jsonl"
FORMATS = (JSON_LINES, "csv", "parquet")

_ROOM_BESIDE_TEXT = 1_000_000
_PIECE = 1 << 20
#: Of a row of a table, whose size nobody knows before it is read.
_BYTES_OF_ROW = 1000

Content = bytes | Mapping[str, Any] | Refused


class Identity(NamedTuple):
    """What a file is known by."""

    digest: bytes
    lines: int | None  #: None: that is known when it was read as a table


class BatchFile:
    """A file, and how its lines are told apart."""

    def __init__(
        self,
        given: object,
        *,
        form: str | None,
        by_column: Mapping[str, str],
        max_text_bytes: int,
    ) -> None:
        """Raise InvalidInput; nothing is opened yet."""
        self.source = Source(given)
        if form not in (None, *FORMATS):
            raise InvalidInput(f"format must be one of {', '.join(FORMATS)}", hint='format="csv"')
        suffix = self.source.suffix.removeprefix(".")
        suffix = "csv" if suffix == "tsv" else suffix
        self.form = form or (suffix if suffix in FORMATS else JSON_LINES)
        if by_column and self.form == JSON_LINES:
            raise InvalidInput("columns are those of a table", hint="a .csv or .parquet file")
        self._by_column = by_column
        # A character may be written as an escape of six bytes.
        self._most = 6 * max_text_bytes + _ROOM_BESIDE_TEXT

    @property
    def is_read_once(self) -> bool:
        """Tell whether it cannot be read again from its beginning."""
        return self.source.path is None

    def identity(self) -> Identity:
        """Read it, and return what it is known by; raises InvalidBatchFile."""
        with self.source.opened() as file:
            if self.form == JSON_LINES:
                digest = Digest()
                for number, content in lines_of(file, most=self._most):
                    digest.add(number, content)
                return Identity(digest.value(), digest.lines)
            raw = hashlib.sha256()
            with suppress(*BROKEN):  # which row is cut, whoever reads rows says
                while piece := file.read(_PIECE):
                    raw.update(piece)
            return Identity(raw.digest(), None)

    def chunks(self, digest: Digest, *, size: int = CHUNK) -> Iterator[list[tuple[int, Content]]]:
        """Yield all lines in order, and take them into the digest; raises InvalidBatchFile."""
        numbered = iter(self._numbered(digest))
        chunk: list[tuple[int, Content]] = []
        weight = 0
        for one in numbered:
            weight += len(one[1]) if isinstance(one[1], bytes) else _BYTES_OF_ROW
            if chunk and (len(chunk) == size or weight > STATEMENT_BYTES):
                yield chunk
                chunk, weight = [], 0
            chunk.append(one)
        if chunk:
            yield chunk

    def sample(self, most: int) -> Iterator[tuple[int, Content]]:
        """Yield its first lines."""
        return islice(self._numbered(Digest()), most)

    def _numbered(self, digest: Digest) -> Iterator[tuple[int, Content]]:
        if self.form == "parquet":
            from turnmill.verbs.batch_files.tables import parquet_rows  # noqa: PLC0415

            if self.source.path is None:
                raise InvalidInput("Parquet is read from its end", hint="give the file's path")
            yield from parquet_rows(str(self.source.path), self._by_column)
            return
        with self.source.opened() as file:
            if self.form == "csv":
                from turnmill.verbs.batch_files.tables import csv_rows  # noqa: PLC0415

                for number, row in csv_rows(file, self._by_column, most=self._most):
                    digest.add(number, row if isinstance(row, Refused) else in_json(row).encode())
                    yield number, row
                return
            for number, content in lines_of(file, most=self._most):
                digest.add(number, content)
                yield number, content
