"""The full form as a picture: what each system does as more is in flight, at each latency.

Two rows of panels, turns in a second and CPU for a turn; a column for each latency. All axes are
logarithmic.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import svg
from benchmarks.svg import FAINT, text
from benchmarks.systems import SYSTEMS

_COLOURS = {
    "interactive": "#2f6f8f",
    "bulk": "#3d9a6b",
    "threads": "#d08c3c",
    "prefork": "#b04a4a",
    "bare": "#8a8f98",
    "limit": "#1f1f1f",
}
_PANEL_WIDTH, _PANEL_HEIGHT, _MARGIN, _LEFT, _TOP = 250, 220, 62, 66, 76
_GRID = "#e3e7e9"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis: values to a length."""

    least: float
    most: float
    length: float

    def at(self, value: float) -> float:
        part = math.log(value / self.least) / math.log(self.most / self.least)
        return part * self.length

    def marks(self) -> list[float]:
        """Return what is written beside it: 1, 2 and 5 of each power of ten."""
        powers = range(math.floor(math.log10(self.least)), math.ceil(math.log10(self.most)) + 1)
        candidates = [step * 10.0**power for power in powers for step in (1, 2, 5)]
        return [mark for mark in candidates if self.least <= mark <= self.most]


def picture(rows: Sequence[Row], *, note: str) -> str:
    """Return an SVG of all the points of a run."""
    rows = [row for row in rows if row["cpu_ms"]]
    latencies = sorted({row["latency_s"] for row in rows})
    width = _LEFT + len(latencies) * (_PANEL_WIDTH + _MARGIN)
    height = _TOP + 2 * (_PANEL_HEIGHT + _MARGIN) + 20
    drawn = [*_legend()]
    for column, latency in enumerate(latencies):
        here = [row for row in rows if row["latency_s"] == latency]
        for line, (title, figure) in enumerate(_FIGURES):
            x = _LEFT + column * (_PANEL_WIDTH + _MARGIN)
            y = _TOP + line * (_PANEL_HEIGHT + _MARGIN)
            drawn.append(f"<g transform='translate({x} {y})'>")
            drawn += _panel(here, _axis([row[figure] for row in _flat(rows)]), figure)
            drawn.append(text(0, -10, f"{title}, provider {latency:g} s", size=13))
            drawn.append("</g>")
    drawn.append(text(20, height - 10, note, size=11, colour=FAINT))
    return svg.document(width, height, drawn)


_FIGURES = (("turns/s", "rate"), ("CPU ms a turn", "cost"))


def _flat(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    for row in rows:
        rate, cost = row["turns_per_s"]["median"], row["cpu_ms"]["all"]["median"]
        yield {"system": row["system"], "at": row["in_flight"], "rate": rate, "cost": cost}


def _axis(values: Sequence[float]) -> Axis:
    return Axis(least=min(values) * 0.8, most=max(values) * 1.25, length=_PANEL_HEIGHT)


def _panel(rows: Sequence[Row], up: Axis, figure: str) -> Iterator[str]:
    along = Axis(least=8, most=5000, length=_PANEL_WIDTH)
    for mark in up.marks():
        y = _PANEL_HEIGHT - up.at(mark)
        yield _line(0, y, _PANEL_WIDTH, y)
        yield text(-6, y + 4, f"{mark:g}", size=11, colour=FAINT, anchor="end")
    for in_flight in (10, 100, 1000, 4000):
        x = along.at(in_flight)
        yield _line(x, 0, x, _PANEL_HEIGHT)
        yield text(x, _PANEL_HEIGHT + 16, f"{in_flight:,}", size=11, colour=FAINT, anchor="middle")
    for system, colour in _COLOURS.items():
        points = sorted(
            (along.at(row["at"]), _PANEL_HEIGHT - up.at(row[figure]))
            for row in _flat(rows)
            if row["system"] == system
        )
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>"
        yield from (f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>" for x, y in points)


def _legend() -> Iterator[str]:
    yield text(20, 26, "By calls in flight", size=16)
    x = 170.0
    for name, colour in _COLOURS.items():
        title = SYSTEMS[name].title
        yield svg.rect(x, 15, 12, 12, colour)
        yield text(x + 18, 26, title, size=12)
        x += 34 + 6.4 * len(title)


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{_GRID}'/>"
