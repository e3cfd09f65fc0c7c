"""Fresh ids: the clock and the dice behind every one."""

import os
import time
from uuid import UUID

from turnmill.domain.ids import uuid7
from turnmill.forking import in_child

_THROWS = 128


class _Dice:
    """The system's random bits, fetched for many ids at once.

    Each fetch lets other threads go first: whoever writes a group of fifty rows would wait for them
    fifty times.
    """

    def __init__(self) -> None:
        self.start_afresh()
        in_child(self)

    def start_afresh(self) -> None:
        """Throw away what a parent has too."""
        self._thrown: list[int] = []

    def throw(self) -> int:
        """Return 64 random bits that nobody else gets. From any thread."""
        try:
            return self._thrown.pop()
        except IndexError:
            thrown = memoryview(os.urandom(8 * _THROWS)).cast("Q").tolist()
            mine = thrown.pop()
            self._thrown = thrown
            return mine


_dice = _Dice()


def new_id() -> UUID:
    """Return a fresh id that sorts by time, also among those of one millisecond."""
    # RFC 9562, section 6.2, method 3: twelve of the random bits are the time within it.
    unix_ms, rest_ns = divmod(time.time_ns(), 1_000_000)
    within = rest_ns * 4096 // 1_000_000
    return uuid7(unix_ms=unix_ms, random_bits=within << 62 | _dice.throw() >> 2)
