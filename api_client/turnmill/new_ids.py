"""Fresh ids: the clock and the dice behind every one."""

import os
import time
from uuid import UUID

from turnmill.domain.ids import uuid7


def new_id() -> UUID:
    """Return a fresh id that sorts by time, also among those of one millisecond."""
    # RFC 9562, section 6.2, method 3: twelve of the random bits are the time within it.
    unix_ms, rest_ns = divmod(time.time_ns(), 1_000_000)
    within = rest_ns * 4096 // 1_000_000
    return uuid7(unix_ms=unix_ms, random_bits=within << 62 | int.from_bytes(os.urandom(8)) >> 2)
