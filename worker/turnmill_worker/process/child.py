"""What a child process does so that it never outlives its parent."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals, *, parent: int) -> None:
    """Ask the kernel to send us this signal when the thread that made us ends. Linux only.

    `parent` is the number of the process that made us: it may have ended while we were starting,
    and then another one is our parent by now.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)  # it ended before we asked
