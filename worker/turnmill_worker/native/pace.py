"""Pace: how long a vendor is left alone, and for how long something is waited for."""

from dataclasses import dataclass
from datetime import timedelta

#: An old batch is asked for as rarely as this many times the shortest pause.
_RAREST = 10
_LONGEST_PAUSE = timedelta(minutes=10)
#: So often in a row a vendor is asked in vain for what is done without, if need be.
MOST_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things are waited for."""

    poll: timedelta  #: until a young batch is asked for again
    lease: timedelta  #: until a shard whose worker is silent is taken by another

    @classmethod
    def of(cls, poll: timedelta) -> "Pace":
        """Return the pace that goes with the shortest pause between two questions."""
        return cls(poll=poll, lease=min(max(poll, timedelta(seconds=3)), timedelta(minutes=1)))

    def until_next_look(self, age: timedelta) -> timedelta:
        """Return how long a batch of this age is left alone."""
        return min(max(self.poll, age / 10), self.poll * _RAREST)

    def after_failure(self, tries: int) -> timedelta:
        """Return how long is waited after so many failures in a row."""
        pause: timedelta = self.poll * 2 ** min(tries, 10) / 4
        return min(pause, _LONGEST_PAUSE)

    @property
    def unread(self) -> timedelta:
        """How long results are asked for again that are not there, or not all of them."""
        return self.poll * 60

    @property
    def untold(self) -> timedelta:
        """How long a batch is asked again that has ended, and says of no line what came of it."""
        return self.poll * 10

    @property
    def late(self) -> timedelta:
        """How long after its end results are looked for that nobody waits for any more."""
        return self.poll * 60 * 24

    @property
    def unseen(self) -> timedelta:
        """How long a batch may exist before its vendor lists it."""
        return min(self.poll, timedelta(minutes=1))
