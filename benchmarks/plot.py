"""The short form as a picture: turns in a second, and CPU for each of them, as bars."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from benchmarks import svg
from benchmarks.svg import INK, rect, text
from benchmarks.systems import SYSTEMS

_WIDTH, _LABELS, _FIGURES, _BAR, _GAP, _TOP = 900, 290, 90, 22, 12, 58
_COLOURS = {"worker": "#2f6f8f", "postgres": "#d08c3c", "redis": "#b04a4a"}
_RATE = "#2f6f8f"
_NOTE = 130  #: characters of a line

Row = Mapping[str, Any]


def picture(rows: Sequence[Row], *, note: str) -> str:
    """Return an SVG of two panels, one row a system in each."""
    height = _panel_height(rows)
    whole = 2 * height + 40
    drawn = [
        *_rates(rows),
        f"<g transform='translate(0 {height})'>",
        *_costs(rows),
        "</g>",
        *(
            text(20, whole - 16 - 16 * number, line, size=12, colour=svg.FAINT)
            for number, line in enumerate(reversed(wrap(note, _NOTE)))
        ),
    ]
    return svg.document(_WIDTH, whole, drawn)


def _panel_height(rows: Sequence[Row]) -> int:
    return _TOP + len(rows) * (_BAR + _GAP) + 16


def _rates(rows: Sequence[Row]) -> list[str]:
    scale = _scale([row["turns_per_s"]["most"] for row in rows])
    drawn = [text(20, 30, "Turns in a second (line: least to most)", size=16)]
    for number, row in enumerate(rows):
        y, rate = _y(number), row["turns_per_s"]
        drawn += [
            _label(y, row),
            rect(_LABELS, y, rate["median"] * scale, _BAR, _RATE),
            _whisker(y, rate["least"] * scale, rate["most"] * scale),
            text(_LABELS + rate["most"] * scale + 10, y + 16, f"{rate['median']:,.0f}"),
        ]
    return drawn


def _costs(rows: Sequence[Row]) -> list[str]:
    scale = _scale([row["cpu_ms"]["all"]["median"] for row in rows])
    drawn = [text(20, 30, "CPU for a turn, in milliseconds", size=16), *_legend()]
    for number, row in enumerate(rows):
        y, x = _y(number), float(_LABELS)
        drawn.append(_label(y, row))
        for part, colour in _COLOURS.items():
            width = row["cpu_ms"][part]["median"] * scale
            drawn.append(rect(x, y, width, _BAR, colour))
            x += width
        drawn.append(text(x + 10, y + 16, f"{row['cpu_ms']['all']['median']:.2f}"))
    return drawn


def _legend() -> list[str]:
    drawn = []
    for number, (part, colour) in enumerate(_COLOURS.items()):
        x = _WIDTH - 300 + number * 95
        drawn += [rect(x, 18, 14, 14, colour), text(x + 20, 30, part, size=13)]
    return drawn


def _label(y: float, row: Row) -> str:
    title = f"{SYSTEMS[row['system']].title} ({row['in_flight']:,})"
    return text(_LABELS - 12, y + 16, title, anchor="end")


def _scale(values: Sequence[float]) -> float:
    return (_WIDTH - _LABELS - _FIGURES) / max(values)


def _y(number: int) -> float:
    return _TOP + number * (_BAR + _GAP)


def _whisker(y: float, least: float, most: float) -> str:
    middle = y + _BAR / 2
    return (
        f"<line x1='{_LABELS + least:.1f}' x2='{_LABELS + most:.1f}' y1='{middle}' y2='{middle}'"
        f" stroke='{INK}' stroke-width='2'/>"
    )
