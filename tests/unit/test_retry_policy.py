"""When a failed attempt is tried again: full jitter, a floor, a ceiling, and an end."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnmill.domain.errors import (
    KeyMissing,
    MaybeSent,
    NotSent,
    Overloaded,
    ProviderError,
    ProviderUnknown,
    RateLimited,
    Rejected,
    Unreachable,
)
from turnmill.domain.retry import RetryPolicy

SECOND = timedelta(seconds=1)
POLICY = RetryPolicy(base=SECOND, ceiling=timedelta(seconds=20))


def delay(error: ProviderError, *, attempt: int = 1, jitter: float = 0.0) -> timedelta:
    found = POLICY.delay_after(error, attempt=attempt, max_attempts=attempt + 1, jitter=jitter)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("attempt", "window"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 20), (60, 20), (999, 20)]
)
def test_the_window_doubles_up_to_the_ceiling(attempt: int, window: int) -> None:
    assert delay(NotSent(), attempt=attempt, jitter=0.5) == window * SECOND / 2


def test_the_whole_window_is_used() -> None:
    assert delay(NotSent(), attempt=3, jitter=0.0) == timedelta(0)
    assert delay(NotSent(), attempt=3, jitter=0.999) == 3.996 * SECOND


def test_a_wait_named_by_the_provider_is_a_floor_and_jitter_comes_on_top() -> None:
    error = RateLimited(retry_after=30 * SECOND)
    assert delay(error, jitter=0.0) == 30 * SECOND
    assert delay(error, attempt=2, jitter=0.5) == 31 * SECOND


def test_a_wait_in_the_past_is_no_wait() -> None:
    assert delay(RateLimited(retry_after=-5 * SECOND)) == timedelta(0)


@pytest.mark.parametrize("kind", [Rejected, ProviderUnknown, KeyMissing])
def test_what_is_refused_for_good_is_not_tried_again(kind: type[ProviderError]) -> None:
    assert POLICY.is_permanent(kind())
    assert POLICY.delay_after(kind(), attempt=1, max_attempts=5, jitter=0.0) is None


@pytest.mark.parametrize("kind", [NotSent, RateLimited, Overloaded, Unreachable, MaybeSent])
def test_everything_else_is(kind: type[ProviderError]) -> None:
    assert not POLICY.is_permanent(kind())
    assert POLICY.delay_after(kind(), attempt=4, max_attempts=5, jitter=0.0) is not None


@pytest.mark.parametrize("attempt", [5, 6])
def test_the_last_attempt_is_the_last(attempt: int) -> None:
    error = RateLimited(retry_after=SECOND)
    assert POLICY.delay_after(error, attempt=attempt, max_attempts=5, jitter=0.0) is None


@given(
    attempt=st.integers(1, 10_000),
    jitter=st.floats(0, 1, exclude_max=True),
    floor=st.timedeltas(timedelta(0), timedelta(days=1)),
)
def test_a_delay_is_never_before_the_floor_nor_far_beyond_the_ceiling(
    attempt: int, jitter: float, floor: timedelta
) -> None:
    found = delay(RateLimited(retry_after=floor), attempt=attempt, jitter=jitter)
    assert floor <= found <= floor + POLICY.ceiling
