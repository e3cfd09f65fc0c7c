"""Writing everything about a user into one file: rows of one moment, files, and what they mean."""

import base64
import hashlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NamedTuple
from uuid import UUID

from turnmill.crypto.data_keys import DataKeys
from turnmill.domain.errors import DataKeyMissing, FilesUnavailable, InvalidInput, UserNotFound
from turnmill.domain.json_values import on_a_line
from turnmill.files.opened import file_store
from turnmill.files.port import FileStore
from turnmill.named_file import NamedFile
from turnmill.settings import Settings
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
from turnmill.store.file_records import key_of
from turnmill.store.nouns.user_archive import (
    FORMAT,
    LEFT_OUT,
    Reading,
    Rows,
    archived,
    files_of,
    moment_of,
    schema,
)
from turnmill.store.nouns.users import is_known
from turnmill.store.rules.sealing import hashes_of_file
from turnmill.store.vaults import KeyFetched, plain
from turnmill.verbs.batch_files.sources import path_of
from turnmill.verbs.users.readme import readme
from turnmill.verbs.verb import Connection

#: Told of what is being written, and how many rows or files of it have been.
OnProgress = Callable[[str, int], None]

_ROWS_AT_ONCE = 500
_CHUNK = 2**20
#: Keys of others that are missed one after the other.
_MOST_KEYS_MISSED = 50
_MADE_BY = "turnmill"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserExport:
    """What an archive of a user holds."""

    path: Path
    user_id: str = field(repr=False)
    as_of: datetime  #: its rows are as they stood then
    rows: Mapping[str, int]  #: by table
    files: int
    missing: Sequence[UUID]  #: files whose bytes are not there
    bytes: int  #: of the archive
    sha256: str  #: of the archive, in hex; empty where it was written into a pipe or a device


class _File(NamedTuple):
    id: UUID
    sha256: str


