"""Spans of time in any zone: each quarter of an hour is in the span that the zone's clocks show."""

from bisect import bisect
from collections.abc import Hashable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from turnmill.domain.analytics.windows import SLOT, Grain, Window, bounds_of, start_of, window
from turnmill.domain.errors import InvalidInput

#: Where clocks are moved, by an hour, by half of one, by two, at midnight, or by a whole day; and
#: where they are off by three quarters.
ZONES = {
    "UTC": (2026, 3),
    "Asia/Kathmandu": (2026, 3),
    "Asia/Kolkata": (2026, 10),
    "Pacific/Chatham": (2026, 9),
    "Europe/Berlin": (2026, 3),
    "Europe/Dublin": (2026, 10),
    "America/New_York": (2026, 11),
    "America/St_Johns": (2026, 3),
    "Australia/Lord_Howe": (2026, 10),
    "America/Sao_Paulo": (2018, 11),
    "America/Havana": (2026, 11),
    "Asia/Beirut": (2026, 3),
    "Antarctica/Troll": (2026, 3),
    "Pacific/Apia": (2011, 12),
}


def shown(grain: Grain, at: datetime, zone: ZoneInfo) -> Hashable:
    """Return what clocks and calendars call the span; of an hour that comes twice, which one."""
    local = at.astimezone(zone)
    match grain:
        case Grain.SLOT:
            return at
        case Grain.HOUR:
            return local.date(), local.hour, local.utcoffset()
        case Grain.DAY:
            return local.date()
        case Grain.WEEK:
            return local.isocalendar()[:2]
        case Grain.MONTH:
            return local.year, local.month


@pytest.mark.parametrize("grain", Grain)
@pytest.mark.parametrize("name", ZONES)
def test_quarters_are_in_one_span_where_clocks_show_the_same(name: str, grain: Grain) -> None:
    zone = ZoneInfo(name)
    year, month = ZONES[name]
    since = datetime(year, month, 1, 5, 30, tzinfo=UTC) - timedelta(days=9)
    window = Window(since, since + timedelta(days=50))
    bounds = bounds_of(grain, window, zone, most=5_000)
    assert bounds == sorted(set(bounds))
    spans: dict[int, set[Hashable]] = {}
    at = window.since
    while at < window.until:
        spans.setdefault(bisect(bounds, at), set()).add(shown(grain, at, zone))
        at += SLOT
    assert sorted(spans) == list(range(1, len(bounds) + 1)), "no span is empty, none comes before"
    names = [one for found in spans.values() for one in found]
    assert len(names) == len(set(names)) == len(spans), "one span for each, and one of each"


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Asia/Kathmandu", "2026-03-29", 24),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("Antarctica/Troll", "2026-03-29", 22),
    ],
)
def test_a_day_is_as_long_as_clocks_make_it(zone: str, day: str, hours: float) -> None:
    named = ZoneInfo(zone)
    begun = datetime.fromisoformat(day).replace(tzinfo=named)
    window = Window(begun, begun + timedelta(days=1))
    assert window.length == timedelta(hours=hours)
    assert bounds_of(Grain.DAY, window, named, most=2) == [start_of(Grain.DAY, begun, named)]


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        ("soon", None, "since cannot be read"),
        ("7d", "tomorrow", "until cannot be read"),
        ("7d", "24h", "until cannot be read"),
        ("2026-11-02", "2026-11-01", "must end after it begins"),
        ("2030-01-01", None, "must end after it begins"),
        ("7d", "9999-12-31", "until must be"),
        ("0001-01-01", "2026-01-01", "since must be"),
        ("0d", None, "since must be a span of time"),
    ],
)
def test_what_cannot_be_read_is_named(since: str, until: str | None, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        window(since, until, now=datetime(2026, 11, 27, tzinfo=UTC))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        (None, None, "since is a span of time, a day, or a moment"),
        (timedelta(0), None, "since must be a span of time"),
        (timedelta(days=3661), None, "since must be a span of time"),
        ("2010-01-01", "2026-01-01", "at most 3,660 days"),
        ("2026-11-02T12:00", "2026-11-02T12:00", "must end after it begins"),
    ],
)
def test_what_is_no_window_is_refused(since: Any, until: str | None, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        window(since, until, now=datetime(2026, 11, 27, tzinfo=UTC))
    assert refused.value.hint


def test_a_span_of_time_is_as_long_as_its_words() -> None:
    now = datetime(2026, 11, 27, 14, tzinfo=UTC)
    assert window(timedelta(days=7), now=now) == window("7d", now=now) == window(" 1 W ", now=now)
    assert window("36h", now=now).length == timedelta(hours=36)


def test_an_hour_has_begun_when_clocks_are_moved_off_any_quarter() -> None:
    """Monrovia was 44 minutes and 30 seconds behind until 1972."""
    moved = datetime(1972, 1, 7, 0, 44, 30, tzinfo=UTC)
    for seconds in (-40, 0, 10, 40):
        at = moved + timedelta(seconds=seconds)
        assert at - timedelta(hours=1) < start_of(Grain.HOUR, at, ZoneInfo("Africa/Monrovia")) <= at


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "Europe/Berlin", "America/New_York"])
def test_days_weeks_and_months_begin_at_midnight_of_the_zone(zone: str) -> None:
    named = ZoneInfo(zone)
    at = datetime(2026, 11, 26, 17, 44, tzinfo=named)
    days = {Grain.DAY: 26, Grain.WEEK: 23, Grain.MONTH: 1}
    for grain, day in days.items():
        begun = start_of(grain, at, named)
        assert begun == datetime(2026, 11, day, tzinfo=named) and begun.tzinfo is UTC
        (first, *_) = bounds_of(grain, Window(at, at + SLOT), named, most=1)
        assert first == begun
    assert start_of(Grain.HOUR, at, named) == at.replace(minute=0)


def test_a_window_is_cut_into_no_more_spans_than_are_wanted() -> None:
    noon = datetime(2026, 11, 27, 12, tzinfo=UTC)
    four, five = (Window(noon, noon + n * SLOT) for n in (4, 5))
    assert len(bounds_of(Grain.SLOT, four, ZoneInfo("UTC"), most=4)) == 4
    with pytest.raises(InvalidInput, match="more than 4"):
        bounds_of(Grain.SLOT, five, ZoneInfo("UTC"), most=4)


def test_the_longest_window_has_one_before_it() -> None:
    found = window("3660d", now=datetime(2026, 11, 27, 14, 4, tzinfo=UTC))
    assert found.previous().until == found.since


def test_a_window_is_moved_out_to_quarters_at_both_ends() -> None:
    noon, moment = datetime(2026, 11, 27, 12, tzinfo=UTC), timedelta(microseconds=1)
    assert Window(noon, noon + SLOT) == Window(noon + moment, noon + moment * 2)
    assert Window(noon + moment, noon + SLOT + moment).until == noon + 2 * SLOT
