"""Sketches of times: how many lie in which bucket, each bucket two percent wider than the last.

A value read from a bucket is within one percent of any that was put there, so quantiles are, too;
and sketches of parts add up to the sketch of the whole, exactly.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

#: By how much a value may be off.
ERROR = 0.01
_GAMMA = (1 + ERROR) / (1 - ERROR)
LOG_GAMMA = math.log(_GAMMA)
#: Milliseconds: what is shorter, or longer, counts as that.
SHORTEST_MS = 0.01
LONGEST_MS = 3e11

#: Bucket → how many are in it.
Sketch = Mapping[int, int]


def bucket_of(ms: float) -> int:
    """Return the bucket of a time in milliseconds."""
    return math.ceil(math.log(min(max(ms, SHORTEST_MS), LONGEST_MS)) / LOG_GAMMA)


def value_of(bucket: int) -> float:
    """Return the milliseconds that a bucket stands for."""
    return float(2 * math.exp(bucket * LOG_GAMMA) / (_GAMMA + 1))


def longest_in(bucket: int) -> float:
    """Return the milliseconds that nothing in a bucket took longer than."""
    return math.inf if bucket >= bucket_of(LONGEST_MS) else math.exp(bucket * LOG_GAMMA)


def sketch_of(buckets: Iterable[int]) -> Sketch:
    """Return the sketch of values, each given by its bucket."""
    return Counter(buckets)


def merged(sketches: Iterable[Sketch]) -> Sketch:
    """Return the sketch of everything that is in any of these."""
    whole: Counter[int] = Counter()
    for one in sketches:
        whole.update(one)
    return whole


def packed(sketch: Sketch) -> tuple[list[int], list[int]]:
    """Return buckets, rising, and how many are in each."""
    buckets = sorted(sketch)
    return buckets, [sketch[one] for one in buckets]


def unpacked(buckets: Sequence[int], counts: Sequence[int]) -> Sketch:
    """Return the sketch that was packed so."""
    return dict(zip(buckets, counts, strict=True))


def size(sketch: Sketch) -> int:
    """Return how many values are in it."""
    return sum(sketch.values())


def mean(sketch: Sketch) -> float | None:
    """Return the mean of the values, within the same error; None of none."""
    count = size(sketch)
    if not count:
        return None
    return sum(value_of(bucket) * many for bucket, many in sketch.items()) / count


def quantiles(sketch: Sketch, wanted: Sequence[float]) -> dict[float, float]:
    """Return the smallest values that these shares of all do not exceed; nothing of none."""
    count = size(sketch)
    if not count:
        return {}
    found: dict[float, float] = {}
    buckets = iter(sorted(sketch))
    bucket, passed = 0, 0
    for share in sorted(set(wanted)):
        rank = max(1, math.ceil(share * count))
        while passed < rank:
            bucket = next(buckets)
            passed += sketch[bucket]
        found[share] = value_of(bucket)
    return {share: found[share] for share in wanted}
