"""How things read on the tab: numbers, moments, money, and what is waited for."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from turnmill.domain.dollars import rounded
from turnmill.domain.states import FINAL
from turnmill.show.why_view import in_a_line
from turnmill.show.wording import clock_text, dollars, duration, moment_text, relative, times
from turnmill.store.nouns.why import Why

#: What a group of turns waits for, in a few words; each turn of it says more.
REASONS: Mapping[str, str] = MappingProxyType(
    {
        "running": "running: a worker waits for its provider or its tools",
        "behind": "an earlier turn of its session",
        "session_paused": "its session is paused",
        "lane_paused": "its lane is paused",
        "provider_paused": "its provider is paused",
        "held": "a decision: its request may have been executed",
        "tool": "the output of a tool, from outside",
        "approval": "somebody who agrees that a tool is run",
        "account": "an account at its provider, which is closed",
        "breaker": "a model that has failed again and again",
        "limit": "its place within what a provider takes",
        "batch": "its batch: at the vendor, or paused",
        "budget": "money: a budget is used up",
        "key": "a key of what is encrypted, which is missing",
        "layer": "what a layer has named",
        "retry": "its next attempt, after an error",
        "question": "asking its provider what became of it",
        "background": "what its provider does in the background",
        "later": "the moment that it was sent for",
        "due": "a worker: it could run now",
    }
)
_COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "succeeded": "success",
        "done": "success",
        "completed": "success",
        "completed_with_errors": "warning",
        "failed": "danger",
        "dead": "danger",
        "lost": "danger",
        "running": "primary",
        "retrying": "warning",
        "waiting": "warning",
        "unknown": "warning",
        "paused": "warning",
    }
)


class Words:
    """What templates call. `now` is the moment that their page shows."""

    def __init__(self, now: datetime | None) -> None:
        self.now = now or datetime.now(UTC)

    def number(self, value: Any) -> str:
        """Return `1,234`; a dash for what is not known."""
        return "–" if value is None else f"{value:,}"

    def count(self, number: int, one: str, many: str = "") -> str:
        """Return `1 turn` or `2 turns`."""
        return f"{number:,} {one if number == 1 else many or f'{one}s'}"

    def times(self, number: int) -> str:
        """Return `once`, or `2 times`."""
        return times(number)

    def usd(self, value: Decimal | None) -> str:
        """Return the cost; never 0 for an unknown one."""
        return dollars(None if value is None else Decimal(value))

    def spent(self, value: Decimal, unpriced: int) -> str:
        """Return what is known of a cost, with a `+` where some of it is not; of none, `n/a`."""
        return _known(self.usd(value), value, unpriced)

    def cents(self, value: Decimal, unpriced: int = 0) -> str:
        """Return a sum as people read sums; small ones to the last digit that says something."""
        return _known(
            f"${rounded(value, digits=2):,f}" if value >= 1 else dollars(value), value, unpriced
        )

    def moment(self, value: datetime | None) -> str:
        """Return date and time in UTC."""
        return "–" if value is None else moment_text(value)

    def clock(self, value: datetime | None) -> str:
        """Return the time of day in UTC."""
        return "–" if value is None else clock_text(value)

    def ago(self, value: datetime | None) -> str:
        """Return `3 min ago`, or `in 3 min`."""
        return "–" if value is None else relative(value, now=self.now)

    def age(self, value: datetime | None) -> str:
        """Return for how long it has been so."""
        return "–" if value is None else duration(self.now - value)

    def span(self, value: timedelta) -> str:
        """Return `3 min 5 s`."""
        return duration(value)

    def between(self, first: datetime | None, last: datetime | None) -> str:
        """Return how long it took, until now where it goes on."""
        return "–" if first is None else duration((last or self.now) - first)

    def why(self, value: Why | None) -> str:
        """Return what a turn waits for, as `turnmill turns why` says it."""
        return "" if value is None else in_a_line(value)

    def reason(self, reason: str, name: str) -> str:
        """Return what a group of turns waits for."""
        words = REASONS.get(reason, reason)
        return f"{words} ({name})" if name else words

    def colour(self, word: str | None) -> str:
        """Return Bootstrap's name of the colour of a state."""
        return _COLOURS.get(word or "", "secondary")

    def short(self, value: Any) -> str:
        """Return the end of an id, which tells it from others of the same moment."""
        return f"…{str(value)[-12:]}"

    def counts(self, result: Mapping[str, Any] | None) -> str:
        """Return what a job counted, on a line."""
        told = [f"{name} {value}" for name, value in (result or {}).items()]
        return ", ".join(told)[:200]

    def is_final(self, state: str) -> bool:
        """Tell whether a turn in this state goes on no more."""
        return state in FINAL


def _known(shown: str, value: Decimal, unpriced: int) -> str:
    if unpriced and not value:
        return dollars(None)
    return f"{shown}+" if unpriced else shown
