"""A process says that it is ready to whoever started it, once, by a byte on an inherited pipe."""

import contextlib
import os
import threading
from datetime import timedelta

#: Holds the number of the open file descriptor; not set where nobody wants to know.
VARIABLE = "TURNMILL_READY_FD"


def tell(**_: object) -> None:
    """Say so. A receiver of Celery's signals `worker_ready` and `beat_init`."""
    descriptor = os.environ.pop(VARIABLE, "")
    if not descriptor.isdigit():
        return
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(int(descriptor), b"\n")
        os.close(int(descriptor))


def tell_within(time: timedelta) -> None:
    """Say so after this time, unless `tell` was called before."""
    timer = threading.Timer(time.total_seconds(), tell)
    timer.daemon = True
    timer.start()
