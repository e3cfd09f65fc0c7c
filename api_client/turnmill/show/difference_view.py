"""Differences between two ways of answering, in words that say how sure they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from turnmill.domain.analytics.differences import FEWEST
from turnmill.domain.analytics.share_words import share_words
from turnmill.domain.dollars import rounded

if TYPE_CHECKING:
    from turnmill.domain.analytics.differences import Difference, Proportion

#: Columns of a table of differences.
COLUMNS = ("", "before", "after", "difference", "95 % sure that it is", "so it is")


def row_of(
    what: str, found: Difference, shown: Callable[[float], str], *, words: tuple[str, str]
) -> tuple[str | None, ...]:
    """Return a line; `words` say what is less and what is more."""
    if found.difference is None:
        return (what, _one(found.before, shown), _one(found.after, shown), None, None, "not known")
    share = "" if found.share is None else f" ({100 * found.share:+.0f} %)"
    return (
        what,
        _one(found.before, shown),
        _one(found.after, shown),
        f"{_signed(found.difference, shown)}{share}",
        _span(found, shown),
        verdict(found, words=words),
    )


def verdict(found: Difference, *, words: tuple[str, str]) -> str:
    """Return what an interval means."""
    if found.difference is None:
        return "not known"
    if found.low is None or found.high is None:
        return f"not known: fewer than {FEWEST} users"
    if not found.is_clear:
        return "no clear difference"
    return words[0] if found.difference < 0 else words[1]


def agreement_in_words(found: Proportion) -> str:
    """Return how often two replies say the same."""
    if found.mean is None or found.low is None or found.high is None:
        return "no reply was judged"
    return (
        f"{100 * found.mean:.0f} % agreement (95 % sure: {100 * found.low:.0f} to"
        f" {100 * found.high:.0f} %), of {found.n} replies to {found.clusters} users"
    )


def document_of(found: Any) -> dict[str, Any]:
    """Return a difference for programs."""
    names = ("n", "clusters", "before", "after", "difference", "low", "high", "is_clear")
    return {name: getattr(found, name) for name in names}


def dollars(value: float) -> str:
    """Return an amount."""
    return f"${rounded(value, digits=6):f}"


def milliseconds(value: float) -> str:
    """Return a time."""
    return f"{value:,.0f} ms"


def seconds(value: float) -> str:
    """Return a longer time."""
    return f"{value:,.1f} s"


def count(value: float) -> str:
    """Return a mean of things that are counted."""
    return f"{value:,.1f}"


def percent(value: float) -> str:
    """Return a share."""
    return share_words(value)


def score(value: float) -> str:
    """Return a score from -1 to 1."""
    return f"{value:.2f}"


def _one(value: float | None, shown: Callable[[float], str]) -> str | None:
    return None if value is None else shown(value)


def _signed(value: float, shown: Callable[[float], str]) -> str:
    return f"{'-' if value < 0 else '+'}{shown(abs(value))}"


def _span(found: Difference, shown: Callable[[float], str]) -> str | None:
    if found.low is None or found.high is None:
        return None
    return f"{_signed(found.low, shown)} to {_signed(found.high, shown)}"
