"""What a report takes from figures that are kept: points in time, groups, hours, and times."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from types import MappingProxyType
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from turnmill.domain.analytics.report_data import Duration, Figures, Group, Point, Span
from turnmill.domain.analytics.windows import SLOT, Grain, Window, bounds_of
from turnmill.domain.states import Lane
from turnmill.store.analytics.figures import (
    Dimension,
    Latency,
    Percentiles,
    Totals,
    percentiles,
    totals,
)

#: Points of a chart; more cannot be told apart.
MOST_POINTS = 130
#: Groups of a kind; the others are added up as one.
MOST_GROUPS = 100
OTHERS = "all others"
_GRAINS = (
    (timedelta(days=2), Grain.HOUR),
    (timedelta(days=92), Grain.DAY),
    (timedelta(days=800), Grain.WEEK),
)
_HOUR = timedelta(hours=1)
_QUANTILES = (0.5, 0.95, 0.99)
_INTERACTIVE = MappingProxyType({Dimension.LANE: Lane.INTERACTIVE.value})
_NAMES = tuple(Figures.__dataclass_fields__)


def grain_of(window: Window) -> Grain:
    """Return into which spans a window is cut, so that they can be told apart."""
    return next((grain for longest, grain in _GRAINS if window.length <= longest), Grain.MONTH)


def figures_of(lines: Iterable[Totals | Figures]) -> Figures:
    """Return the sum."""
    sums: dict[str, int | Decimal] = {
        name: Decimal(0) if name.endswith("_usd") else 0 for name in _NAMES
    }
    for one in lines:
        for name in _NAMES:
            sums[name] += getattr(one, name)
    return Figures(**sums)  # type: ignore[arg-type]  # each is of its own type


@dataclass(frozen=True, slots=True)
class Cut:
    """A window, cut into points, and the window before it, whose spans are at the same places."""

    window: Window
    zone: str
    grain: Grain
    begins: Sequence[datetime]
    #: Of the spans of the window before, by when they begin.
    places_before: Mapping[datetime, int] = field(repr=False)

    @classmethod
    def of(cls, window: Window, zone: str) -> "Cut":
        """Return it; the first point begins with the window, however its day began."""
        grain = grain_of(window)
        begins = bounds_of(grain, window, ZoneInfo(zone), most=MOST_POINTS)
        begins = [max(begins[0], window.since), *begins[1:]]
        then = bounds_of(grain, window.previous(), ZoneInfo(zone), most=MOST_POINTS)
        return cls(window, zone, grain, begins, _beside(begins, then, window))

    @property
    def dimension(self) -> Dimension:
        """Return it as figures are told apart by."""
        return Dimension(self.grain.value)

    def place(self, at: datetime) -> int:
        """Return the number of the point that a moment is in."""
        return max(0, bisect_right(self.begins, at) - 1)

    def ends(self, at: int) -> datetime:
        """Return when a point ends."""
        return self.begins[at + 1] if at + 1 < len(self.begins) else self.window.until


def _beside(
    begins: Sequence[datetime], then: Sequence[datetime], window: Window
) -> dict[datetime, int]:
    """Return at which point each span of the window before has its place: where its middle is.

    Its ends are an hour off where clocks were moved in between, and days are as long as they are.
    """
    found = {}
    for at, end in pairwise([*then, window.since]):
        first = max(at, window.previous().since)
        middle = first + (end - first) / 2 + window.length
        found[at] = max(0, bisect_right(begins, middle) - 1)
    return found


@dataclass(frozen=True, slots=True)
class ByModel:
    """Figures of each point and model, now and before: what most of a report follows from."""

    cut: Cut
    now: Sequence[Totals]
    before: Sequence[Totals]

    @classmethod
    def read(cls, conn: Connection, cut: Cut) -> "ByModel":
        """Read them: one look at each of the two windows."""
        by = (cut.dimension, Dimension.PROVIDER, Dimension.MODEL)
        return cls(
            cut,
            totals(conn, cut.window, by=by, zone=cut.zone),
            totals(conn, cut.window.previous(), by=by, zone=cut.zone),
        )

    def points(self) -> list[Point]:
        """Return the figures of each point."""
        now = self._by_place(self.now, self.cut.place)
        before = self._by_place(self.before, self.cut.places_before.__getitem__)
        return [
            Point(
                at=begins,
                until=self.cut.ends(at),
                now=figures_of(now[at]),
                before=figures_of(before[at]) if self.before else None,
            )
            for at, begins in enumerate(self.cut.begins)
        ]

    def models(self) -> list[Group]:
        """Return the figures of each model, the dearest first."""
        found = groups(self.now, self.before, _model_of)
        costs: dict[tuple[str, str], list[Decimal]] = defaultdict(self._no_costs)
        kept = {(one.of, one.name) for one in found}
        for one in self.now:
            key = _model_of(one)
            place = self.cut.place(_when(one, self.cut.dimension))
            costs[key if key in kept else ("", OTHERS)][place] += one.cost_usd
        return [_with_costs(one, costs[one.of, one.name]) for one in found]

    def _no_costs(self) -> list[Decimal]:
        return [Decimal(0)] * len(self.cut.begins)

    def _by_place(
        self, lines: Sequence[Totals], place: Callable[[datetime], int]
    ) -> Mapping[int, list[Totals]]:
        found: dict[int, list[Totals]] = defaultdict(list)
        for one in lines:
            found[place(_when(one, self.cut.dimension))].append(one)
        return found


def _with_costs(one: Group, costs: Sequence[Decimal]) -> Group:
    return Group(name=one.name, of=one.of, now=one.now, before=one.before, costs_usd=costs)


def _when(one: Totals | Percentiles, dimension: Dimension) -> datetime:
    at = one.by[dimension]
    assert isinstance(at, datetime)
    return at


def _model_of(one: Totals) -> tuple[str, str]:
    return str(one.by[Dimension.PROVIDER]), str(one.by[Dimension.MODEL])


def groups(
    now: Sequence[Totals], before: Sequence[Totals], key: Callable[[Totals], tuple[str, str]]
) -> list[Group]:
    """Return the figures of each group, the dearest first; of very many, the others as one."""
    sums = _summed(now, key)
    then = _summed(before, key)
    ranked = sorted(sums, key=lambda one: (-sums[one].cost_usd, -sums[one].turns, one))
    kept, rest = ranked, ranked[:0]
    if len(ranked) > MOST_GROUPS:
        kept, rest = ranked[: MOST_GROUPS - 1], ranked[MOST_GROUPS - 1 :]
    found = [
        Group(name=one[1], of=one[0], now=sums[one], before=_then(one, then, before))
        for one in kept
    ]
    if rest:
        found.append(Group(name=OTHERS, now=figures_of(sums[one] for one in rest)))
    return found


def _then(
    key: tuple[str, str], then: Mapping[tuple[str, str], Figures], before: Sequence[Totals]
) -> Figures | None:
    """Return the figures of before: none at all, where the window before has others."""
    return then.get(key, Figures() if before else None)


def _summed(
    lines: Sequence[Totals], key: Callable[[Totals], tuple[str, str]]
) -> dict[tuple[str, str], Figures]:
    found: dict[tuple[str, str], list[Totals]] = defaultdict(list)
    for one in lines:
        found[key(one)].append(one)
    return {name: figures_of(of_it) for name, of_it in found.items()}


_OTHER_KINDS = (Dimension.LANE, Dimension.TIER, Dimension.TAG)


def other_groups(conn: Connection, window: Window) -> dict[str, list[Group]]:
    """Return the figures by lane, by tier and by tag, as `lanes`, `tiers` and `tags`."""
    now = totals(conn, window, by=_OTHER_KINDS)
    before = totals(conn, window.previous(), by=_OTHER_KINDS)
    return {f"{kind}s": groups(now, before, _by(kind)) for kind in _OTHER_KINDS}


def _by(kind: Dimension) -> Callable[[Totals], tuple[str, str]]:
    return lambda one: ("", str(one.by[kind]))


def hours(
    turns: Mapping[datetime, Totals], window: Window, zone: str, *, whole_until: datetime | None
) -> list[list[float]]:
    """Return how many turns end in each hour of the week, on average; from Monday on.

    Hours are counted by their quarters, as far as figures are whole: what is yet to come is no hour
    without turns. Of a window that is shorter than a week, the hours that are not in it are 0.
    """
    named = ZoneInfo(zone)
    sums = [[0.0] * 24 for _ in range(7)]
    counts = [[0.0] * 24 for _ in range(7)]
    at, end = window.since, min(window.until, whole_until or window.until)
    while at < end:
        local = at.astimezone(named)
        counts[local.weekday()][local.hour] += SLOT / _HOUR
        at += SLOT
    for begun, one in turns.items():
        if window.since <= begun < window.until:
            local = begun.astimezone(named)
            sums[local.weekday()][local.hour] += one.turns
    return [
        [total / n if n else total for total, n in zip(day, seen, strict=True)]
        for day, seen in zip(sums, counts, strict=True)
    ]


def durations(conn: Connection, cut: Cut) -> Iterator[Duration]:
    """Yield how long interactive turns took: each of their times, in all by points, by model."""
    before = cut.window.previous()
    for of in (Latency.TOTAL, Latency.QUEUED, Latency.FIRST_TOKEN, Latency.PROVIDER):
        now = _spans(conn, cut.window, of)
        then = _spans(conn, before, of)
        yield Duration(
            of=of.value,
            now=next(iter(now.values()), None),
            before=next(iter(then.values()), None),
            points=_by_points(conn, cut) if of is Latency.TOTAL else (),
        )
    by = (Dimension.PROVIDER, Dimension.MODEL)
    now, then = (_spans(conn, one, Latency.PROVIDER, by) for one in (cut.window, before))
    ranked = sorted(now.items(), key=lambda one: (-(one[1].count if one[1] else 0), one[0]))
    for (provider, model), span in ranked[:MOST_GROUPS]:
        yield Duration(
            of=Latency.PROVIDER.value,
            provider=provider,
            model=model,
            now=span,
            before=then.get((provider, model)),
        )


def _spans(
    conn: Connection, window: Window, of: Latency, by: Sequence[Dimension] = ()
) -> dict[tuple[str, ...], Span | None]:
    found = percentiles(conn, window, of=of, by=by, only=_INTERACTIVE, quantiles=_QUANTILES)
    return {tuple(str(one.by[name]) for name in by): _span(one) for one in found}


def _by_points(conn: Connection, cut: Cut) -> list[Span | None]:
    lines = percentiles(
        conn,
        cut.window,
        of=Latency.TOTAL,
        by=(cut.dimension,),
        zone=cut.zone,
        only=_INTERACTIVE,
        quantiles=_QUANTILES,
    )
    found: list[Span | None] = [None] * len(cut.begins)
    for one in lines:
        found[cut.place(_when(one, cut.dimension))] = _span(one)
    return found


def _span(one: Percentiles) -> Span | None:
    if not one.count:
        return None
    p50, p95, p99 = (one.quantiles_ms[name] for name in _QUANTILES)
    return Span(count=one.count, p50_ms=p50, p95_ms=p95, p99_ms=p99)
