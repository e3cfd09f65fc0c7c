"""How sure a figure is: intervals that hold the truth in 95 of 100 cases."""

import math
from typing import NamedTuple

#: Of the normal distribution: 95 % lie within.
Z = 1.959963984540054


class Interval(NamedTuple):
    """From where to where."""

    low: float
    high: float


def share(hits: int, of: int) -> Interval:
    """Return Wilson's score interval of a share; 0 to 1 where nothing was counted."""
    if of <= 0:
        return Interval(0.0, 1.0)
    p, zz = hits / of, Z * Z
    middle = (p + zz / (2 * of)) / (1 + zz / of)
    half = Z / (1 + zz / of) * math.sqrt(p * (1 - p) / of + zz / (4 * of * of))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def difference(hits: int, of: int, other_hits: int, other_of: int) -> Interval:
    """Return Newcombe's interval of a share less another one: his method 10, from Wilson's."""
    if of <= 0 or other_of <= 0:
        return Interval(-1.0, 1.0)
    p, q = hits / of, other_hits / other_of
    mine, others = share(hits, of), share(other_hits, other_of)
    low = p - q - math.hypot(p - mine.low, others.high - q)
    high = p - q + math.hypot(mine.high - p, q - others.low)
    return Interval(low, high)


def mean(count: int, total: float, squares: float) -> Interval:
    """Return the normal interval of a mean, from the sums of values and of their squares."""
    if count < 2:
        return Interval(-math.inf, math.inf)
    middle = total / count
    variance = max(0.0, (squares - total * total / count) / (count - 1))
    half = Z * math.sqrt(variance / count)
    return Interval(middle - half, middle + half)


def ratio(top: Interval, bottom: Interval) -> Interval:
    """Return an interval that holds a quotient of two figures above 0 whenever theirs hold both."""
    if bottom.low <= 0:
        return Interval(0.0, math.inf)
    return Interval(max(0.0, top.low) / bottom.high, top.high / bottom.low)
