"""Which file store a process has: what TURNMILL_FILES_URL means."""

import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit
from weakref import WeakKeyDictionary

from turnmill.domain.errors import InvalidSetting
from turnmill.files.folder import Folder
from turnmill.files.memory import Memory
from turnmill.files.port import FileStore
from turnmill.settings import Settings

_OBJECTS = ("s3", "s3a", "gs", "az", "abfs", "abfss", "azure")

#: One for each store of turns in memory: they are seen by the same process alone.
_memories: "WeakKeyDictionary[object, Memory]" = WeakKeyDictionary()
_lock = threading.Lock()


def file_store(settings: Settings, *, beside: object, lasting: bool) -> FileStore:
    """Return where attachments lie; raises InvalidSetting, or MissingExtra.

    `beside` is the store of turns. Where nothing is set, that is `files` in the home, or memory for
    turns that are in memory, too.
    """
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
