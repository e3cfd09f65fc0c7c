"""What an hour of the week usually comes to: by the same hours of the weeks before it.

Medians, so that one bad week does not make the next one usual. Weeks are of 168 hours: where clocks
were moved in between, an hour is like one of those beside it, and whoever judges it looks at these.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from statistics import median
from typing import Self

from turnmill.domain.analytics.windows import SLOT

WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)
#: Weeks that are looked back, and how many of them have to be known to say what is usual.
WEEKS = 4
LEAST_WEEKS = 3
#: From a median of distances to a deviation; of few values around their own median, more.
_TO_DEVIATION = 1.4826 * 1.25
#: Hours are never more alike than this, nor taken for wilder, as parts of what they come to.
_LEAST_SPREAD, _MOST_SPREAD = 0.15, 1.0

#: Hours to both sides that tell how much hours differ.
_BESIDE = 6
#: In quarters.
_AN_HOUR, _A_WEEK = HOUR // SLOT, WEEK // SLOT


class Series:
    """Values of quarters of an hour, one after the other, of which any span is added up at once."""

    __slots__ = ("_sums", "since")

    def __init__(self, since: datetime, values: Iterable[float]) -> None:
        """Begin with the quarter that begins then, in UTC: nothing is known of what was before."""
        self.since = since
        self._sums = [0.0, *accumulate(values)]

    @classmethod
    def of(cls, found: Mapping[datetime, float], *, since: datetime, until: datetime) -> Self:
        """Return it from values by their beginnings; one that is not there is 0."""
        count = max(0, round((until - since) / SLOT))
        return cls(since, [found.get(since + n * SLOT, 0.0) for n in range(count)])

    def over(self, since: datetime, until: datetime) -> float:
        """Return what the quarters from `since` to `until`, the end not included, come to."""
        return self.moved(since, until, by=(0,))[0]

    def moved(self, since: datetime, until: datetime, *, by: Iterable[int]) -> list[float]:
        """Return the same of this span when it is moved by so many quarters, for each of them."""
        sums, most = self._sums, len(self._sums) - 1
        first, last = (round((at - self.since) / SLOT) for at in (since, until))
        return [sums[min(max(0, last + n), most)] - sums[min(max(0, first + n), most)] for n in by]


@dataclass(frozen=True, slots=True)
class Usual:
    """What a span usually comes to, and how wide that is.

    Distances are of logarithms: what is twice as much is as far as what is half as much.
    """

    value: float
    spread: float  #: a standard deviation, as a part of the value
    ground: float  #: so much is as good as nothing; added before logarithms are taken
    lowest: float  #: what it and the spans an hour beside it usually come to, at the least
    highest: float  #: and at the most

    def off(self, value: float) -> float:
        """Return how many spreads a value is from the usual one; below 0: it is less."""
        return math.log((value + self.ground) / (self.value + self.ground)) / self.spread

    def at(self, spreads: float) -> float:
        """Return the value that is so many spreads off."""
        return (self.value + self.ground) * math.exp(spreads * self.spread) - self.ground


def usual(series: Series, since: datetime, until: datetime, *, ground: float) -> Usual | None:
    """Return what this span usually comes to, by the same one of the weeks before.

    None where fewer than three whole weeks are known before it. The value is between those of the
    hours beside it, and how much hours differ is taken from half a day around, each from its own
    median: from four values alone neither is known.
    """
    first = series.since + _BESIDE * HOUR
    weeks = [week for week in range(1, WEEKS + 1) if since - week * WEEK >= first]
    if len(weeks) < LEAST_WEEKS:
        return None
    values = {
        beside: series.moved(
            since, until, by=[beside * _AN_HOUR - week * _A_WEEK for week in weeks]
        )
        for beside in range(-_BESIDE, _BESIDE + 1)
    }
    away = [one for found in values.values() for one in _distances(found, ground)]
    spread = min(max(_TO_DEVIATION * median(away), _LEAST_SPREAD), _MOST_SPREAD)
    near = [median(values[beside]) for beside in (-1, 0, 1)]
    middle = math.exp(math.fsum(math.log(one + ground) for one in near) / 3) - ground
    return Usual(middle, spread, ground, min(near), max(near))


def _distances(values: Sequence[float], ground: float) -> list[float]:
    middle = median(values) + ground
    return [abs(math.log((one + ground) / middle)) for one in values]


def hours_of_week(series: Series, since: datetime, until: datetime) -> list[float]:
    """Return the mean of each hour of the week in UTC, Monday 00:00 first; 168 of them.

    An hour that the span has no whole one of is as the mean of those that it has.
    """
    sums, counts = [0.0] * 168, [0] * 168
    at = since.replace(minute=0, second=0, microsecond=0)
    while at + HOUR <= until:
        place = hour_of_week(at)
        sums[place] += series.over(at, at + HOUR)
        counts[place] += 1
        at += HOUR
    known = math.fsum(sums) / (sum(counts) or 1)
    return [total / n if n else known for total, n in zip(sums, counts, strict=True)]


def hour_of_week(at: datetime) -> int:
    """Return the number of an hour in its week, in UTC, from Monday 00:00 on."""
    return at.weekday() * 24 + at.hour


def weight_of(profile: Sequence[float], since: datetime, until: datetime) -> float:
    """Return what a span comes to if each of its hours is as the profile has it."""
    whole, rest = divmod((until - since) / HOUR, 168)
    weight = whole * math.fsum(profile)
    at, left = since, rest
    while left > 1e-9:
        into = (at - at.replace(minute=0, second=0, microsecond=0)) / HOUR
        part = min(1 - into, left)
        weight += part * profile[hour_of_week(at)]
        at += part * HOUR
        left -= part
    return weight
