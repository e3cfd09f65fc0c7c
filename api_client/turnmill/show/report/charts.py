"""Charts: columns and lines in SVG that stretches, with its words beside it, so that they do not.

Below each stands the same as a table. Colours are classes, which the style sheet gives a meaning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from turnmill.show.report.elements import el, put
from turnmill.show.report.tables import Table, folded

_WIDE, _HIGH = 1000.0, 100.0
_GAP = 0.24  # of the width of a column, between it and the next one
_TOP = 1.04  # so that nothing touches the upper edge
_NICE = (1, 2, 2.5, 4, 5, 8, 10)
#: Words below a chart: more are not read, and on a phone a third of them.
_MOST_TICKS = 12
_FEW_TICKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values of one colour, one for each point; None where there is none."""

    name: str
    colour: str  #: a class of the style sheet
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point that somebody should look at."""

    at: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What the points are called, and how values read."""

    ticks: Sequence[str] = field(repr=False)
    names: Sequence[str] = field(repr=False)  #: of points, where there is room
    read: Callable[[float], str]
    scale: Callable[[float], str]  #: the same at the side of the chart, where values are round


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What is drawn, with the words that stand for it where it cannot be seen."""

    id: str
    title: str
    says: str  #: what it comes to, in a sentence
    axis: Axis
    series: Sequence[Series]
    before: Sequence[float | None] = ()  #: of the window before: a mark on each column
    marks: Sequence[Mark] = ()
    table: Table
    least: float = 0.0  #: to which the upper edge rises at least
    notes: Sequence[str] = field(
        default=(), repr=False
    )  #: of each point, in place of what its values say


def columns(chart: Chart) -> Element:
    """Return columns, those of one point on top of each other."""
    tops = [_sum(one.values[at] for one in chart.series) for at in range(len(chart.axis.ticks))]
    top = _ceiling(chart, [*tops, *chart.before])
    plot = _plot(chart)
    put(plot, _grid(top))
    for at in range(len(tops)):
        put(plot, _column(chart, at, top))
    put(plot, _before(chart, top))
    put(plot, _hits(chart))
    return _figure(chart, plot, top, tops)


def lines(chart: Chart) -> Element:
    """Return lines, each with gaps where it has no value."""
    values = [value for one in chart.series for value in one.values]
    top = _ceiling(chart, [*values, *chart.before])
    plot = _plot(chart)
    put(plot, _grid(top))
    for one in reversed(chart.series):
        put(plot, _line(one, top))
    if chart.before:
        put(plot, _line(Series(name="", colour="before", values=chart.before), top))
    put(plot, _hits(chart))
    heights = [max(s.values[at] or 0 for s in chart.series) for at in range(len(chart.axis.ticks))]
    return _figure(chart, plot, top, heights)


def sparkline(values: Sequence[float | None]) -> Element | None:
    """Return a line without words: how a figure went. None where it went nowhere."""
    if sum(value is not None for value in values) < 2:
        return None
    top = max(value or 0 for value in values) or 1.0
    plot = el("svg", class_="spark", viewBox="0 0 1000 100", preserveAspectRatio="none")
    plot.set("aria-hidden", "true")
    return put(plot, _line(Series(name="", colour="accent", values=values), top * 1.1))


def _plot(chart: Chart) -> Element:
    plot = el("svg", class_="plot", viewBox="0 0 1000 100", preserveAspectRatio="none", role="img")
    plot.set("aria-labelledby", f"{chart.id}-title")
    plot.set("aria-describedby", f"{chart.id}-says")
    return plot


def _column(chart: Chart, at: int, top: float) -> Iterator[Element]:
    """Yield the parts of one column, from the ground up."""
    wide = _WIDE / len(chart.axis.ticks)
    left, base = wide * at + wide * _GAP / 2, _HIGH
    for one in chart.series:
        high = (one.values[at] or 0) / top * _HIGH
        if high <= 0:
            continue
        base -= high
        yield el(
            "rect",
            class_=f"fill {one.colour}",
            x=_num(left),
            y=_num(base),
            width=_num(wide * (1 - _GAP)),
            height=_num(high),
        )


def _before(chart: Chart, top: float) -> Iterator[Element]:
    wide = _WIDE / len(chart.axis.ticks)
    for at, value in enumerate(chart.before):
        if value is None:
            continue
        y = _num(_HIGH - value / top * _HIGH)
        left, right = wide * (at + _GAP / 4), wide * (at + 1 - _GAP / 4)
        yield el("path", class_="then", d=f"M{_num(left)} {y}H{_num(right)}")


def _line(one: Series, top: float) -> Iterator[Element]:
    """Yield one path for each stretch without a gap; a point by itself is a dot."""
    wide = _WIDE / max(1, len(one.values))
    stretch: list[str] = []
    for at, value in enumerate([*one.values, None]):
        if value is not None:
            stretch.append(f"{_num(wide * (at + 0.5))} {_num(_HIGH - value / top * _HIGH)}")
        elif stretch:
            rest = "L".join(stretch[1:]) or stretch[0]
            alone = " alone" if len(stretch) == 1 else ""
            yield el("path", class_=f"line {one.colour}{alone}", d=f"M{stretch[0]}L{rest}")
            stretch = []


def _hits(chart: Chart) -> Iterator[Element]:
    """Yield what tells the values of a point to who holds a pointer over it."""
    wide = _WIDE / len(chart.axis.ticks)
    for at, name in enumerate(chart.axis.names):
        said = [
            f"{one.name}: {chart.axis.read(value)}"
            for one in reversed(chart.series)
            if (value := one.values[at])
        ]
        if chart.before and (then := chart.before[at]) is not None:
            said.append(f"the period before: {chart.axis.read(then)}")
        if chart.notes:
            said = [chart.notes[at]]
        title = el("title", "\n".join([name, *said]))
        rect = el("rect", title, class_="hit", x=_num(wide * at), y=0, width=_num(wide), height=100)
        yield rect


def _grid(top: float) -> Iterator[Element]:
    for value in _steps(top):
        y = _num(_HIGH - value / top * _HIGH)
        yield el("path", class_="grid" if value else "ground", d=f"M0 {y}H1000")


def _figure(chart: Chart, plot: Element, top: float, heights: Sequence[float]) -> Element:
    caption = el("figcaption", el("span", chart.title, class_="title", id=f"{chart.id}-title"))
    put(caption, [el("span", chart.says, class_="says", id=f"{chart.id}-says")])
    frame = el(
        "div", el("div", *_scale(chart, top), class_="ys", aria_hidden="true"), class_="frame"
    )
    area = el("div", plot, class_="area")
    put(area, _marks(chart, top, heights))
    put(frame, [area, el("div", *_ticks(chart.axis), class_="xs", aria_hidden="true")])
    return el("figure", caption, _legend(chart), frame, folded(chart.table), class_="chart")


def _scale(chart: Chart, top: float) -> Iterator[Element]:
    for value in _steps(top):
        style = f"bottom:{value / top * 100:.2f}%"
        yield el("span", chart.axis.scale(value), style=style)


def _marks(chart: Chart, top: float, heights: Sequence[float]) -> Iterator[Element]:
    wide = 100 / len(chart.axis.ticks)
    for one in chart.marks:
        style = f"left:{wide * (one.at + 0.5):.2f}%;bottom:{heights[one.at] / top * 100:.2f}%"
        yield el(
            "span", class_="mark", style=style, title=one.what, role="img", aria_label=one.what
        )


def _ticks(axis: Axis) -> Iterator[Element]:
    count = len(axis.ticks)
    every, rare = math.ceil(count / _MOST_TICKS), math.ceil(count / _FEW_TICKS)
    rare = math.ceil(rare / every) * every  # what is shown on a phone is shown elsewhere, too
    for at in range(0, count, every):
        style = f"left:{(at + 0.5) * 100 / count:.2f}%"
        yield el("span", axis.ticks[at], style=style, class_=None if at % rare == 0 else "minor")


def _legend(chart: Chart) -> Element | None:
    keys = [
        el("li", el("i", class_=f"key {one.colour}"), el("bdi", one.name)) for one in chart.series
    ]
    if any(value is not None for value in chart.before):
        keys.append(el("li", el("i", class_="key then"), "the period before"))
    if chart.marks:
        keys.append(el("li", el("i", class_="key marked"), "out of the ordinary"))
    return el("ul", *keys, class_="legend", aria_hidden="true") if len(keys) > 1 else None


def _ceiling(chart: Chart, values: Sequence[float | None]) -> float:
    """Return a round number that nothing is above."""
    highest = max([value for value in values if value is not None], default=0.0)
    highest = max(highest * _TOP, chart.least)
    if highest <= 0 or not math.isfinite(highest):
        return 1.0
    size = 10.0 ** math.floor(math.log10(highest))
    return next((step * size for step in _NICE if step * size >= highest), 10 * size)


def _steps(top: float) -> list[float]:
    lead = round(top / 10 ** math.floor(math.log10(top)), 1)
    parts = {2.5: 5, 5.0: 5}.get(lead, 4)
    return [top * n / parts for n in range(parts + 1)]


def _sum(values: Iterator[float | None]) -> float:
    return math.fsum(value for value in values if value is not None)


def _num(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
