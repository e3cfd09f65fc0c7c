"""Sleep that signals end."""

import contextlib
import select
import signal
import socket
from datetime import timedelta
from types import FrameType
from typing import Any, Self

_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Wakeup:
    """Counts the requests to stop, and sleeps until there is something to see.

    Works in the main thread only, as signals do. A child that ends wakes it too. (An Event would
    not do: a signal handler that sets it can meet its own lock.)
    """

    def __init__(self) -> None:
        self.stop_requests = 0
        self._reading: socket.socket
        self._writing: socket.socket
        self._before: dict[signal.Signals, Any] = {}
        self._fd_before = -1

    def __enter__(self) -> Self:
        self._reading, self._writing = socket.socketpair()
        for end in (self._reading, self._writing):
            end.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        for number in _STOP:
            # What nohup ignores stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note_stop)
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _ignore)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._reading.close()
        self._writing.close()

    def request_stop(self) -> None:
        """Ask from inside the process; from any thread."""
        self.stop_requests += 1
        self.wake()

    def wake(self) -> None:
        """End the sleep; from any thread."""
        with contextlib.suppress(OSError):  # full: it wakes up anyway; closed: nobody sleeps
            self._writing.send(b"\0")

    def sleep(self, longest: timedelta) -> None:
        """Return at a signal, or after `longest`."""
        select.select([self._reading], [], [], longest.total_seconds())
        with contextlib.suppress(BlockingIOError):
            self._reading.recv(4096)

    def _note_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop_requests += 1


def _ignore(number: int, frame: FrameType | None) -> None:
    """SIGCHLD has to have a handler, or it wakes nobody."""
