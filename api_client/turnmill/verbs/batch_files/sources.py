"""Where the bytes of a batch file are from: a file, packed or not, or standard input."""

import gzip
import hashlib
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from turnmill.domain.errors import InvalidBatchFile, InvalidInput
from turnmill.domain.plain import text_of
from turnmill.verbs.batch_files.problems import NO_JSON, TOO_LONG, Refused

#: A line's number, and what stands in it, or why that cannot be read.
Numbered = tuple[int, bytes | Refused]

_LABEL_LENGTH = 150
_GZIP = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_OTHERS = (
    (b"PK\x03\x04", "a ZIP archive, or a workbook of Excel's, which is one: save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "a workbook of an old Excel's: save it as CSV"),
    (b"PAR1", 'Parquet: format="parquet", or a name that ends so'),
    (b"BZh", "packed by bzip2: unpack it, or pack it by gzip"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd: unpack it, or pack it by gzip"),
    (b"\xfd7zXZ", "packed by xz: unpack it, or pack it by gzip"),
)
#: A file of JSON, as programs write it that know of no lines.
_ARRAY = re.compile(rb"\s*\[\s*(\{|$)")
_NOT_LINES = "this is one JSON array: write each of its objects on a line of its own"
_PIECE = 1 << 16
_UNREADABLE = "its path, and who may read it"
_BYTES = 'open it for bytes: open("jobs.jsonl", "rb")'
#: What a broken stream raises, of a file that was packed.
BROKEN = (EOFError, gzip.BadGzipFile, zlib.error)


class Source:
    """A file by its path, or one that is open and can be read once."""

    def __init__(self, given: object) -> None:
        """Raise InvalidInput; nothing is opened yet."""
        self._open_file: BinaryIO | None = None
        self.path: Path | None = None
        if isinstance(given, str | Path):
            self.path = path_of(given)
        elif _can_be_read(given):
            self._open_file = cast("BinaryIO", given)
        else:
            raise InvalidInput(
                "path must be a str or Path, or a file that is open for bytes",
                hint='open("jobs.jsonl", "rb"), or its path',
            )

    @property
    def label(self) -> str:
        """Return the file's name as it may be stored: names of files are bytes, and may be long."""
        name = "stdin" if self.path is None else self.path.name
        return "".join(c if c.isprintable() else "_" for c in name)[:_LABEL_LENGTH]

    @property
    def suffix(self) -> str:
        """Return how its name ends, but for that it is packed."""
        if self.path is None:
            return ""
        suffixes = [one.lower() for one in self.path.suffixes]
        return next((one for one in reversed(suffixes) if one != ".gz"), "")

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Yield its bytes, unpacked; raises InvalidBatchFile."""
        if self._open_file is not None:
            yield _unpacked(_Peeked(self._open_file))
            return
        with self._from_path() as file:
            yield _unpacked(_Peeked(file))

    def _from_path(self) -> BinaryIO:
        assert self.path is not None
        try:
            mode = self.path.stat().st_mode
            if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)):
                return self.path.open("rb")
        except OSError as error:
            told = f"cannot read {self.label}: {error.strerror}"
            raise InvalidBatchFile(told, hint=_UNREADABLE) from None
        raise InvalidBatchFile(
            f"{self.label} can be read once, and a path is read twice",
            hint="open it, and give what is open; or `turnmill batch submit -`",
        )


class _Peeked:
    """A file whose first bytes were looked at."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        try:
            self.first = self._read(2)
        except BROKEN as error:  # what the caller unpacks himself
            raise cannot_read_on(error) from None
        self._ahead = self.first

    def read(self, size: int = -1) -> bytes:
        """Read on, the first bytes included."""
        if not self._ahead:
            return self._read(size)
        ahead, self._ahead = self._ahead, b""
        if 0 <= size < len(ahead):
            ahead, self._ahead = ahead[:size], ahead[size:]
            return ahead
        return ahead + self._read(size if size < 0 else size - len(ahead))

    def readline(self, size: int = -1) -> bytes:
        """Read on to the end of the line; the first bytes are no line of their own."""
        if not self._ahead:
            return self._line(size)
        ahead, self._ahead = self._ahead, b""
        if b"\n" in ahead:
            line, end, rest = ahead.partition(b"\n")
            self._ahead = rest
            return line + end
        return ahead + self._line(size if size < 0 else size - len(ahead))

    def _read(self, size: int) -> bytes:
        return _bytes(self._file.read, size)

    def _line(self, size: int) -> bytes:
        return _bytes(self._file.readline, size)


def _bytes(read: Callable[[int], object], size: int) -> bytes:
    try:
        found = read(size)
    except BROKEN:
        raise
    except Exception as error:  # noqa: BLE001
        # The edge to a caller's own kind of file.
        raise cannot_read_on(error) from None
    if isinstance(found, bytes):
        return found
    if found is None:
        raise InvalidBatchFile(
            "cannot read on: it has not come yet", hint="a file that waits for its bytes"
        )
    raise InvalidInput("the file is open for text", hint=_BYTES)


def cannot_read_on(error: Exception) -> InvalidBatchFile:
    """Return what is raised where a file breaks off in the middle of being read."""
    why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return InvalidBatchFile(f"cannot read on: {why}", hint=_BYTES)


def _unpacked(file: _Peeked) -> BinaryIO:
    if file.first == _GZIP:
        return cast("BinaryIO", gzip.GzipFile(fileobj=cast("BinaryIO", file), mode="rb"))
    return cast("BinaryIO", file)


def lines_of(file: BinaryIO, *, most: int) -> Iterator[Numbered]:
    """Yield all lines that are not blank, in order; nothing longer than `most` bytes is held."""
    number = 0
    try:
        while content := file.readline(most + 2):
            number += 1
            if number == 1:
                content = content.removeprefix(BOM)
                if what := something_else(content) or (_ARRAY.match(content) and _NOT_LINES):
                    yield 1, Refused(NO_JSON, what)
                    return
            if len(content.rstrip(b"\r\n")) > most:
                _skip(file, content)
                yield number, Refused(TOO_LONG, f"longer than {most} bytes")
            elif content.strip():
                yield number, content
    except BROKEN:
        yield number + 1, Refused(NO_JSON, "the file is packed, and broken from here on")


def something_else(first: bytes) -> str:
    """Return what a file is that begins so, where it is no text that could be read; "": it is."""
    if first.startswith(_UTF_16) or b"\0" in first[:4]:
        return "this is no UTF-8, but UTF-16 or UTF-32"
    return next((f"this is {what}" for magic, what in _OTHERS if first.startswith(magic)), "")


def _skip(file: BinaryIO, content: bytes) -> None:
    """Read to the end of a line, in pieces."""
    while content and not content.endswith(b"\n"):
        content = file.readline(_PIECE)


class Digest:
    """What a content is known by: its lines, whatever ends them."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.lines = 0  #: that are not blank

    def add(self, number: int, content: bytes | Refused) -> None:
        """Take the next line in."""
        self.lines += 1
        if isinstance(content, bytes):
            self._hash.update(b"%d " % number + content.rstrip(b"\r\n") + b"\n")
        else:
            self._hash.update(b"%d?\n" % number)

    def value(self) -> bytes:
        """Return the hash of all lines so far."""
        return self._hash.digest()


def _can_be_read(given: object) -> bool:
    try:
        return all(callable(getattr(given, name, None)) for name in ("readline", "read"))
    except Exception:  # noqa: BLE001
        return False  # the edge to a caller's own kind of file


def path_of(value: object) -> Path:
    """Return the path of a file, or raise InvalidInput."""
    try:
        name = os.fspath(value)  # type: ignore[call-overload]
    except Exception:  # noqa: BLE001
        name = None  # the edge to a caller's own kind of path
    name = text_of(name)
    if not name or "\0" in name:
        raise InvalidInput("path must be a str or Path", hint="of a file, without NUL")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise InvalidInput("path: no file has such a name", hint="one without surrogates") from None
    return Path(name)
