"""A year in which nothing happens, seeded: hours of the week, holidays, growth and noise."""

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime

from turnmill.domain.analytics.windows import SLOT

START = datetime(2025, 11, 3, tzinfo=UTC)  # a Monday
_GROWTH_OF_A_WEEK = 1.01
_HOLIDAYS = frozenset({52, 53, 54, 58, 59, 152, 153, 154, 178, 330})  # days of that year


def shape(at: datetime) -> float:
    """Return how busy an hour of the week is: 1 is the busiest one."""
    hour = at.hour + at.minute / 60
    day = 0.06 + math.exp(-((hour - 10.5) ** 2) / 10) + 0.9 * math.exp(-((hour - 15) ** 2) / 12)
    return day / 1.25 * (0.3 if at.weekday() >= 5 else 1.0)


def quiet_slots(
    *, days: int, busiest: float, seed: int, noise: float = 0.25
) -> Iterator[tuple[datetime, float]]:
    """Yield each quarter of an hour and what it comes to, where the busiest comes to `busiest`.

    Days differ by a tenth, quarters by `noise`; both as factors, so that large ones vary more.
    """
    dice = random.Random(seed)
    at = START
    for day in range(days):
        is_holiday = day % 365 in _HOLIDAYS
        level = busiest * _GROWTH_OF_A_WEEK ** (day / 7) * math.exp(dice.gauss(0, 0.1))
        for _ in range(96):
            value = level * shape(at) * (0.3 if is_holiday else 1.0)
            yield at, value * math.exp(dice.gauss(0, noise))
            at += SLOT


def poisson(mean: float, dice: random.Random) -> int:
    """Return a number of accidents where `mean` are usual."""
    if mean > 50:
        return max(0, round(dice.gauss(mean, math.sqrt(mean))))
    limit, count, product = math.exp(-mean), 0, dice.random()
    while product > limit:
        count += 1
        product *= dice.random()
    return count
