"""Reading figures: what turns came to in a window, by time, provider, model, tier, lane and tag."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, union_all

from turnmill.domain.analytics.sketches import Sketch, bucket_of, longest_in, mean, quantiles, size
from turnmill.domain.analytics.windows import Grain, Window, bounds_of, day_of, zone_of
from turnmill.domain.errors import InvalidInput
from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.rules.buckets import last_of, read_list, span_of
from turnmill.store.schema.rollup_tables import (
    FIGURES,
    buckets_of,
    rollup_days,
    rollup_state,
    rollups,
)
from turnmill.store.types import Timestamp

_DAY = timedelta(days=1)
#: Spans that a window may be cut into.
MOST_SPANS = 50_000


class Dimension(StrEnum):
    """What figures can be told apart by."""

    SLOT = "slot"  #: a quarter of an hour
    HOUR = "hour"
    DAY = "day"  #: local, as all that is longer
    WEEK = "week"  #: from Monday on
    MONTH = "month"
    PROVIDER = "provider"
    MODEL = "model"  #: as it was asked for
    TIER = "tier"  #: in which it was served; "" where the vendor does not say
    LANE = "lane"
    TAG = "tag"  #: of the session, under the key that the operator named; "" for none


class Latency(StrEnum):
    """Which time is meant."""

    QUEUED = "queued"  #: of a turn: from when it was accepted to its first start
    FIRST_TOKEN = "first_token"  #: of an answered call: until its first token came
    PROVIDER = "provider"  #: of an answered call: until it was whole
    TOTAL = "total"  #: of a turn: from when it was accepted until it was final


GRAINS: Mapping[Dimension, Grain] = MappingProxyType({Dimension(one): one for one in Grain})
_LONG = frozenset({Grain.DAY, Grain.WEEK, Grain.MONTH})


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What the turns that ended in the window came to, with all their attempts, whenever made."""

    by: Mapping[Dimension, str | datetime] = field(default_factory=dict)  #: begin of spans: in UTC
    turns: int
    succeeded: int
    failed: int
    dead: int
    cancelled: int
    expired: int
    attempts: int
    retries: int  #: calls beyond the first one of each turn
    steps: int  #: model calls that asked for tools
    input_tokens: int
    output_tokens: int
    cached_tokens: int  #: of the input, read from the vendor's cache
    cache_write_tokens: int
    cost_usd: Decimal  #: of all priced attempts
    waste_usd: Decimal  #: of it, of attempts that were not answered
    unpriced_attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """How long it took: quantiles within 1 % of the exact ones."""

    by: Mapping[Dimension, str | datetime] = field(default_factory=dict)  #: begin of spans: in UTC
    count: int  #: of those that have such a time
    mean_ms: float | None  #: None: of none
    quantiles_ms: Mapping[float, float]  #: empty where count is 0


def totals(
    conn: Connection,
    window: Window,
    *,
    by: Sequence[Dimension] = (),
    zone: str = "UTC",
    only: Mapping[Dimension, str] = MappingProxyType({}),
) -> list[Totals]:
    """Return the figures of a window, a line for each combination, in order; one for no `by`.

    At most one of `by` is of time; spans that nothing has ended in have no line.
    """
    cut = _Cut.of(window, by, zone)
    lines = _lines(conn, window, cut, FIGURES, only).subquery().c
    keys = [lines[name] for name in cut.keys]
    sums = [func.coalesce(func.sum(lines[name]), 0).label(name) for name in FIGURES]
    rows = conn.execute(select(*keys, *sums).group_by(*keys)).mappings()
    found = [Totals(by=cut.read(row), **_figures(row)) for row in rows]
    return sorted(found, key=lambda one: tuple(one.by.values()))


def slots_of(conn: Connection, window: Window) -> dict[datetime, Totals]:
    """Return the figures of each slot of a window that has any."""
    return {begins(one): one for one in totals(conn, window, by=(Dimension.SLOT,))}


def begins(one: Totals) -> datetime:
    """Return when the slot began that a line is of."""
    at = one.by[Dimension.SLOT]
    assert isinstance(at, datetime)
    return at


