"""When a failed attempt is tried again."""

from dataclasses import dataclass
from datetime import timedelta

from turnmill.domain.errors import ProviderError, Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter."""

    base: timedelta = timedelta(seconds=1)
    ceiling: timedelta = timedelta(minutes=2)

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

    def is_permanent(self, error: ProviderError) -> bool:
        """Tell whether trying again can never help."""
        return isinstance(error, Rejected)
