"""When something is due by the clocks of a place, in the nights in which these are changed too."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnmill.domain.crons import (
    AT_ONCE,
    LATE,
    MOST_CAUGHT_UP,
    Missed,
    cron_given,
    due_after,
    round_of,
    upcoming,
)
from turnmill.domain.errors import InvalidInput

PACIFIC, LORD_HOWE = "US/Pacific", "Australia/Lord_Howe"
MINUTE = timedelta(minutes=1)


def shown(cron: str, timezone: str, start: str, count: int) -> list[str]:
    """Return the next moments after a time on the wall, as the clocks there show them."""
    zone = ZoneInfo(timezone)
    begin = datetime.fromisoformat(start).replace(tzinfo=zone)
    found = islice(due_after(cron, timezone, begin), count)
    return [f"{one.astimezone(zone):%m-%d %H:%M %z}" for one in found]


# US/Pacific: on 8 March 2026 02:00 is 03:00; on 1 November 02:00 is 01:00 again.
# Lord Howe: on 4 October 2026 02:00 is 02:30; on 5 April 02:00 is 01:30 again.
@pytest.mark.parametrize(
    ("cron", "timezone", "start", "expected"),
    [
        # The hour that does not exist, at times that are named: behind the gap, once.
        ("30 2 * * *", PACIFIC, "2026-03-07T12:00", ["03-08 03:00 -0700", "03-09 02:30 -0700"]),
        ("0,30 2 * * *", PACIFIC, "2026-03-07T12:00", ["03-08 03:00 -0700", "03-09 02:00 -0700"]),
        ("0 2,3 * * *", PACIFIC, "2026-03-07T12:00", ["03-08 03:00 -0700", "03-09 02:00 -0700"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-03T12:00", ["10-04 02:30 +1100", "10-05 02:15 +1100"]),
        # The one that comes twice: the first time.
        ("30 1 * * *", PACIFIC, "2026-10-31T12:00", ["11-01 01:30 -0700", "11-02 01:30 -0800"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-04T12:00", ["04-05 01:45 +1100", "04-06 01:45 +1030"]),
        ("0 2 * * *", LORD_HOWE, "2026-04-04T12:00", ["04-05 02:00 +1030", "04-06 02:00 +1030"]),
        # Whenever the clocks show it: never in the gap, and twice where they show it twice.
        ("30 * * * *", PACIFIC, "2026-03-08T01:00", ["03-08 01:30 -0800", "03-08 03:30 -0700"]),
        (
            "30 * * * *",
            PACIFIC,
            "2026-11-01T01:00",
            ["11-01 01:30 -0700", "11-01 01:30 -0800", "11-01 02:30 -0800"],
        ),
        ("*/20 2 * * *", PACIFIC, "2026-03-08T00:00", ["03-09 02:00 -0700", "03-09 02:20 -0700"]),
        (
            "*/15 2 * * *",
            LORD_HOWE,
            "2026-04-05T00:00",
            ["04-05 02:00 +1030", "04-05 02:15 +1030", "04-05 02:30 +1030"],
        ),
        (
            "*/15 * * * *",
            LORD_HOWE,
            "2026-04-05T01:30",
            [
                *("04-05 01:45 +1100", "04-05 01:30 +1030", "04-05 01:45 +1030"),
                "04-05 02:00 +1030",
            ],
        ),
        ("*/15 * * * *", LORD_HOWE, "2026-10-04T01:30", ["10-04 01:45 +1030", "10-04 02:30 +1100"]),
        ("0 * * * *", LORD_HOWE, "2026-10-04T00:30", ["10-04 01:00 +1030", "10-04 03:00 +1100"]),
        # Midnight itself may be missing.
        ("0 0 * * *", "Asia/Beirut", "2026-03-28T12:00", ["03-29 01:00 +0300"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["02-29 00:00 +0000"]),
        ("30 9 * * mon-fri", "Asia/Kolkata", "2026-11-27T10:00", ["11-30 09:30 +0530"]),
    ],
)
def test_a_cron_is_due_as_is_said_of_nights_in_which_clocks_are_changed(
    cron: str, timezone: str, start: str, expected: list[str]
) -> None:
    assert shown(cron, timezone, start, len(expected)) == expected


def test_what_is_looked_for_in_the_second_hour_of_the_same_name_lies_behind_it() -> None:
    second = datetime(2026, 11, 1, 1, 10, tzinfo=ZoneInfo(PACIFIC), fold=1)
    (following,) = islice(due_after("50 1 * * *", PACIFIC, second), 1)
    assert following == datetime(2026, 11, 2, 9, 50, tzinfo=UTC)


FIELDS = {
    "minute": ["0", "30", "*/15", "5,35,59", "*", "7-9", "0-59/20"],
    "hour": ["*", "1", "2", "1,2,3", "*/2", "0-3", "23"],
    "day": ["*", "sun", "1-5"],
}
#: A day before the clocks are changed there, in each direction.
NIGHTS = [
    *((PACIFIC, "2026-03-07T20:00Z"), (PACIFIC, "2026-10-31T20:00Z")),
    *((LORD_HOWE, "2026-04-04T05:00Z"), (LORD_HOWE, "2026-10-03T05:00Z")),
    *(("Asia/Beirut", "2026-03-28T12:00Z"), ("America/Havana", "2026-10-31T20:00Z")),
    *(("Africa/Casablanca", "2026-02-14T12:00Z"), ("UTC", "2026-03-07T20:00Z")),
]
HOURS = 36


def matches(cron: str, wall: datetime) -> bool:
    """Tell whether a time on the wall fits, by the fields of the tests alone."""
    minute, hour, _, _, day = cron.split()
    weekday = (wall.weekday() + 1) % 7
    days = {"*": range(7), "sun": [0], "1-5": range(1, 6)}[day]
    return wall.minute in span(minute, 60) and wall.hour in span(hour, 24) and weekday in days


def span(field: str, size: int) -> set[int]:
    found: set[int] = set()
    for one in field.split(","):
        body, _, step = one.partition("/")
        first, _, last = body.partition("-")
        whole = range(size) if body == "*" else range(int(first), int(last or first) + 1)
        found |= set(whole[:: int(step or 1)])
    return found


def by_the_minute(cron: str, zone: ZoneInfo, start: datetime) -> Iterator[datetime]:
    """Yield what is due within HOURS, found by looking at the clocks every minute."""
    minute, hour, *_ = cron.split()
    every = [start + n * MINUTE for n in range(1, HOURS * 60)]
    walls = [one.astimezone(zone).replace(tzinfo=None) for one in every]
    if minute[0] == "*" or hour[0] == "*":
        yield from (one for one, wall in zip(every, walls, strict=True) if matches(cron, wall))
        return
    latest = start.astimezone(zone).replace(tzinfo=None)
    for one, wall in zip(every, walls, strict=True):
        passed = latest + MINUTE
        while passed <= wall:  # all that they show now for the first time, or have skipped
            if matches(cron, passed):
                yield one
                break
            passed += MINUTE
        latest = max(latest, wall)


@given(
    st.sampled_from(NIGHTS),
    *(st.sampled_from(FIELDS[name]) for name in ("minute", "hour", "day")),
)
@settings(max_examples=60, deadline=None)
def test_what_is_due_is_what_somebody_finds_who_looks_at_the_clocks_every_minute(
    night: tuple[str, str], minute: str, hour: str, day: str
) -> None:
    timezone, begin = night
    cron, start = f"{minute} {hour} * * {day}", datetime.fromisoformat(begin)
    end = start + HOURS * timedelta(hours=1)
    found: list[datetime] = []
    for one in due_after(cron, timezone, start):
        if one >= end:
            break
        found.append(one)
    assert found == list(by_the_minute(cron, ZoneInfo(timezone), start))
    for before, after in pairwise(found):  # wherever one begins
        assert next(due_after(cron, timezone, before)) == after


@pytest.mark.parametrize(
    "cron",
    ["", "* * * *", "* * * * * *", "60 * * * *", "0 0 31 2 *", "a b c d e", "0 0 * * 5#9", 5, None,
     "é * * * *", "*/0 * * * *", "0 " * 300, "0 0 L/2 * 1/x"],
)  # fmt: skip
def test_what_is_no_cron_is_refused_with_a_hint(cron: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        cron_given(cron)
    assert refused.value.hint


def test_a_cron_is_kept_in_five_fields() -> None:
    assert cron_given(" 30  9 * *   mon-fri ") == "30 9 * * mon-fri"
    assert cron_given("@Daily") == "0 0 * * *"


NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def hourly(hours: int) -> Iterator[datetime]:
    """Yield full hours, the first of them so many before noon."""
    n = -hours
    while True:
        yield NOON + n * timedelta(hours=1)
        n += 1


@pytest.mark.parametrize(
    ("missed", "run", "skipped"),
    [
        (Missed.SKIP, [NOON], 3),
        (Missed.ONCE, [NOON], 3),
        (Missed.ALL, [NOON - n * timedelta(hours=1) for n in (3, 2, 1, 0)], 0),
    ],
)
def test_moments_that_went_by_are_skipped_stood_for_or_made_up_for(
    missed: Missed, run: list[datetime], skipped: int
) -> None:
    found = round_of(hourly(3), now=NOON + LATE, until=None, missed=missed)
    assert found == (run, skipped, NOON + timedelta(hours=1))


def test_a_moment_that_is_skipped_is_one_that_nobody_looked_at_within_a_minute() -> None:
    late = round_of(hourly(0), now=NOON + LATE + MINUTE, until=None, missed=Missed.SKIP)
    assert late == ([], 1, NOON + timedelta(hours=1))


def test_nothing_is_due_behind_the_last_moment() -> None:
    found = round_of(hourly(1), now=NOON + 9 * MINUTE, until=NOON - MINUTE, missed=Missed.ALL)
    assert found == ([NOON - timedelta(hours=1)], 0, None)
    assert upcoming("0 * * * *", "UTC", first=NOON, until=NOON, count=3) == [NOON]
    last = round_of(hourly(0), now=NOON, until=NOON, missed=Missed.ALL)
    assert last == ([NOON], 0, None)  # the last moment is one of them


def test_what_is_made_up_for_has_bounds_that_are_counted() -> None:
    hours = MOST_CAUGHT_UP + 50
    found = round_of(hourly(hours), now=NOON, until=None, missed=Missed.ALL)
    assert len(found.run) == AT_ONCE
    assert found.skipped == 51
    assert found.run[0] == NOON - (MOST_CAUGHT_UP - 1) * timedelta(hours=1)
    assert found.next_at == found.run[-1] + timedelta(hours=1)
    years = round_of(hourly(200_000), now=NOON, until=None, missed=Missed.ONCE)
    assert (years.run, years.skipped) == ((), 10_000)
