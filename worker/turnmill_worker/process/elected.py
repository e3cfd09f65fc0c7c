"""Of all processes on one SQLite file one runs its turns: whoever holds a lock beside the file."""

import fcntl
import os
from contextlib import suppress

from turnmill.forking import in_child

SUFFIX = "-runner"


class Elected:
    """A lock on a file beside the store's; the kernel gives it back when its holder ends."""

    def __init__(self, store: str | None) -> None:
        """`store` is the path of the SQLite file; None for one in memory, which nobody shares."""
        self._path = store and store + SUFFIX
        self._descriptor: int | None = None
        in_child(self)

    def start_afresh(self) -> None:
        """Leave the lock to the parent: a copy of its descriptor would outlive it."""
        self.give_back()

    def wins(self) -> bool:
        """Tell whether this process is to run turns. Raises OSError where no file can be made."""
        if not self._path or self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def give_back(self) -> None:
        """Let another process run turns. The file stays: to remove it would make two of it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)
