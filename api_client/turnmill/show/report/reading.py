"""How figures read on a page: short where they are looked at, with words where they changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from turnmill.domain.analytics.share_words import share_words
from turnmill.domain.analytics.windows import Grain
from turnmill.domain.dollars import rounded

#: A change that is smaller is none.
_THE_SAME = 0.005
#: One that is smaller is neither good nor bad.
_MUCH = 0.05
_MUCH_OF_A_SHARE = 0.1
#: Growth beyond this many times says no more than "many times".
_MANY = 10
_STEPS = ((1e9, " B"), (1e6, " M"), (1e3, " k"))
_MINUS = "\u2212"
_THIN = "\u202f"


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure compares with that of the window before."""

    text: str = field(repr=False)
    way: str  #: up, down, same, or none: nothing is known of before
    much: bool = False  #: so much that it may be good or bad


def money(amount: Decimal | float | None) -> str:
    """Return `$1,204`, `$12.40`, `$0.0031`, or `unknown`."""
    if amount is None:
        return "unknown"
    size = abs(rounded(amount, digits=10))
    if not size:
        return "$0"
    if size >= 1000:
        return f"${rounded(amount, digits=0):,f}"
    if size >= Decimal("0.01"):
        return f"${rounded(amount, digits=2):,f}"
    if size < Decimal("0.0001"):
        return "< $0.0001"
    digits = 4 if size >= Decimal("0.001") else 5
    return f"${rounded(amount, digits=digits):f}".rstrip("0")


def spent(usd: Decimal, *, unpriced: int) -> str:
    """Return a cost, with a `+` where calls have no known price; `unknown` where none has."""
    if unpriced and not usd:
        return "unknown"
    return money(usd) + ("+" if unpriced else "")


def scale_money(amount: float) -> str:
    """Return the same for the side of a chart: `$80`, `$0.5`, `$0.00002`."""
    if 0 < amount < 0.001:
        return f"${amount:.8f}".rstrip("0")
    return f"${amount:,.4g}" if amount < 1000 else f"${short(amount)}"


def scale_share(value: float) -> str:
    """Return a share for the side of a chart: `20 %`."""
    return f"{value * 100:.3g}{_THIN}%"


def scale_span(ms: float) -> str:
    """Return a time for the side of a chart: `2 s`, `500 ms`."""
    if ms < 1000:
        return f"{ms:.3g}{_THIN}ms" if ms else "0"
    if ms < 120_000:
        return f"{ms / 1000:.3g}{_THIN}s"
    return f"{ms / 60_000:.3g}{_THIN}min" if ms < 7_200_000 else f"{ms / 3_600_000:.3g}{_THIN}h"


def whole(number: float) -> str:
    """Return `12,480`."""
    return f"{number:,.0f}"


def many(number: int, one: str) -> str:
    """Return `12,480 turns`, or `1 turn`."""
    return f"{whole(number)} {one}" if number == 1 else f"{whole(number)} {one}s"


def short(number: float) -> str:
    """Return `940`, `12.4 k` or `3 M`."""
    for size, unit in _STEPS:
        if abs(number) >= size * 0.9995:
            return f"{number / size:.3g}".removesuffix(".0") + unit.replace(" ", _THIN)
    return f"{number:.3g}" if number < 10 and number != int(number) else f"{number:.0f}"


def share(value: float | None) -> str:
    """Return `1.8 %`; a dash for one that is not known. What is there is never 0 %."""
    if value is None:
        return "–"
    if 0 < value < 0.0005:
        return f"< 0.1{_THIN}%"
    digits = 1 if value < 0.0995 or 0.9 < value < 1 else 0
    return share_words(value, digits=digits).replace(" ", _THIN)


