"""The file of a batch: one JSON object a line, read without holding more than a few of them."""

import hashlib
import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from turnmill.domain.bounds import STATEMENT_BYTES
from turnmill.domain.checks import check_name
from turnmill.domain.errors import InvalidBatchFile, InvalidInput
from turnmill.domain.ids import BatchId, SessionId, as_uuid
from turnmill.domain.states import Lane
from turnmill.store.nouns.batches import Line
from turnmill.store.records import NewSession
from turnmill.verbs import intake

#: Lines that are read, and accepted, together. SQLite has one lock for everybody: hold it shortly.
CHUNK = 1000
CHUNK_OF_SQLITE = 50

_MOST_PROBLEMS = 20
_LABEL_LENGTH = 150
_ROOM_BESIDE_TEXT = 1_000_000
_OF_SESSION = frozenset({"fallback", "provider", "model", "system_prompt"})
_FIELDS = frozenset({"custom_id", "user_id", "session", "text", "metadata"}) | _OF_SESSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What lines may leave out."""

    provider: str
    model: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """A line as it stands in the file, and its number, from 1."""

    number: int
    content: bytes = field(repr=False)


class BatchFile:
    """A file of lines, and what they are checked against."""

    def __init__(self, path: Path, *, defaults: Defaults, max_text_bytes: int) -> None:
        self.path = path
        #: The file's name as it may be stored: names of files are bytes, and may be long.
        self.label = "".join(c if c.isprintable() else "_" for c in path.name)[:_LABEL_LENGTH]
        self._defaults = defaults
        self._max_text_bytes = max_text_bytes
        # A character may be written as an escape of six bytes.
        self._max_line_bytes = 6 * max_text_bytes + _ROOM_BESIDE_TEXT

    def chunks(self, size: int = CHUNK) -> Iterator[list[Numbered]]:
        """Yield all lines that are not blank, in order. Raises InvalidBatchFile."""
        with self._open() as file:
            chunk: list[Numbered] = []
            weight = 0
            for line in self._numbered(file):
                weight += len(line.content)
                if chunk and (len(chunk) == size or weight > STATEMENT_BYTES):
                    yield chunk
                    chunk, weight = [], len(line.content)
                chunk.append(line)
            if chunk:
                yield chunk

    def parse(self, numbered: Numbered, *, batch_id: BatchId | None = None) -> Line:
        """Return the line, checked, or raise InvalidInput."""
        fields = _fields_of(numbered.content)
        custom_id = fields.get("custom_id")
        if custom_id is not None:
            custom_id = check_name(custom_id, name="custom_id")
        metadata: Any = fields.get("metadata")
        turn = intake.new_turn(
            fields.get("text", ""),
            intake.turn_options(lane=Lane.BULK, metadata=metadata),
            max_text_bytes=self._max_text_bytes,
        )
        return Line(
            number=numbered.number,
            session=self._session(fields, key=f"batch:{batch_id}:{numbered.number}"),
            turn=replace(turn, batch_id=batch_id, batch_line=numbered.number, custom_id=custom_id),
        )

    def _session(self, fields: Mapping[str, Any], *, key: str) -> NewSession | SessionId | str:
        if ("user_id" in fields) == ("session" in fields):
            raise InvalidInput('needs one of "user_id" and "session"')
        if "session" in fields:
            if given := _OF_SESSION & fields.keys():
                raise InvalidInput(f"{', '.join(sorted(given))}: the session has its own")
            ref = check_name(fields["session"], name="session")
            found = as_uuid(ref)
            return ref if found is None else SessionId(found)
        provider = fields.get("provider", self._defaults.provider)
        model = fields.get("model", self._defaults.model)
        if model is None and provider == "mock":
            model = "mock"
        return intake.new_session(
            user_id=fields["user_id"],
            provider=provider,
            model=model or "",
            key=key,
            system_prompt=fields.get("system_prompt"),
            fallback=fields.get("fallback"),
            max_text_bytes=self._max_text_bytes,
        )

    def _open(self) -> BinaryIO:
        try:
            mode = self.path.stat().st_mode
            if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)):
                return self.path.open("rb")
        except OSError as error:
            raise InvalidBatchFile(f"cannot read {self.label}: {error.strerror}") from None
        except ValueError:
            raise InvalidBatchFile("cannot read the file: no file has such a name") from None
        raise InvalidBatchFile(
            f"{self.label} can be read once, and lines are read twice: write them into a file"
        )

    def _numbered(self, file: BinaryIO) -> Iterator[Numbered]:
        number = 0
        while content := file.readline(self._max_line_bytes + 1):
            number += 1
            if len(content) > self._max_line_bytes:
                what = f"longer than {self._max_line_bytes} bytes"
                raise InvalidBatchFile(f"line {number}: {what}", problems=[(number, what)])
            if number == 1:
                content = content.removeprefix(b"\xef\xbb\xbf")
            if content.strip():
                yield Numbered(number=number, content=content)


class Digest:
    """What a content is known by: its lines, whatever ends them."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, numbered: Numbered) -> None:
        """Take the next line in."""
        self._hash.update(b"%d " % numbered.number + numbered.content.rstrip(b"\r\n") + b"\n")

    def value(self) -> bytes:
        """Return the hash of all lines so far."""
        return self._hash.digest()


class Inspection:
    """The first reading of a file: what is wrong with it, how long it is, what identifies it."""

    def __init__(self, file: BatchFile) -> None:
        self._file = file
        self._digest = Digest()
        self._problems: list[tuple[int, str]] = []
        self.total = 0

    def chunks(self) -> Iterator[list[Line]]:
        """Yield the lines that are acceptable, for further checks, and note the others."""
        for chunk in self._file.chunks():
            yield [line for numbered in chunk if (line := self._look_at(numbered)) is not None]
            if len(self._problems) >= _MOST_PROBLEMS:
                break

    def refuse(self, number: int, what: str) -> None:
        """Note what is wrong with a line."""
        self._problems.append((number, what))

    def finish(self) -> bytes:
        """Return the hash of the content, or raise InvalidBatchFile with all that was noted."""
        if self._problems:
            self._problems.sort()
            shown = "; ".join(f"line {number}: {what}" for number, what in self._problems[:3])
            more = len(self._problems) - 3
            raise InvalidBatchFile(
                f"{shown}; and {more} more" if more > 0 else shown, problems=self._problems
            )
        if not self.total:
            raise InvalidBatchFile("the file has no lines")
        return self._digest.value()

    def _look_at(self, numbered: Numbered) -> Line | None:
        self.total += 1
        self._digest.add(numbered)
        try:
            return self._file.parse(numbered)
        except InvalidInput as error:
            self.refuse(numbered.number, str(error))
            return None


def path_of(value: object) -> Path:
    """Return the path of a file, or raise InvalidInput."""
    if not isinstance(value, str | Path) or "\0" in str(value) or not str(value):
        raise InvalidInput("path must be a str or Path", hint="of a file, without NUL")
    return Path(value)


def _fields_of(content: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(content.decode())
    except UnicodeDecodeError as error:
        raise InvalidInput(f"no UTF-8 at byte {error.start}") from None
    except (ValueError, RecursionError) as error:  # also a number of more digits than Python reads
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidInput(f"no JSON{where}", hint="one JSON object a line") from None
    if not isinstance(fields, dict):
        raise InvalidInput("no JSON object")
    if unknown := fields.keys() - _FIELDS:
        names = ", ".join(repr(name[:40]) for name in sorted(unknown)[:5])
        raise InvalidInput(f"unknown field {names}; known: {', '.join(sorted(_FIELDS))}")
    return fields