def percentiles(
    conn: Connection,
    window: Window,
    *,
    of: Latency,
    by: Sequence[Dimension] = (),
    zone: str = "UTC",
    only: Mapping[Dimension, str] = MappingProxyType({}),
    quantiles: Sequence[float] = (0.5, 0.9, 0.95, 0.99),
) -> list[Percentiles]:
    """Return how long it took, a line for each combination that has such a time, in order.

    For no `by`, one line in any case.
    """
    if not all(0 < one <= 1 for one in quantiles):
        raise InvalidInput("quantiles must be above 0 and up to 1", hint="0.95")
    sketches = _sketches(conn, window, of, _Cut.of(window, by, zone), only)
    found = [_percentiles(key, sketch, quantiles) for key, sketch in sketches]
    return sorted(found, key=lambda one: tuple(one.by.values()))


def longest(
    conn: Connection,
    window: Window,
    *,
    of: Latency,
    only: Mapping[Dimension, str] = MappingProxyType({}),
    most: int,
) -> list[tuple[datetime, float]]:
    """Return the slots in which it took the longest, those first, at most so many.

    Each with the milliseconds that nothing in it took longer than.
    """
    bucket = last_of(rollups.c[buckets_of(of.value)[0]])
    longest_of = func.max(bucket)
    query = (
        select(rollups.c.slot, longest_of)
        .where(_between(rollups, window.since, window.until), *_only(rollups, only))
        .group_by(rollups.c.slot)
        .having(longest_of.is_not(None))
        .order_by(longest_of.desc(), rollups.c.slot)
        .limit(most)
    )
    return [(slot, longest_in(number)) for slot, number in conn.execute(query)]


def counted_above(
    conn: Connection,
    window: Window,
    *,
    of: Latency,
    ms: float,
    by: Dimension,
    only: Mapping[Dimension, str] = MappingProxyType({}),
) -> dict[datetime, int]:
    """Return how many took longer than that, within 1 %, in each span of time in which any did."""
    cut = _Cut.of(window, (by,), "UTC")
    found: Counter[datetime] = Counter()
    above = bucket_of(ms)
    buckets, _ = names = buckets_of(of.value)
    lines = _lines(conn, window, cut, names, only).subquery()
    # Of most lines nothing is above: these are not taken apart.
    some = select(lines).where(last_of(lines.c[buckets]) > above).subquery()
    for span, _, count in _counted(conn, some, cut, of, above=above):
        found[cut.bounds[span - 1]] += count
    return dict(found)


def folded_until(conn: Connection) -> datetime | None:
    """Return until when figures are whole: all that was committed then; None: not so far yet."""
    found: datetime | None = conn.scalar(select(rollup_state.c.folded_until))
    return found


def known_since(conn: Connection) -> datetime | None:
    """Return when the first slot began that has figures; None: none has."""
    found: datetime | None = conn.scalar(select(func.min(rollups.c.slot, type_=Timestamp)))
    return found


@dataclass(frozen=True, slots=True)
class _Cut:
    """How a window is cut: by spans of time, and by what lines are told apart by."""

    by: Sequence[Dimension]
    grain: Grain | None
    bounds: Sequence[datetime]
    in_days: bool  #: every bound is a midnight in UTC

    @classmethod
    def of(cls, window: Window, by: Sequence[Dimension], zone: str) -> "_Cut":
        by = [Dimension(one) for one in by]
        grains = [GRAINS[one] for one in by if one in GRAINS]
        if len(grains) > 1 or len(set(by)) < len(by):
            raise InvalidInput(
                "figures are told apart by one span of time, and once by each",
                hint='by=["day", "model"]',
            )
        named = zone_of(zone)
        if not grains:
            return cls(by, None, (), True)
        bounds = bounds_of(grains[0], window, named, most=MOST_SPANS)
        return cls(by, grains[0], bounds, grains[0] in _LONG and _are_midnights(bounds))

    @property
    def keys(self) -> list[str]:
        return [one.value for one in self.by]

    def columns(self, table: Any) -> Iterator[Any]:
        for one in self.by:
            if one not in GRAINS:
                yield table.c[one.value]
            else:
                yield span_of(table.c.slot, self.bounds).label(one.value)

    def read(self, row: Any) -> Mapping[Dimension, str | datetime]:
        return {
            one: self.bounds[row[one.value] - 1] if one in GRAINS else row[one.value]
            for one in self.by
        }


