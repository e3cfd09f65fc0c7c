"""The clock that leases are watched by in this process: it never steps, and never stands still."""

import time

# Linux stops the monotonic clock while the machine is suspended; leases run out all the same.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return seconds since some moment in the past."""
    return time.clock_gettime(_CLOCK)
