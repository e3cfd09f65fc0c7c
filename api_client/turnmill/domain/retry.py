"""When a failed attempt is tried again."""

from dataclasses import dataclass
from datetime import timedelta

from turnmill.domain.errors import ProviderError, Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter."""

    base: timedelta = timedelta(seconds=1)
    ceiling: timedelta = timedelta(minutes=2)
    most_often: timedelta = timedelta(seconds=2)  #: a question about one turn
    least_often: timedelta = timedelta(minutes=1)

    def delay_after(
        self, error: ProviderError, *, attempt: int, max_attempts: int, jitter: float
    ) -> timedelta | None:
        """Return how long to wait after failed attempt number `attempt`, or None to give up.

        `jitter` is a number in [0, 1) that the caller draws. A wait named by the provider
        is a floor: we never come back earlier than asked.
        """
        if self.is_permanent(error) or attempt >= max_attempts:
            return None
        doublings: int = 2 ** min(attempt - 1, 30)
        window = min(self.ceiling, self.base * doublings)
        floor = error.retry_after or timedelta(0)
        return max(floor, timedelta(0)) + window * jitter

    def ask_again_after(self, waited: timedelta, *, floor: timedelta, jitter: float) -> timedelta:
        """Return when to ask again what has become of a turn that is so old.

        An eighth of its age, so that an answer is found about as late as it took long. A wait named
        by the provider is a floor.
        """
        pause = min(max(waited / 8, self.most_often), self.least_often)
        return max(floor, pause * (1 + jitter / 8))

    def is_permanent(self, error: ProviderError) -> bool:
        """Tell whether trying again can never help."""
        return isinstance(error, Rejected)
