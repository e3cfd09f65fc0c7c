"""How two threads hand things over: a mailbox each way, and a bell for a thread that polls."""

import contextlib
import queue
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Generic, TypeVar

Item = TypeVar("Item")

_AT_ONCE = timedelta(0)


class Mailbox(Generic[Item]):
    """Items from any thread for one reader, who is woken once for all that has piled up.

    It grows with what is put in and not taken; who puts in keeps the bound.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._wake = wake
        self._woken = False

    def put(self, item: Item) -> None:
        """Hand an item over. From any thread, and from signal handlers."""
        self._items.put(item)
        if not self._woken:
            self._woken = True
            self._wake()

    def take(self, *, patience: timedelta = _AT_ONCE) -> Iterator[Item]:
        """Yield what is there; wait so long for the first item where there is none."""
        # First, so that whoever puts in from now on wakes the reader again.
        self._woken = False
        with contextlib.suppress(queue.Empty):
            yield self._items.get(timeout=patience.total_seconds())
            # Not until it is empty: who puts in all the time must not keep the reader for ever.
            for _ in range(self._items.qsize()):
                yield self._items.get_nowait()


class Bell:
    """A socket that becomes readable when somebody rings, for a thread that polls sockets."""

    def __init__(self) -> None:
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)

    def fileno(self) -> int:
        """Return what to poll."""
        return self._reading.fileno()

    def ring(self) -> None:
        """Make it readable; from any thread."""
        with contextlib.suppress(OSError):  # full: it is readable already; closed: nobody listens
            self._writing.send(b"\0")

    def hush(self) -> None:
        """Make it unreadable until it rings again."""
        with contextlib.suppress(BlockingIOError):
            self._reading.recv(4096)

    def close(self) -> None:
        """Give the sockets up."""
        self._reading.close()
        self._writing.close()