def span(ms: float | None) -> str:
    """Return `640 ms`, `2.1 s`, `3 min` or `2.5 h`."""
    if ms is None:
        return "–"
    seconds = ms / 1000
    if seconds < 1:
        return f"{ms:.0f}{_THIN}ms"
    if seconds < 100:
        return f"{seconds:.1f}{_THIN}s" if seconds < 10 else f"{seconds:.0f}{_THIN}s"
    if seconds < 6000:
        return f"{seconds / 60:.0f}{_THIN}min"
    return f"{seconds / 3600:.3g}{_THIN}h"


def change(now: float | Decimal | None, before: float | Decimal | None) -> Change:
    """Return by how much it has grown: `+12 %`, `×14`, or that there was none before."""
    if now is None or before is None:
        return Change("", "none")
    new, old = float(now), float(before)
    if old == 0:
        return Change("as before", "same") if new == 0 else Change("none before", "up", True)
    grown = new / old - 1
    if abs(grown) < _THE_SAME:
        return Change("as before", "same")
    if grown >= _MANY - 1:
        return Change(f"×{new / old:,.0f}", "up", True)
    way = "up" if grown > 0 else "down"
    return Change(f"{_signed(grown * 100)}{_THIN}%", way, abs(grown) >= _MUCH)


def points(now: float | None, before: float | None) -> Change:
    """Return by how much a share has moved: `+0.4 points`."""
    if now is None or before is None:
        return Change("", "none")
    moved = (now - before) * 100
    if abs(moved) < 0.05:
        return Change("as before", "same")
    much = abs(moved) >= _MUCH * 10 or abs(now - before) >= before * _MUCH_OF_A_SHARE
    return Change(f"{_signed(moved)} points", "up" if moved > 0 else "down", much)


def _signed(value: float) -> str:
    digits = 0 if abs(value) >= 10 else 1
    return f"{'+' if value > 0 else _MINUS}{abs(value):.{digits}f}"


def day(at: datetime, zone: str) -> str:
    """Return `16 Nov 2026`, as the zone's calendars show it."""
    local = at.astimezone(ZoneInfo(zone))
    return f"{local.day} {local:%b %Y}"


def dates(since: datetime, until: datetime, zone: str) -> str:
    """Return `16 – 22 November 2026`, or with hours where the window is not of whole days."""
    named = ZoneInfo(zone)
    first, end = since.astimezone(named), until.astimezone(named)
    if (first.hour, first.minute, end.hour, end.minute) != (0, 0, 0, 0):
        begun = f"{first.day} {first:%b}" if first.year == end.year else day(since, zone)
        return f"{begun}, {first:%H:%M} – {end.day} {end:%b %Y}, {end:%H:%M}"
    last = end - timedelta(days=1)
    if first.date() == last.date():
        return f"{last.day} {last:%B %Y}"
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day} – {last.day} {last:%B %Y}"
    if first.year == last.year:
        return f"{first.day} {first:%B} – {last.day} {last:%B %Y}"
    return f"{first.day} {first:%B %Y} – {last.day} {last:%B %Y}"


def moment(at: datetime, zone: str) -> str:
    """Return `Mon 16 Nov, 09:15`."""
    local = at.astimezone(ZoneInfo(zone))
    return f"{local:%a} {local.day} {local:%b, %H:%M}"


def tick(at: datetime, grain: Grain, zone: str) -> str:
    """Return what stands below a point of a chart."""
    local = at.astimezone(ZoneInfo(zone))
    if grain in (Grain.SLOT, Grain.HOUR):
        return f"{local:%H:%M}" if local.hour else f"{local:%a} {local.day}"
    if grain is Grain.DAY:
        return f"{local:%a} {local.day}"
    return f"{local:%b %Y}" if grain is Grain.MONTH else f"{local.day} {local:%b}"


def long_tick(at: datetime, grain: Grain, zone: str) -> str:
    """Return the same where there is room."""
    local = at.astimezone(ZoneInfo(zone))
    if grain in (Grain.SLOT, Grain.HOUR):
        return moment(at, zone)
    if grain is Grain.DAY:
        return f"{local:%a} {local.day} {local:%b}"
    return f"{local:%B %Y}" if grain is Grain.MONTH else f"week of {day(at, zone)}"
