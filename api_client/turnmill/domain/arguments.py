"""Numbers, times and choices that callers hand in: within bounds, or InvalidInput."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from turnmill.domain.bounds import EARLIEST, LATEST, LONGEST_WAIT, MOST_ROWS
from turnmill.domain.errors import InvalidInput
from turnmill.domain.plain import span_of

Word = TypeVar("Word", bound=StrEnum)


def whole(value: object, *, name: str, most: int, least: int = 1) -> int:
    """Return a whole number from `least` to `most`."""
    number = plain_number(value)
    if isinstance(number, int) and least <= number <= most:
        return number
    raise InvalidInput(
        f"{name} must be a whole number from {least} to {most}", hint=f"{name}={least} or more"
    )


def plain_number(value: object) -> int | float | None:
    """Return the number that this is; None where it is none. True and False are none.

    Of a subclass, such as an enumeration's member or one of numpy's, it is what that holds, and not
    what it says.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int.__int__(value)
    return float.__float__(value) if isinstance(value, float) else None


def page_size(limit: object) -> int:
    """Return how many rows a listing may have."""
    try:
        return whole(limit, name="limit", most=MOST_ROWS)
    except InvalidInput as error:
        # A new one: the hint that it began with is noted for the traceback already.
        hint = "read on in pages: after= is the last id of the page before"
        raise InvalidInput(str(error), hint=hint) from None


def yes_or_no(value: object, *, name: str) -> bool:
    """Return True or False, or raise InvalidInput: what is taken for either is often a slip."""
    if isinstance(value, bool):
        return value
    raise InvalidInput(f"{name} must be True or False", hint=f"{name}=True")


def one_of(kind: type[Word], value: object, *, name: str) -> Word:
    """Return the member of an enumeration of words, or raise InvalidInput naming all of them."""
    try:
        if isinstance(value, str):
            return kind(str.__str__(value))
    except ValueError:
        pass
    raise InvalidInput(
        f"{name} must be one of {', '.join(kind)}", hint=f"{name}={next(iter(kind))!s}"
    )


def moment(value: object, *, name: str) -> datetime | None:
    """Return an instant, in UTC, that every reader can hold in its own time zone; None for None."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidInput(
            f"{name} must be a datetime, not {type(value).__name__}", hint="datetime.now(UTC)"
        )
    try:
        offset = value.utcoffset()
        instant = None if offset is None else value.astimezone(UTC)
    except Exception:  # noqa: BLE001
        # Past the years that Python knows, or a time zone of the caller's own that fails.
        raise _out_of_range(name) from None
    if instant is None:
        raise InvalidInput(f"{name} must be a datetime with a time zone", hint="datetime.now(UTC)")
    if not EARLIEST <= instant < LATEST:
        raise _out_of_range(name)
    return datetime.combine(instant.date(), instant.time(), UTC)  # of a subclass: a plain one


def from_now(span: timedelta, *, name: str) -> datetime:
    """Return the moment that is so far from now; before now where it is negative."""
    try:
        return datetime.now(UTC) + span
    except OverflowError:
        raise _out_of_range(name) from None


def wait_seconds(value: object) -> float | None:
    """Return how long somebody would wait, given as seconds or timedelta; None: for ever."""
    if value is None:
        return None
    of_span = timedelta.total_seconds(value) if isinstance(value, timedelta) else None
    found = plain_number(value) if of_span is None else of_span
    longest = LONGEST_WAIT.total_seconds()
    if found is not None and 0 <= found <= longest:
        return float(found)
    raise InvalidInput(
        f"timeout must be from 0 to {longest:.0f} seconds, or a timedelta",
        hint="None waits without end",
    )


def wait_where(value: object, *, waits: bool, hint: str) -> float | None:
    """Return `wait_seconds` of what is waited for; raises InvalidInput where nothing is."""
    found = wait_seconds(value)
    if found is not None and not waits:
        raise InvalidInput("timeout says how long to wait, and nothing is waited for", hint=hint)
    return found


def wait_if(value: object, waits: object, *, name: str) -> float | None:
    """Return `wait_where` of what is waited for if an option says so: `name` is that option's."""
    return wait_where(value, waits=yes_or_no(waits, name=name), hint=f"{name}=True")


def span(value: object, *, name: str, least: timedelta, most: timedelta) -> timedelta:
    """Return a timedelta of whole seconds within bounds."""
    if isinstance(value, timedelta):
        found = span_of(value)
        if least <= found <= most and not found.microseconds:
            return found
    raise InvalidInput(
        f"{name} must be a timedelta of whole seconds, from {least.seconds} to {most.days} days",
        hint=f"timedelta(days=30), or None for no {name} of its own",
    )


def _out_of_range(name: str) -> InvalidInput:
    return InvalidInput(
        f"{name} must be from the year {EARLIEST.year} to the year {LATEST.year - 1}",
        hint="leave it out for a moment that never comes",
    )
