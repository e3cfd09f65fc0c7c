"""Differences between two ways of answering: how large they are, and how sure that is.

What is counted together need not be independent: turns of one session, sessions of one user. So
figures come in clusters, and the spread is that between clusters (the linearised variance of a
ratio, as in Cochran, *Sampling Techniques*, 6.3; with Student's t for few clusters).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, lgamma, log, sqrt

#: Below so many clusters on a side an interval is not worth its name.
FEWEST = 8
#: At so many clusters an interval that may be looked at again and again is tightest.
_TUNED_FOR = 200
_WRONG = 0.05  #: of intervals may miss


@dataclass(frozen=True, slots=True)
class Cluster:
    """What was counted of one user, or of one session."""

    total: float
    of: float  #: how many things that is the total of


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How two sides compare; the interval is of `difference`, at 95 %."""

    n: int  #: things that were compared: pairs, or the fewer of both sides
    clusters: int  #: that are independent of each other
    before: float | None  #: the mean; None: there is none
    after: float | None
    difference: float | None  #: after - before
    low: float | None  #: None: there is too little to say
    high: float | None

    @property
    def is_clear(self) -> bool:
        """Tell whether the interval leaves no difference out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    @property
    def share(self) -> float | None:
        """Return the difference as a share of what was before; None where that is 0, or below."""
        if self.before is None or self.before <= 0 or self.difference is None:
            return None
        return self.difference / self.before


@dataclass(frozen=True, slots=True)
class _Mean:
    mean: float
    squares: float  #: of how far the clusters are from it
    clusters: int
    n: float

    @property
    def variance(self) -> float | None:
        """Return that of the mean; None: there is one cluster."""
        if self.clusters < 2:
            return None
        return self.clusters / (self.clusters - 1) * self.squares / (self.n * self.n)

    def variance_beside(self, other: "_Mean") -> float:
        """Return the variance of the mean, of clusters no more alike than those of both sides are.

        Few clusters of which none has what is rare look as if it never happened.
        """
        pooled = (self.squares + other.squares) / (self.clusters + other.clusters - 2)
        return max(self.variance or 0.0, self.clusters * pooled / (self.n * self.n))


def paired(pairs: Iterable[tuple[object, float, float]]) -> Difference:
    """Compare (cluster, before, after) of the same things, each with itself."""
    sums: dict[object, list[float]] = {}
    n, all_before, all_after = 0, 0.0, 0.0
    for cluster, before, after in pairs:
        of = sums.setdefault(cluster, [0.0, 0.0])
        of[0] += after - before
        of[1] += 1
        n, all_before, all_after = n + 1, all_before + before, all_after + after
    if not n:
        return Difference(
            n=0, clusters=0, before=None, after=None, difference=None, low=None, high=None
        )
    mean = _mean([Cluster(*one) for one in sums.values()])
    low, high = _interval(mean)
    return Difference(
        n=n,
        clusters=len(sums),
        before=all_before / n,
        after=all_after / n,
        difference=mean.mean,
        low=low,
        high=high,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion:
    """A mean of figures between 0 and 1, with its interval at 95 %."""

    n: int
    clusters: int
    mean: float | None
    low: float | None
    high: float | None


def proportion_of(figures: Iterable[tuple[object, float]]) -> Proportion:
    """Return the mean of (cluster, figure), figures between 0 and 1.

    The interval is Wilson's, for as many independent figures as the clusters amount to: it never
    leaves 0 to 1, and is no point where all figures are alike.
    """
    sums: dict[object, list[float]] = {}
    for cluster, figure in figures:
        of = sums.setdefault(cluster, [0.0, 0.0])
        of[0], of[1] = of[0] + figure, of[1] + 1
    if not sums:
        return Proportion(n=0, clusters=0, mean=None, low=None, high=None)
    mean = _mean([Cluster(*one) for one in sums.values()])
    p, n = mean.mean, float(mean.n)
    if mean.variance is not None and mean.variance > 0 and 0 < p < 1:
        n = min(n, p * (1 - p) / mean.variance)
    else:
        n = min(n, len(sums))
    z = t_quantile(max(len(sums) - 1, 1))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Proportion(n=round(mean.n), clusters=len(sums), mean=p, low=low, high=high)


def between(
    before: Iterable[Cluster],
    after: Iterable[Cluster],
    *,
    within: tuple[float, float] | None = None,
) -> Difference:
    """Compare two sides that share no cluster, by an interval that may be looked at at any time.

    `within`: what a figure may be at the least and at the most. Then the spread of a side is that
    of its clusters and of two more, one at each end: where all are alike, that is no certainty.

    It is a confidence sequence: that it ever misses, however often somebody looks and decides, has
    a chance of 5 % (Waudby-Smith et al., *Time-uniform central limit theory*, 2021; asymptotic, so
    it begins with `FEWEST` clusters on each side). It is wider than one that is looked at once.
    """
    one, other = _mean_or_none(before, within), _mean_or_none(after, within)
    if one is None or other is None:
        return Difference(
            n=0,
            clusters=0,
            before=None if one is None else one.mean,
            after=None if other is None else other.mean,
            difference=None,
            low=None,
            high=None,
        )
    difference, clusters = other.mean - one.mean, min(one.clusters, other.clusters)
    low = high = None
    if clusters >= FEWEST:
        variance = one.variance_beside(other) + other.variance_beside(one)
        half = always(one.clusters + other.clusters) * sqrt(variance)
        low, high = difference - half, difference + half
        if within is not None:  # nothing differs by more
            most = within[1] - within[0]
            low, high = max(low, -most), min(high, most)
    return Difference(
        n=round(min(one.n, other.n)),
        clusters=clusters,
        before=one.mean,
        after=other.mean,
        difference=difference,
        low=low,
        high=high,
    )


def always(n: int) -> float:
    """Return how many standard errors wide an interval is, on each side, that always holds."""
    rho = (-2 * log(_WRONG) + log(-2 * log(_WRONG)) + 1) / _TUNED_FOR
    grown = n * rho + 1
    return sqrt(2 * grown / (n * rho) * log(sqrt(grown) / _WRONG))


def _mean_or_none(clusters: Iterable[Cluster], within: tuple[float, float] | None) -> _Mean | None:
    found = [one for one in clusters if one.of > 0]
    return _mean(found, within or ()) if found else None


def _mean(clusters: list[Cluster], ends: Iterable[float] = ()) -> _Mean:
    """Return the ratio of sums, and how far clusters are from it, with one more at each end.

    Those are as large as clusters are in the mean square: where a few are most of all, one more
    like them might have come, and moved the ratio more than most do.
    """
    total, n, count = sum(c.total for c in clusters), sum(c.of for c in clusters), len(clusters)
    mean = total / n
    squares = sum((c.total - mean * c.of) ** 2 for c in clusters)
    size = sum(c.of**2 for c in clusters) / count  # squared
    squares += sum((end - mean) ** 2 * size for end in ends)
    return _Mean(mean, squares, count, n)


def _interval(found: _Mean) -> tuple[float | None, float | None]:
    if found.variance is None or found.clusters < FEWEST:
        return None, None
    half = t_quantile(found.clusters - 1) * sqrt(found.variance)
    return found.mean - half, found.mean + half


def t_quantile(df: int) -> float:
    """Return what Student's t exceeds, on either side, in 5 % of cases."""
    low, high = 1.9, 13.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(middle, df) > _WRONG / 2 else (low, middle)
    return (low + high) / 2


def _tail(t: float, df: int) -> float:
    """Return how likely Student's t is above `t`: half the regularised incomplete beta."""
    a, b, x = df / 2, 0.5, df / (df + t * t)
    front = exp(a * log(x) + b * log(1 - x) + lgamma(a + b) - lgamma(a) - lgamma(b))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a / 2
    return (1 - front * _fraction(b, a, 1 - x) / b) / 2


def _fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of the incomplete beta, by Lentz' method."""
    tiny, c, d = 1e-300, 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d or tiny)
    found = d
    for m in range(1, 200):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / ((1 + step * d) or tiny)
            c = (1 + step / c) or tiny
            found *= c * d
        if abs(c * d - 1) < 1e-12:
            break
    return found
