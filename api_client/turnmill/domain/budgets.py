"""What a budget is: for whom, for which span of time, and what happens when it is used up."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from turnmill.domain.arguments import plain_number
from turnmill.domain.dollars import kept, part_of
from turnmill.domain.errors import InvalidInput
from turnmill.domain.plain import items_of, text_of

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

#: US dollars, of a limit.
MOST_USD = Decimal(10**9)
#: Digits after the point that are kept: a token of the cheapest model costs more.
PLACES = Decimal("0.0000000001")
#: Shares of the limit that are told of.
MOST_WARNINGS = 10
_ZONE_LENGTH = 100


class Scope(StrEnum):
    """Whose turns a budget bounds."""

    ALL = "all"
    USER = "user"
    SESSION = "session"
    BATCH = "batch"  #: a batch's own limit; nobody sets it but with the batch
    TAG = "tag"  #: that have a value under a key of their metadata, or their session's
    GONE = "gone"  #: nobody's: it was removed a moment ago, and who waits for it is to know


class Period(StrEnum):
    """For which span of time the limit of a budget is."""

    TURN = "turn"  #: each turn has it for itself
    DAY = "day"
    WEEK = "week"  #: from Monday on
    MONTH = "month"
    TOTAL = "total"  #: it never begins anew


class OnExceeded(StrEnum):
    """What becomes of a turn that is beyond the budget."""

    FAIL = "fail"  #: it fails as `budget_exceeded`
    WAIT = "wait"  #: it waits until the period is over, or the limit is raised


class Span(NamedTuple):
    """From when to when; None: without end."""

    starts_at: datetime
    ends_at: datetime | None


def span_of(period: Period, timezone: str, *, at: datetime) -> Span:
    """Return the span that this moment is in, between two local midnights, in UTC.

    A midnight that the clocks skip is the first moment after it; of one that they show twice, it is
    the first. A period that never begins anew begins now.
    """
    if period in (Period.TURN, Period.TOTAL):
        return Span(at, None)
    zone = _zone(timezone)
    first, end = _days(period, at.astimezone(zone).date())
    return Span(_midnight(first, zone), _midnight(end, zone))


def _days(period: Period, today: date) -> tuple[date, date]:
    """Return the first day of the span, and the first one after it."""
    if period is Period.DAY:
        return today, today + timedelta(days=1)
    if period is Period.WEEK:
        monday = today - timedelta(days=today.weekday())
        return monday, monday + timedelta(days=7)
    first = today.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)


def _zone(name: str) -> "ZoneInfo":
    from zoneinfo import ZoneInfo  # noqa: PLC0415  the tables are imported by many who have none

    return ZoneInfo(name)


def _midnight(day: date, zone: "ZoneInfo") -> datetime:
    return datetime.combine(day, time(0), zone).astimezone(UTC)


def time_zone(value: object, *, name: str = "timezone") -> str:
    """Return the name of a time zone; raises InvalidInput."""
    hint = "a name such as Asia/Kolkata, or UTC"
    said = text_of(value)
    if said is None or not 0 < len(said) <= _ZONE_LENGTH:
        raise InvalidInput(f"{name} must be the name of a time zone", hint=hint)
    try:
        _zone(said)
    except (LookupError, ValueError, OSError):
        raise InvalidInput(f"{name} names no time zone that is known here", hint=hint) from None
    return said


def dollars(value: object, *, name: str) -> Decimal:
    """Return an amount of US dollars, 0 included; raises InvalidInput."""
    hint = f'{name}=Decimal("12.50"), or a number'
    given = str.__str__(value) if isinstance(value, str) else _number(value)
    if given is None:
        raise InvalidInput(f"{name} must be US dollars, not {type(value).__name__}", hint=hint)
    try:
        amount = Decimal(str(given))
    except (ArithmeticError, ValueError):  # of an int, Python refuses to write too many digits
        raise InvalidInput(f"{name} must be US dollars", hint=hint) from None
    if not amount.is_finite() or not 0 <= amount <= MOST_USD:
        raise InvalidInput(f"{name} must be from 0 to {MOST_USD:,} US dollars", hint=hint)
    if amount != kept(amount):
        raise InvalidInput(f"{name} has more than 10 digits after the point", hint=hint)
    return amount


def _number(value: object) -> int | float | Decimal | None:
    """Return the number that this is, or None."""
    return Decimal(value) if isinstance(value, Decimal) else plain_number(value)


def tag_said(key: str, *, of_turn: Mapping[str, Any], of_session: Mapping[str, Any]) -> str | None:
    """Return a tag's value: what the turn says, or else its session; None where neither does.

    What is no text counts as its JSON: a team of 7 is `7`.
    """
    for metadata in (of_turn, of_session):
        if (value := metadata.get(key)) is not None:
            return value if isinstance(value, str) else json.dumps(value)
    return None


def warnings_given(value: object) -> tuple[float, ...]:
    """Return the shares of a limit that are to be told of, rising; raises InvalidInput."""
    hint = "warn_at=(0.8, 0.95), or () for none"
    shares = None if isinstance(value, str | bytes) else items_of(value, most=MOST_WARNINGS)
    if shares is None:
        raise InvalidInput("warn_at must be shares of the limit", hint=hint)
    if len(shares) > MOST_WARNINGS:
        raise InvalidInput(f"warn_at has more than {MOST_WARNINGS} shares", hint=hint)
    found = set()
    for one in map(_number, shares):
        if one is None or not (Decimal(one).is_finite() and 0 < one <= 1):
            raise InvalidInput("warn_at must be shares above 0 and up to 1", hint=hint)
        found.add(float(one))
    return tuple(sorted(found))


def next_warning(warn_at: tuple[float, ...], *, told: float, limit_usd: Decimal) -> Decimal | None:
    """Return how much has to be spent for the next share to be told of; None: there is none."""
    left = [one for one in warn_at if one > told]
    return part_of(limit_usd, Decimal(str(left[0]))) if left else None
