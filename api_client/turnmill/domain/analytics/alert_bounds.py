"""From where on a figure is an alert, and what an operator has changed of that."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self

from turnmill.domain.errors import InvalidSetting

VARIABLE = "TURNMILL_ALERTS"
_OFF = "off"
_HINT = "such as cost.least_usd=5, queue.interactive=120, cache=off"


class Rule(StrEnum):
    """What is watched."""

    COST = "cost"  #: an hour costs much more than that hour of the week usually does
    FAILURES = "failures"  #: much more than usual of a model's turns come to nothing
    QUEUE = "queue"  #: the longest that a turn of a lane has been due is too long
    CACHE = "cache"  #: much less than usual of a model's input is read from a cache
    BUDGET = "budget"  #: a budget is heading beyond its limit
    ACCOUNT = "account"  #: what is closed at a provider stays closed


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertBounds:
    """The bounds. A figure opens an alert beyond them, and closes it well within them."""

    off: frozenset[Rule] = frozenset()  #: rules that are not watched
    cost_times: float = 2.0  #: of the usual cost of the hour
    cost_least_usd: float = 1.0  #: beyond the usual one: less is nobody's concern
    failures_share: float = 0.05  #: of turns that neither succeed nor are cut short
    failures_times: float = 3.0  #: of the usual share
    failures_turns: int = 20  #: of fewer, a share says nothing
    queue_interactive: float = 60.0  #: seconds
    queue_bulk: float = 6 * 3600.0
    queue_quarantine: float = 15 * 60.0
    cache_times: float = 0.5  #: of the usual share
    cache_tokens: int = 200_000  #: of input, in six hours: of less, a share says nothing
    budget_times: float = 1.1  #: of its limit
    account_closed: float = 15 * 60.0  #: seconds, where a vendor has said later, or a model fails
    account_refused: float = 60.0  #: where somebody has to set it right: a quota, a bill, a key

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read TURNMILL_ALERTS; raises InvalidSetting."""
        return cls().changed(environ.get(VARIABLE, ""))

    def changed(self, said: str) -> Self:
        """Return them with what is said, `rule.bound=number` or `rule=off`, with commas between."""
        values: dict[str, Any] = {}
        off = set(self.off)
        for part in filter(None, map(str.strip, said.split(","))):
            name, _, value = (word.strip().lower() for word in part.partition("="))
            if value == _OFF and name in set(Rule):
                off.add(Rule(name))
            else:
                values |= _bound(name, value)
        return replace(self, off=frozenset(off), **values)

    def longest(self, lane: str) -> timedelta:
        """Return for how long a turn of this lane may be due."""
        seconds: float = getattr(self, f"queue_{lane}", self.queue_bulk)
        return timedelta(seconds=seconds)


#: The name of each bound in a setting, its field, and the least and most that it may be.
_RANGES: Mapping[str, tuple[str, float, float]] = MappingProxyType(
    {
        "cost.times": ("cost_times", 1.1, 100),
        "cost.least_usd": ("cost_least_usd", 0.0001, 1e9),
        "failures.share": ("failures_share", 0.001, 1),
        "failures.times": ("failures_times", 1.1, 1000),
        "failures.turns": ("failures_turns", 5, 1e6),
        "queue.interactive": ("queue_interactive", 1, 86_400),
        "queue.bulk": ("queue_bulk", 1, 30 * 86_400),
        "queue.quarantine": ("queue_quarantine", 1, 86_400),
        "cache.times": ("cache_times", 0.01, 0.95),
        "cache.tokens": ("cache_tokens", 1000, 1e12),
        "budget.times": ("budget_times", 1, 100),
        "account.closed": ("account_closed", 1, 30 * 86_400),
        "account.refused": ("account_refused", 1, 30 * 86_400),
    }
)
_WHOLE = frozenset(one.name for one in fields(AlertBounds) if one.type is int)


def _bound(name: str, value: str) -> dict[str, Any]:
    if name not in _RANGES:
        raise InvalidSetting(
            f"{VARIABLE} names what is no bound", hint=f"{_HINT}; known: {', '.join(_RANGES)}"
        )
    named, least, most = _RANGES[name]
    try:
        number = float(value)
    except ValueError:
        raise InvalidSetting(f"{VARIABLE}: {name} is not a number", hint=_HINT) from None
    if not least <= number <= most:
        raise InvalidSetting(f"{VARIABLE}: {name} is out of range", hint=f"{least:g} to {most:g}")
    return {named: int(number) if named in _WHOLE else number}
