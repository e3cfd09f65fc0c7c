"""Spans of time that figures are asked of, and how they are cut, in any time zone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from types import MappingProxyType
from zoneinfo import ZoneInfo

from turnmill.domain.arguments import moment
from turnmill.domain.bounds import MOST_DAYS
from turnmill.domain.budgets import time_zone
from turnmill.domain.errors import InvalidInput
from turnmill.domain.plain import span_of, text_of

#: Figures are kept by quarters of an hour: every zone of today is off by a number of those.
SLOT = timedelta(minutes=15)
_SLOT_SECONDS = 900
_LONGEST = timedelta(days=MOST_DAYS)
_AGO = re.compile(r"(\d{1,5})\s*(h|d|w)")
_UNITS: Mapping[str, timedelta] = MappingProxyType(
    {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(days=7)}
)
_HINT = "24h, 7d, 4w, a day such as 2026-11-01, or a moment such as 2026-11-01T09:00+05:30"
_HINTS = {"since": _HINT, "until": "a day such as 2026-11-01, or a moment; now unless given"}


class Grain(StrEnum):
    """Into which spans a window is cut; days and longer ones by local midnights."""

    SLOT = "slot"  #: a quarter of an hour
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"  #: from Monday on
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when, the end not included, in UTC; both are moved out to where slots begin."""

    since: datetime
    until: datetime

    def __post_init__(self) -> None:
        since, until = moment(self.since, name="since"), moment(self.until, name="until")
        if since is None or until is None or since >= until:
            raise InvalidInput("a window must end after it begins", hint=_HINT)
        if until - since > _LONGEST + 2 * SLOT:  # of one that was moved out already
            raise InvalidInput(f"a window must have at most {MOST_DAYS:,} days", hint=_HINT)
        object.__setattr__(self, "since", slot_of(since))
        object.__setattr__(self, "until", _slot_end(until))

    @property
    def length(self) -> timedelta:
        """Return how long it is."""
        return self.until - self.since

    def previous(self) -> "Window":
        """Return the window of the same length that ends where this one begins."""
        return Window(self.since - self.length, self.since)


def window(
    since: str | datetime | timedelta,
    until: str | datetime | None = None,
    *,
    now: datetime,
    zone: str = "UTC",
) -> Window:
    """Return the window that these words mean, with `until` (None: now) as its end.

    `7d` is seven times 24 hours before the end; `2026-11-01` is the midnight, in the zone, with
    which the day begins. Raises InvalidInput.
    """
    named = ZoneInfo(time_zone(zone, name="zone"))
    end = now if until is None else _moment(until, named, name="until")
    if isinstance(since, timedelta):
        return Window(_before(end, span_of(since)), end)
    found = _AGO.fullmatch((text_of(since) or "").strip().lower())
    if found is not None:
        return Window(_before(end, int(found[1]) * _UNITS[found[2]]), end)
    return Window(_moment(since, named, name="since"), end)


def slot_of(at: datetime) -> datetime:
    """Return when the slot began that the moment is in."""
    seconds = int(at.timestamp() // _SLOT_SECONDS) * _SLOT_SECONDS
    return datetime.fromtimestamp(seconds, UTC)


def moments_of(first: date, last: date) -> tuple[datetime, datetime]:
    """Return the first and the last moment of some UTC days, as far as there are calendars."""
    return datetime.combine(first, time.min, UTC), datetime.combine(last, time.max, UTC)


def day_of(at: datetime) -> datetime:
    """Return the UTC midnight with which the day began that the moment is in."""
    return datetime.combine(at.astimezone(UTC).date(), time(0), UTC)


def start_of(grain: Grain, at: datetime, zone: ZoneInfo) -> datetime:
    """Return when the span began that the moment is in, as the zone's clocks show it; in UTC.

    A midnight that clocks skip is the first moment after it. An hour that clocks show twice is two.
    """
    if grain is Grain.SLOT:
        return slot_of(at)
    local = at.astimezone(zone)
    if grain is Grain.HOUR:
        return _start_of_hour(local, zone)
    return datetime.combine(_first_day(grain, local.date()), time(0), zone).astimezone(UTC)


def _start_of_hour(local: datetime, zone: ZoneInfo) -> datetime:
    """Return when the hour began; one in which clocks were moved, when they were."""
    at = local.astimezone(UTC)
    begun = at - timedelta(
        minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )
    while begun < at and begun.astimezone(zone).utcoffset() != local.utcoffset():
        begun += SLOT
    return min(begun, at)


def _first_day(grain: Grain, day: date) -> date:
    if grain is Grain.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if grain is Grain.MONTH else day


def _slot_end(at: datetime) -> datetime:
    begun = slot_of(at)
    return begun if begun == at else begun + SLOT


def _before(end: datetime, span: timedelta) -> datetime:
    if not timedelta(0) < span <= _LONGEST:
        raise InvalidInput(
            f"since must be a span of time, of at most {MOST_DAYS:,} days", hint=_HINT
        )
    return end - span


def _moment(value: object, zone: ZoneInfo, *, name: str) -> datetime:
    if (text := text_of(value)) is not None:
        value = _read(text.strip(), zone, name=name)
    found = moment(value, name=name)
    if found is None:
        raise InvalidInput("since is a span of time, a day, or a moment", hint=_HINT)
    return found


def _read(text: str, zone: ZoneInfo, *, name: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{name} cannot be read", hint=_HINTS[name]) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=zone)


def zone_of(name: str) -> ZoneInfo:
    """Return the time zone of this name; raises InvalidInput."""
    return ZoneInfo(time_zone(name, name="zone"))


def bounds_of(grain: Grain, within: Window, zone: ZoneInfo, *, most: int) -> list[datetime]:
    """Return when each span begins that has a part in the window, in order; in UTC.

    Raises InvalidInput where they are more than `most`.
    """
    found = [start_of(grain, within.since, zone)]
    while (following := _next(grain, found[-1], zone)) < within.until:
        if len(found) == most:
            raise InvalidInput(f"the window has more than {most:,} of these spans", hint=_HINT)
        found.append(following)
    return found


def _next(grain: Grain, begun: datetime, zone: ZoneInfo) -> datetime:
    if grain is Grain.SLOT:
        return begun + SLOT
    if grain is Grain.HOUR:  # as clocks show it, which may be moved meanwhile
        quarters = (begun + n * SLOT for n in range(1, 9))
        return next(one for one in quarters if start_of(grain, one, zone) != begun)
    day = begun.astimezone(zone).date()
    if grain is Grain.DAY:
        then = day + timedelta(days=1)
    elif grain is Grain.WEEK:
        then = day + timedelta(days=7)
    else:
        then = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return datetime.combine(then, time(0), zone).astimezone(UTC)
