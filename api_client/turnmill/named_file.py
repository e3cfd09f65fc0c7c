"""A file that somebody named: written so that nothing is lost, and nobody else reads it."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from turnmill.lasting import make_lasting

OURS = 0o600  #: the mode of a file that we make, whatever the umask
_MOST_LINKS = 40  #: one after the other, as in the kernel
_FOLDERS_OF_DESCRIPTORS = ("/dev/fd", "/proc/self/fd", f"/proc/{os.getpid()}/fd")


class NamedFile:
    """What is written under a path: a file is there when it is complete, or as it was before.

    A link stays, and the file that it leads to is the one that is written. A device, a FIFO and an
    open descriptor (`/dev/stdout`) are no files to be replaced: they get each line as it comes.
    """

    def __init__(self, path: Path, *, binary: bool = False) -> None:
        """Raise OSError, with nothing changed, where nothing can be written there.

        `binary`: `bytes` is what is written to, and not `write`.
        """
        self._mode = "b" if binary else ""
        self._encoding = None if binary else "utf-8"
        self._target = Path(os.path.realpath(path))
        self._part: Path | None = None
        self._before: os.stat_result | None = None
        self._file = self._open(path)

    @property
    def stream(self) -> IO[str]:
        """Return what is written to, for a writer of its own."""
        return self._file

    def write(self, text: str) -> None:
        """Add `text`, as UTF-8."""
        self._file.write(text)

    @property
    def bytes(self) -> IO[bytes]:
        """The file as it is being written, and can be read again."""
        return self._file

    def finish(self) -> None:
        """Put the file where it belongs; it outlives a crash of the machine."""
        self._file.flush()
        if self._part is None:
            return
        os.fsync(self._file.fileno())
        if self._before is not None and self._before.st_nlink > 1:
            self._pour(self._part)
            return
        try:
            self._part.replace(self._target)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EXDEV):  # of a mount that is one file
                raise
            self._pour(self._part)
        else:
            with suppress(OSError):  # not every file system syncs a folder
                make_lasting(self._target.parent)

    def close(self) -> None:
        """Leave nothing unfinished behind."""
        try:
            self._file.close()
        finally:
            if self._part is not None:
                self._part.unlink(missing_ok=True)

    def _open(self, path: Path) -> IO[Any]:
        descriptor = _descriptor_of(path)
        if descriptor is not None:
            return self._opened(os.dup(descriptor))
        self._before = _state_of(path)
        if self._before is None or stat.S_ISREG(self._before.st_mode):
            return self._open_part()
        return self._opened(os.open(path, os.O_WRONLY | os.O_TRUNC))

    def _opened(self, descriptor: int) -> IO[Any]:
        return os.fdopen(descriptor, "w" + self._mode, encoding=self._encoding)

    def _open_part(self) -> IO[Any]:
        """Open a file beside the target, with the mode and the owner that the target has."""
        if self._before is not None:
            os.close(os.open(self._target, os.O_WRONLY))  # what may not be written is not replaced
        try:
            descriptor, name = tempfile.mkstemp(
                dir=self._target.parent, prefix=".turnmill-", suffix=".part"
            )
        except OSError as error:  # of a name that nobody has given
            raise OSError(error.errno, error.strerror, str(self._target)) from None
        self._part = Path(name)
        if self._before is not None:
            with suppress(OSError):  # root's alone, where it is another's
                os.fchown(descriptor, self._before.st_uid, self._before.st_gid)
            with suppress(OSError):
                os.fchmod(descriptor, stat.S_IMODE(self._before.st_mode))
        return os.fdopen(descriptor, "w+" + self._mode, encoding=self._encoding)

    def _pour(self, part: Path) -> None:
        """Write a file that has other names, or that cannot be replaced, from the finished part."""
        with part.open("rb") as source, self._target.open("wb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())


def make_private(path: str) -> None:
    """Make an empty file for its owner only, where there is none yet and one can be made.

    One that is there is not opened: to close it would give up the locks that this process holds.
    """
    with suppress(OSError):  # whoever opens it says what is wrong
        os.close(os.open(os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, OURS))


def _state_of(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _descriptor_of(path: Path) -> int | None:
    """Return the number behind `/dev/stdout`, `/dev/fd/3` and what leads there; None elsewhere.

    Opened by that name a file would be begun anew, and a socket would not open at all.
    """
    for _ in range(_MOST_LINKS):
        if path.name.isdigit() and str(path.parent) in _FOLDERS_OF_DESCRIPTORS:
            return int(path.name)
        if not path.is_symlink():
            return None
        path = Path(os.path.normpath(path.parent / path.readlink()))
    return None
