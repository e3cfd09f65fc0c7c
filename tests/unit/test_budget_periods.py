"""Days, weeks and months of a budget begin at local midnight, whatever the clocks do there."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnmill.domain.budgets import (
    MOST_WARNINGS,
    Period,
    dollars,
    next_warning,
    span_of,
    time_zone,
    warnings_given,
)
from turnmill.domain.errors import InvalidInput

ZONES = (
    *("UTC", "Asia/Kolkata", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"),
    *("America/Sao_Paulo", "America/Havana", "Africa/Cairo", "Pacific/Apia", "Asia/Kathmandu"),
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "zone", "now", "begins", "ends"),
    [
        ("day", "Asia/Kolkata", "2026-03-10 18:29", "2026-03-09 18:30", "2026-03-10 18:30"),
        ("day", "Asia/Kolkata", "2026-03-10 18:30", "2026-03-10 18:30", "2026-03-11 18:30"),
        # 23 and 25 hours long.
        ("day", "Europe/Berlin", "2026-03-29 12:00", "2026-03-28 23:00", "2026-03-29 22:00"),
        ("day", "Europe/Berlin", "2026-10-25 12:00", "2026-10-24 22:00", "2026-10-25 23:00"),
        ("month", "America/New_York", "2026-03-20 00:00", "2026-03-01 05:00", "2026-04-01 04:00"),
        ("week", "Europe/Berlin", "2026-03-29 12:00", "2026-03-22 23:00", "2026-03-29 22:00"),
        # The clocks skip midnight, show it twice, or skip the whole day.
        ("day", "America/Sao_Paulo", "2018-11-04 12:00", "2018-11-04 03:00", "2018-11-05 02:00"),
        ("day", "America/Havana", "2025-11-02 12:00", "2025-11-02 04:00", "2025-11-03 05:00"),
        ("day", "Pacific/Apia", "2011-12-30 09:00", "2011-12-29 10:00", "2011-12-30 10:00"),
        ("month", "UTC", "2026-12-31 23:59", "2026-12-01 00:00", "2027-01-01 00:00"),
    ],
)
def test_a_period_ends_at_local_midnight(
    period: str, zone: str, now: str, begins: str, ends: str
) -> None:
    assert span_of(Period(period), zone, at=at(now)) == (at(begins), at(ends))


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("period", [Period.DAY, Period.WEEK, Period.MONTH])
@settings(max_examples=30)
@given(hours=st.floats(min_value=0, max_value=26 * 365 * 24))
def test_every_moment_is_in_one_period_and_the_next_begins_where_it_ends(
    zone: str, period: Period, hours: float
) -> None:
    now = at("2011-01-01 00:00") + timedelta(hours=hours)
    span = span_of(period, zone, at=now)
    assert span.ends_at is not None
    assert span.starts_at <= now < span.ends_at
    following = span_of(period, zone, at=span.ends_at)
    assert following.starts_at == span.ends_at
    last = span.ends_at - timedelta(microseconds=1)
    assert span_of(period, zone, at=last) == span


@pytest.mark.parametrize("zone", ZONES)
def test_a_year_of_days_leaves_nothing_out(zone: str) -> None:
    now = at("2026-01-01 12:00")
    begins = [span_of(Period.DAY, zone, at=now + timedelta(days=n)).starts_at for n in range(366)]
    dates = [one.astimezone(ZoneInfo(zone)).date() for one in begins]
    assert all((later - earlier).days == 1 for earlier, later in pairwise(dates))


def test_a_total_never_ends() -> None:
    now = at("2026-01-01 12:00")
    assert span_of(Period.TOTAL, "UTC", at=now) == (now, None)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "x" * 200, 7, None])
def test_what_is_no_time_zone_is_refused(name: Any) -> None:
    with pytest.raises(InvalidInput):
        time_zone(name)


@pytest.mark.parametrize(
    ("given_", "amount"),
    [(1, "1"), (0, "0"), (0.1, "0.1"), ("12.50", "12.50"), (Decimal("0.0000000001"), "1E-10")],
)
def test_dollars_are_taken_as_they_are_written(given_: Any, amount: str) -> None:
    assert dollars(given_, name="limit_usd") == Decimal(amount)


@pytest.mark.parametrize(
    "wrong", [-1, True, None, "", "ten", float("nan"), float("inf"), 10**10, "0.00000000001", [1]]
)
def test_what_is_no_amount_of_dollars_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInput):
        dollars(wrong, name="limit_usd")


def test_warnings_rise_and_stand_once() -> None:
    assert warnings_given([0.95, 0.8, 0.8, 1]) == (0.8, 0.95, 1.0)
    assert warnings_given(()) == ()
    most = [n / 100 for n in range(1, MOST_WARNINGS + 1)]
    assert warnings_given(most) == tuple(most)


@pytest.mark.parametrize("wrong", [0.8, "0.8", [0], [1.1], [True], ["0.8"], [0.5] * 11, None])
def test_what_are_no_shares_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInput):
        warnings_given(wrong)


def test_the_next_warning_is_the_first_that_nobody_was_told_of() -> None:
    shares, limit = (0.8, 0.95), Decimal(10)
    assert next_warning(shares, told=0, limit_usd=limit) == Decimal(8)
    assert next_warning(shares, told=0.8, limit_usd=limit) == Decimal("9.5")
    assert next_warning(shares, told=0.95, limit_usd=limit) is None