def _are_midnights(bounds: Sequence[datetime]) -> bool:
    return all(one == day_of(one) for one in bounds)


def _lines(
    conn: Connection,
    window: Window,
    cut: _Cut,
    names: Sequence[str],
    only: Mapping[Dimension, str],
) -> Any:
    """Select what stands of the window: days that are made where these do, slots elsewhere."""
    since, until = _whole_days(conn, window) if cut.in_days else (window.until, window.until)
    slots = or_(_between(rollups, window.since, since), _between(rollups, until, window.until))
    parts = [(rollups, slots)]
    if since < until:
        parts.append((rollup_days, _between(rollup_days, since, until)))
    return union_all(
        *(
            select(*cut.columns(table), *(table.c[name] for name in names)).where(
                which, *_only(table, only)
            )
            for table, which in parts
        )
    )


def _only(table: Any, only: Mapping[Dimension, str]) -> Iterator[ColumnElement[bool]]:
    for name, said in only.items():
        yield table.c[_dimension(name).value] == said


def _dimension(name: Dimension) -> Dimension:
    found = Dimension(name)
    if found in GRAINS:
        raise InvalidInput(
            "only= is of what lines are told apart by; a window is of time",
            hint="since= and until=",
        )
    return found


def _whole_days(conn: Connection, window: Window) -> tuple[datetime, datetime]:
    """Return from when to when days of the window are made, and stand in a table of their own."""
    made: datetime | None = conn.scalar(select(rollup_state.c.days_until))
    first = day_of(window.since)
    since = first if first == window.since else first + _DAY
    until = day_of(window.until)
    if made is None:
        return window.until, window.until
    until = min(until, made)
    return (since, until) if since < until else (window.until, window.until)


def _between(table: Any, since: datetime, until: datetime) -> ColumnElement[bool]:
    return and_(table.c.slot >= since, table.c.slot < until)


def _figures(row: Any) -> dict[str, Any]:
    return {
        name: Decimal(row[name]) if name.endswith("_usd") else int(row[name]) for name in FIGURES
    }


def _sketches(
    conn: Connection, window: Window, of: Latency, cut: _Cut, only: Mapping[Dimension, str]
) -> Iterator[tuple[Mapping[Dimension, str | datetime], Sketch]]:
    lines = _lines(conn, window, cut, buckets_of(of.value), only).subquery()
    found: defaultdict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
    if not cut.by:
        found[()] = Counter()
    for *key, bucket, count in _counted(conn, lines, cut, of):
        found[tuple(key)][bucket] += count
    for values, sketch in found.items():
        yield cut.read(dict(zip(cut.keys, values, strict=True))), sketch


def _counted(
    conn: Connection, lines: Any, cut: _Cut, of: Latency, *, above: int | None = None
) -> Iterator[tuple[Any, ...]]:
    """Yield keys, bucket and how many are in it; added up where the store can."""
    keys = [lines.c[name] for name in cut.keys]
    buckets, counts = (lines.c[name] for name in buckets_of(of.value))
    if Capability.SCHEMAS not in capabilities_of(conn):
        for *key, numbers, many in conn.execute(select(*keys, buckets, counts)):
            for bucket, count in zip(read_list(numbers), read_list(many), strict=True):
                if above is None or bucket > above:
                    yield (*key, bucket, count)
        return
    # Taken apart among what is selected, a list goes row by row; joined, it is written down first.
    apart = (func.unnest(buckets).label("bucket"), func.unnest(counts).label("n"))
    each = select(*keys, *apart).subquery("each").c
    by = [*(each[name] for name in cut.keys), each.bucket]
    query = select(*by, func.sum(each.n)).group_by(*by)
    if above is not None:
        query = query.where(each.bucket > above)
    for *key, bucket, count in conn.execute(query):
        yield (*key, bucket, int(count))


def _percentiles(
    key: Mapping[Dimension, str | datetime], sketch: Sketch, wanted: Sequence[float]
) -> Percentiles:
    return Percentiles(
        by=key,
        count=size(sketch),
        mean_ms=mean(sketch),
        quantiles_ms=quantiles(sketch, wanted),
    )
