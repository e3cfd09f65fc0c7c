"""How long the copy of a turn that has ended is waited for, until the store tells the rest."""

import time

from turnmill.store.turn_records import Watched
from turnmill.streams.copies import Copy
from turnmill.streams.following import Following

#: The last entries are written when the verdict stands; with many streams they take so long.
_UNDER_WAY_SECONDS = 0.6
#: A server that says nothing is given up.
_LONGEST_SECONDS = 4.0
#: How often to look whether it is time.
LOOK_SECONDS = 0.1


class Patience:
    """Begins when the turn is seen to have ended."""

    def __init__(self) -> None:
        self._began: float | None = None

    def is_over(self, seen: Watched, following: Following, copy: Copy) -> bool:
        """Tell whether the reader is to be told the rest now."""
        if not seen.is_final:
            self._began = None
            return False
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        waited = now - self._began
        if not following.lacks(seen) or waited > _LONGEST_SECONDS:
            return True
        return not copy.is_behind and (not seen.is_fresh or waited > _UNDER_WAY_SECONDS)
