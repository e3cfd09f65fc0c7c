"""What an alert says, in a sentence that stands by itself."""

import math

from turnmill.domain.analytics.alert_bounds import Rule
from turnmill.domain.analytics.share_words import share_words
from turnmill.domain.dollars import rounded


def sentence(rule: Rule, subject: str, *, value: float, usual: float | None) -> str:
    """Return it: the figure, what it is of, and what is usual."""
    match rule:
        case Rule.COST:
            return f"an hour cost {_usd(value)}{_usually(usual, _usd)}"
        case Rule.FAILURES:
            return f"{share_words(value)} of the turns of {subject} came to nothing" + _usually(
                usual, share_words
            )
        case Rule.QUEUE:
            return f"a turn of the lane {subject} has been due for {_long(value)}"
        case Rule.CACHE:
            return f"{share_words(value)} of the input of {subject} came from a cache" + _usually(
                usual, share_words
            )
        case Rule.BUDGET:
            limit = "" if usual is None else f", beyond its limit of {_usd(usual)}"
            return f"the budget {subject} is heading for {_usd(value)}{limit}"
        case Rule.ACCOUNT:
            return f"{subject} has been closed to calls for {_long(value)}"


def _usually(usual: float | None, read: object) -> str:
    if usual is None:
        return ""
    assert callable(read)
    return f"; {read(usual)} is usual"


def _usd(amount: float) -> str:
    """Return cents, and of less than ten the first two digits: what is beyond $0.00 is not that."""
    digits = 1 - math.floor(math.log10(amount)) if 0 < amount < 0.1 else 2
    return f"${rounded(amount, digits=digits):,f}"


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
