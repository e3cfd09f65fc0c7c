"""Whether replies have room, and no more than they need."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from turnmill.domain.analytics.intervals import Interval, share
from turnmill.domain.analytics.suggesting.findings import Finding, Improvement, SuggestionRule

#: Of replies that were cut, at the lower end of the interval.
CUT_SHARE = 0.05
LEAST_CUT_TURNS = 50
#: Who is sent no limit lets the model say all that it can: no higher one is accepted.
_NO_DEFAULT = frozenset({"openai"})
_AT_MOST = "They were as long as the model can make them: ask for shorter ones, or in parts."
#: A limit so many times the longest reply is too high.
TIMES_LONGEST = 4
#: OpenAI refuses a lower limit, and with it every turn.
LOWEST = 16
#: The longest of 299 is above the 99th percentile in 95 of 100 cases: 0.99 ** 299 < 0.05.
LEAST_TURNS = 299
_CUT = "replies that ended at the limit / replies: 0.05 or more at the lower end (Wilson, 95 %)"
_HIGH = (
    "limit / longest of at least 299 replies, none of them cut: 4 or more. The longest of so many"
    " is beyond the 99th percentile in 95 of 100 cases"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthUse:
    """How long the replies of one model were under one limit."""

    provider: str
    model: str
    limit: int | None  #: that is set; None: the vendor's own
    turns: int  #: that were answered by it
    cut: int  #: of these, whose reply was as long as it may be
    longest: int  #: of those that were not, in tokens
    cost_usd: float
    longest_cut: int = 0  #: of those that were
    setting: str = "max_output_tokens"  #: that says the limit, or may

    @property
    def subject(self) -> str:
        """Return what is spoken of."""
        limit = "" if self.limit is None else f" with {self.setting}={self.limit}"
        return f"{self.provider}/{self.model}{limit}"


def answers_cut(uses: Sequence[LengthUse]) -> Iterator[Finding]:
    """Yield where more than one reply in twenty is cut."""
    for one in uses:
        found = share(one.cut, one.turns)
        if one.turns < LEAST_CUT_TURNS or found.low < CUT_SHARE:
            continue
        is_own = one.limit is None and one.provider in _NO_DEFAULT
        most = 2 * max(one.limit or one.longest_cut, one.longest)
        if not most:  # nobody knows how long they may be
            continue
        advice = _AT_MOST if is_own else _higher(most)
        yield Finding(
            rule=SuggestionRule.ANSWERS_CUT,
            subject=one.subject,
            target=f"{one.provider}/{one.model}",
            says=f"{one.cut} of {one.turns} replies were cut off. {advice}",
            formula=_CUT,
            confidence=found,
            threshold=CUT_SHARE,
            evidence=[{"turns": one.turns, "cut": one.cut, "limit": one.limit}],
            improvement=Improvement.of("turns", one.cut, _times(found, one.turns)),
            settings={} if is_own else {one.setting: most},
        )


def _higher(most: int) -> str:
    return (
        f"A limit of {most} is twice what they may be now; a vendor refuses one that is beyond what"
        " the model can."
    )


def limits_too_high(uses: Sequence[LengthUse]) -> Iterator[Finding]:
    """Yield where the limit is four times the longest reply and more."""
    for one in uses:
        if one.limit is None or one.turns < LEAST_TURNS or one.cut or not one.longest:
            continue
        times = one.limit / one.longest
        if times < TIMES_LONGEST:
            continue
        enough = max(2 * one.longest, LOWEST)
        if enough >= one.limit:
            continue
        yield Finding(
            rule=SuggestionRule.LIMIT_TOO_HIGH,
            subject=one.subject,
            target=f"{one.provider}/{one.model}",
            says=(
                f"No reply had more than {one.longest} tokens, and {one.limit} are reserved of"
                f" budgets and of the vendor's limits for each. {enough} would do."
            ),
            formula=_HIGH,
            confidence=Interval(times, times),
            threshold=TIMES_LONGEST,
            evidence=[{"turns": one.turns, "longest": one.longest, "limit": one.limit}],
            improvement=Improvement.of("tokens", float((one.limit - enough) * one.turns)),
            settings={one.setting: enough},
        )


def longest_of(uses: Sequence[LengthUse]) -> int:
    """Return how many tokens the longest of all these replies had, cut or not."""
    return max((max(one.longest, one.longest_cut) for one in uses), default=0)


def _times(interval: Interval, count: int) -> Interval:
    return Interval(interval.low * count, interval.high * count)
