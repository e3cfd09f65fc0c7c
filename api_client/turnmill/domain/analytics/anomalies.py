"""Hours that are out of the ordinary: far from what their hour of the week usually comes to."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from turnmill.domain.analytics.report_data import Anomaly, Metric
from turnmill.domain.analytics.usual import HOUR, Series, Usual, usual

#: Spreads from the usual value, and times of it, from which on an hour stands out: times of those
#: of the hours beside it, too, for clocks are moved.
_FAR = 6.0
_TIMES = 2.0
#: What a difference has to come to at least: dollars, or turns.
_LEAST = {Metric.COST: 1.0, Metric.TURNS: 100.0, Metric.FAILURES: 10.0}
#: Of one metric, in a report; the largest are kept.
MOST = 20
#: Longer windows have more hours than anybody looks at one by one.
LONGEST_LOOK = 93 * 24 * HOUR


def anomalies(metric: Metric, series: Series, since: datetime, until: datetime) -> list[Anomaly]:
    """Return the spans that stand out, in their order; hours that follow each other are one.

    More than usual, for all of them; of turns less than usual, too. Nothing stands out where fewer
    than three weeks before are known.
    """
    joined: list[Anomaly] = []
    for one in _hours(metric, series, since, until):
        last = joined[-1] if joined else None
        if last is not None and last.until == one.at and last.is_above == one.is_above:
            joined[-1] = replace(
                last,
                until=one.until,
                value=last.value + one.value,
                expected=last.expected + one.expected,
            )
        else:
            joined.append(one)
    largest = sorted(joined, key=lambda one: abs(one.value - one.expected), reverse=True)[:MOST]
    return [one for one in joined if one in largest]


def _hours(metric: Metric, series: Series, since: datetime, until: datetime) -> Iterator[Anomaly]:
    least = _LEAST[metric]
    at = since
    while at + HOUR <= until:
        ends = at + HOUR
        known = usual(series, at, ends, ground=least / _FAR)
        value = series.over(at, ends)
        if known is not None and _stands_out(metric, value, known):
            yield Anomaly(metric=metric, at=at, until=ends, value=value, expected=known.value)
        at = ends


def _stands_out(metric: Metric, value: float, known: Usual) -> bool:
    """Tell whether it is far from what is usual then, and from what is an hour before and after."""
    if abs(value - known.value) < _LEAST[metric]:
        return False
    off = known.off(value)
    if off > _FAR:
        return value > max(known.value, known.highest) * _TIMES
    least = min(known.value, known.lowest)
    return metric is Metric.TURNS and off < -_FAR and value < least / _TIMES
