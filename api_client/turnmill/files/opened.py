"""Which file store a process has: what TURNMILL_FILES_URL means."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit
from weakref import WeakKeyDictionary

from turnmill.domain.errors import InvalidSetting
from turnmill.files.folder import Folder
from turnmill.files.memory import Memory
from turnmill.files.port import FileStore
from turnmill.settings import Settings

if TYPE_CHECKING:
    from turnmill.crypto.data_keys import DataKeys

_OBJECTS = ("s3", "s3a", "gs", "az", "abfs", "abfss", "azure")

#: One for each store of turns in memory: they are seen by the same process alone.
_memories: "WeakKeyDictionary[object, Memory]" = WeakKeyDictionary()
_lock = threading.Lock()


class Beside(Protocol):
    """A store of turns, by whose keys files are sealed."""

    @property
    def keys(self) -> "DataKeys | None":
        """What content is sealed by; None: nothing is."""
        ...


def file_store(settings: Settings, *, beside: Beside, lasting: bool) -> FileStore:
    """Return where attachments lie; raises InvalidSetting, or MissingExtra.

    `beside` is the store of turns. Where nothing is set, that is `files` in the home, or memory for
    turns that are in memory, too.
    """
    found = _store(settings, beside=beside, lasting=lasting)
    if beside.keys is None:
        return found
    from turnmill.files.sealed import SealedFiles  # noqa: PLC0415  not everybody encrypts

    return SealedFiles(found, beside.keys)


def _store(settings: Settings, *, beside: object, lasting: bool) -> FileStore:
    url = settings.files_url
    if url == "memory://" or (not url and not lasting):
        with _lock:
            return _memories.setdefault(beside, Memory())
    if not url:
        return Folder((settings.home / "files").absolute())
    parts = urlsplit(url)
    if parts.scheme in _OBJECTS:
        from turnmill.files.objects import Objects  # noqa: PLC0415  few have one

        return Objects(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Folder(Path(unquote(parts.path)))
    if "://" not in url:
        return Folder(Path(url).absolute())
    raise InvalidSetting(
        "TURNMILL_FILES_URL cannot be understood",
        hint="a folder, s3://bucket/path, or memory://",
    )
