"""What vendors say in the headers of their answers of how much more they may be asked."""

import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

Headers = Mapping[str, str]

_HEARS: ContextVar[Callable[[Headers], None] | None] = ContextVar("turnmill_hears", default=None)

_OPENAI = "x-ratelimit-{what}-{of}"
_ANTHROPIC = "anthropic-ratelimit-{of}-{what}"
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS_ALONE = re.compile(r"\d{1,5}(?:\.\d{1,9})?")  #: up to a day or so
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_MOST_DIGITS = 15
#: In a minute: what servers say that have no limit is as good as this, and any store takes it.
_MOST = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Of requests, or of tokens."""

    limit: int  #: in a minute
    left: int | None = None
    resets_in: float | None = None  #: seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowances:
    """What was said; None: nothing that makes sense."""

    requests: Allowance | None = None
    tokens: Allowance | None = None


def hear(hears: Callable[[Headers], None] | None) -> None:
    """Have it given the headers of every answer that comes to this task from now on."""
    _HEARS.set(hears)


def heard(headers: Headers) -> None:
    """Give headers to whoever hears; called by what talks to a vendor."""
    hears = _HEARS.get()
    if hears is not None:
        hears(headers)


def allowances_in(headers: Headers, *, now: datetime | None = None) -> Allowances:
    """Read the headers of both vendors, and of servers that speak as they do."""
    moment = now or datetime.now(UTC)
    for pattern in (_OPENAI, _ANTHROPIC):
        requests = _read(headers, pattern, "requests", moment)
        tokens = _read(headers, pattern, "tokens", moment)
        if requests or tokens:
            return Allowances(requests=requests, tokens=tokens)
    return Allowances()


def _read(headers: Headers, pattern: str, of: str, now: datetime) -> Allowance | None:
    limit = _number(headers.get(pattern.format(what="limit", of=of), ""))
    if not limit:
        return None
    return Allowance(
        limit=min(limit, _MOST),
        left=_left(headers.get(pattern.format(what="remaining", of=of), "")),
        resets_in=_wait(headers.get(pattern.format(what="reset", of=of), ""), now),
    )


def _number(value: str) -> int | None:
    value = value.strip()
    return int(value) if value.isdecimal() and len(value) <= _MOST_DIGITS else None


def _left(value: str) -> int | None:
    """Return how many are left: none, where more was taken than there was, as some servers say."""
    value = value.strip()
    return 0 if value.startswith("-") and _number(value[1:]) else _number(value)


def _wait(value: str, now: datetime) -> float | None:
    """Return seconds: vendors say `1s`, `6m0s`, `12ms`, `7`, or a moment."""
    value = value.strip()
    if _SECONDS_ALONE.fullmatch(value):
        return float(value)
    spans = _SPAN.findall(value)
    if spans and "".join(number + unit for number, unit in spans) == value:
        return sum(float(number[:_MOST_DIGITS]) * _SECONDS[unit] for number, unit in spans)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