class Exporting:
    """Writes archives of users of one store. Blocks."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def export(
        self, user_id: str, path: str | Path, *, progress: OnProgress | None = None
    ) -> UserExport:
        """Write the archive; see `AsyncUsers.export`."""
        target = _path(path)
        try:
            file = NamedFile(target, binary=True)
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"cannot write there: {_why(error)}", hint="name another file"
            ) from None
        try:
            found = self._written(user_id, target, file.bytes, progress or _untold)
            file.finish()
        except OSError as error:
            raise InvalidInput(
                f"cannot write there: {_why(error)}", hint="name another file"
            ) from None
        finally:
            file.close()
        return found

    def _written(
        self, user_id: str, path: Path, file: IO[bytes], progress: OnProgress
    ) -> UserExport:
        """Write it; from the beginning again where a key was missed, of others in shared sessions.

        Raises DataKeyMissing where one is not there.
        """
        for _ in range(_MOST_KEYS_MISSED):
            try:
                return self._write(user_id, path, file, progress)
            except KeyFetched:  # another moment is read then, and all of it
                file.seek(0)
                file.truncate()
        raise DataKeyMissing("keys that this archive needs are not held for as long as it takes")

    def _write(self, user_id: str, path: Path, file: IO[bytes], progress: OnProgress) -> UserExport:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            written = _Archive(archive, progress)
            with self._database.snapshot() as conn:
                as_of, files = _write_rows(conn, user_id, written, self._database.keys)
            missing = self._write_files(user_id, files, written)
            written.text("schema.json", json.dumps(schema(), indent=2) + "\n")
            counts = {one.name: written.rows[one.path] for one in archived()}
            written.text("README.md", readme(user_id, as_of, counts, len(files), len(missing)))
            manifest = _manifest(user_id, as_of, written.entries, missing)
            written.text("manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
        size, digest = _hashed(file)
        return UserExport(
            path=path,
            user_id=user_id,
            as_of=as_of,
            rows=counts,
            files=len(files) - len(missing),
            missing=missing,
            bytes=size,
            sha256=digest,
        )

    def _write_files(self, user_id: str, files: Sequence[_File], written: "_Archive") -> list[UUID]:
        """Write the bytes of files, and return those that are not there, or are others."""
        missing: list[UUID] = []
        if not files:
            return missing
        lasting = self._database.can(Capability.LASTING)
        store = file_store(self._settings, beside=self._database, lasting=lasting)
        for count, one in enumerate(files, 1):
            try:
                digest = written.file(f"files/{one.id}", _bytes_of(store, user_id, one))
            except FilesUnavailable:
                missing.append(one.id)
                continue
            if one.sha256 not in self._database.run(hashes_of_file, user_id, digest):
                missing.append(one.id)
            written.progress("files", count)
        return missing


class _Archive:
    """A zip file that is being written, and what is in it so far."""

    def __init__(self, archive: zipfile.ZipFile, progress: OnProgress) -> None:
        self._archive = archive
        self.progress = progress
        self.entries: list[dict[str, Any]] = []
        self.rows: dict[str, int] = {}

    def lines(self, rows: Rows, found: Iterable[Mapping[str, Any]]) -> None:
        """Write rows, each as a line of JSON."""
        count = 0
        self.progress(rows.name, count)

        def pieces() -> Iterator[bytes]:
            nonlocal count
            for row in found:
                yield _line(row)
                count += 1
                if not count % _ROWS_AT_ONCE:
                    self.progress(rows.name, count)

        self._put(rows.path, pieces(), zipfile.ZIP_DEFLATED)
        self.rows[rows.path] = self.entries[-1]["rows"] = count
        self.progress(rows.name, count)

    def file(self, name: str, pieces: Iterator[bytes]) -> str:
        """Write bytes as they are, and return their digest."""
        first = next(pieces, b"")  # what is not there leaves no entry
        self._put(name, _chained(first, pieces), zipfile.ZIP_STORED)
        digest: str = self.entries[-1]["sha256"]
        return digest

    def text(self, name: str, said: str) -> None:
        """Write a text."""
        self._put(name, iter((said.encode(),)), zipfile.ZIP_DEFLATED)

    def _put(self, name: str, pieces: Iterator[bytes], kind: int) -> None:
        info = zipfile.ZipInfo(name, time.gmtime()[:6])
        info.compress_type, info.external_attr = kind, 0o600 << 16
        digest, size = hashlib.sha256(), 0
        with self._archive.open(info, "w", force_zip64=True) as entry:
            for piece in pieces:
                entry.write(piece)
                digest.update(piece)
                size += len(piece)
        self.entries.append({"path": name, "sha256": digest.hexdigest(), "bytes": size})


def _write_rows(
    conn: Connection, user_id: str, written: _Archive, keys: DataKeys | None
) -> tuple[datetime, list[_File]]:
    """Write all rows, and return of which moment they are, and which files they name."""
    as_of = moment_of(conn)
    if not is_known(conn, user_id):
        raise UserNotFound()
    reading = Reading(conn, user_id, keys)
    for one in archived():
        with closing(reading.rows(one.of_user(user_id))) as found:
            written.lines(one, found)
    return as_of, [_File(*one) for one in files_of(conn, user_id)]


def _line(row: Mapping[str, Any]) -> bytes:
    said = {name: plain(value) for name, value in row.items()}
    line = on_a_line(json.dumps(said, ensure_ascii=False, default=_in_json))
    return line.encode("utf-8", "replace") + b"\n"


def _in_json(value: object) -> Any:
    """Return what JSON has no form for, as the schema says."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(bytes(value)).decode()
    return str(value)


def _manifest(
    user_id: str,
    as_of: datetime,
    entries: Sequence[Mapping[str, Any]],
    missing: Sequence[UUID],
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "user_id": user_id,
        "as_of": as_of.isoformat(),
        "made_by": _MADE_BY,
        "files": list(entries),
        "missing": [str(one) for one in missing],
        "left_out": dict(LEFT_OUT),
    }


def _bytes_of(store: FileStore, user_id: str, one: _File) -> Iterator[bytes]:
    return iter(store.chunks(key_of(user_id, one.id)))


def _chained(first: bytes, more: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from more


def _hashed(file: IO[bytes]) -> tuple[int, str]:
    """Return how many bytes were written, and their digest where they can be read again."""
    file.flush()
    if not (file.seekable() and file.readable()):
        return 0, ""
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(_CHUNK):
        digest.update(piece)
    return file.tell(), digest.hexdigest()


def _path(path: object) -> Path:
    if not isinstance(path, str | Path):
        raise InvalidInput("path must be a path", hint='"ada.zip"')
    return path_of(path)


def _why(error: OSError | ValueError) -> str:
    code = error.errno if isinstance(error, OSError) else None
    return os.strerror(code) if code else "no file has such a name"


def _untold(_what: str, _count: int) -> None:
    return
