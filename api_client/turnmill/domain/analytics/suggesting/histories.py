"""Whether what was said before costs more than it must."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from turnmill.domain.analytics.intervals import Interval, mean, share
from turnmill.domain.analytics.suggesting.findings import Finding, Improvement, SuggestionRule

#: Turns that follow another one within so many seconds could read it from a vendor's cache.
CACHE_SECONDS = 300
#: Vendors keep nothing that is shorter.
CACHED_FROM = 1024
#: A cache is unused when so few turns have read from it, at the upper end of the interval.
UNUSED_SHARE = 0.05
LEAST_FOLLOWING = 100
#: What is read from a cache costs a tenth.
CACHE_SAVES = 0.9
#: A conversation is long from this turn on.
LONG = 20
#: Histories grow when turns beyond it have so many times the input of those before.
GROWS = 1.5
LEAST_LONG = 10
#: And compaction is worth a word when so much of all input is theirs.
LATE_SHARE = 0.3
_CACHE = (
    "turns with cached input / turns that follow another one of their session within 300 s and have"
    " 1,024 tokens of input or more: 0.05 or less at the upper end (Wilson, 95 %); saved is a share"
    " of 0.9 of what they repeat, at the model's price of input"
)
_GROWTH = (
    "mean, over sessions of more than 20 turns without compaction, of input a turn beyond the 20th"
    " / input a turn up to it: 1.5 or more at the lower end (normal, 95 %), and 0.3 or more of the"
    " model's input is beyond it; saved is what is beyond the mean of turns 16 to 20"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUse:
    """What turns that could read from a vendor's cache have read."""

    provider: str
    model: str
    setting: str  #: `prompt_cache`; "" unless the sessions say
    turns: int  #: that follow within five minutes, and are long enough
    cached: int  #: of these, that have read anything from a cache
    repeated_tokens: float  #: of their input, that was said in the turn before
    usd_a_token: float | None  #: of input; None: unknown


def unused_caches(uses: Sequence[CacheUse]) -> Iterator[Finding]:
    """Yield models whose conversations are paid for in full again and again."""
    for one in uses:
        found = share(one.cached, one.turns)
        if one.turns < LEAST_FOLLOWING or found.high > UNUSED_SHARE:
            continue
        tokens = CACHE_SAVES * one.repeated_tokens
        saved = Improvement.of("tokens", tokens)
        if one.usd_a_token is not None:
            usd = tokens * one.usd_a_token
            saved = Improvement.of("usd", usd, Interval(usd * (1 - UNUSED_SHARE), usd))
        off = one.setting == "off"
        yield Finding(
            rule=SuggestionRule.CACHE_UNUSED,
            subject=f"{one.provider}/{one.model}" + (f" with prompt_cache={one.setting}" * off),
            target=f"{one.provider}/{one.model}",
            says=(
                f"{one.turns - one.cached} of {one.turns} turns that went on within five minutes"
                " paid in full for what was said before. Let the vendor keep it, with what stays"
                " the same at the beginning."
            ),
            formula=_CACHE,
            confidence=found,
            threshold=UNUSED_SHARE,
            evidence=[
                {
                    "turns": one.turns,
                    "cached": one.cached,
                    "repeated_tokens": round(one.repeated_tokens),
                    "usd_a_token": one.usd_a_token,
                }
            ],
            improvement=saved,
            settings={"prompt_cache": "on"} if off else {},  # it is on unless somebody says so
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthUse:
    """How the input of one model's conversations grows."""

    provider: str
    model: str
    sessions: int  #: of more than 20 turns, that leave nothing out
    ratios: float  #: sum over these of input a turn beyond the 20th / up to it
    ratio_squares: float
    late_turns: int  #: of these sessions, beyond the 20th
    late_tokens: float
    brim_tokens: float  #: of a turn of these sessions from the 16th to the 20th, on the average
    all_tokens: float  #: input of all turns of the model
    usd_a_token: float | None


def growing_histories(uses: Sequence[GrowthUse]) -> Iterator[Finding]:
    """Yield models whose long conversations are sent whole, at a third of the cost or more."""
    for one in uses:
        found = mean(one.sessions, one.ratios, one.ratio_squares)
        late = one.late_tokens / one.all_tokens if one.all_tokens else 0.0
        if one.sessions < LEAST_LONG or found.low < GROWS or late < LATE_SHARE:
            continue
        tokens = max(0.0, one.late_tokens - one.late_turns * one.brim_tokens)
        saved = Improvement.of("tokens", tokens)
        if one.usd_a_token is not None:
            saved = Improvement.of("usd", tokens * one.usd_a_token)
        yield Finding(
            rule=SuggestionRule.HISTORY_GROWS,
            subject=f"{one.provider}/{one.model}",
            target=f"{one.provider}/{one.model}",
            says=(
                f"{late:.0%} of the input is of turns beyond the {LONG}th, in {one.sessions}"
                " conversations that are sent whole. Begin a new session with a summary of what is"
                " older; where the model's window is full, on_context_full does so by itself."
            ),
            formula=_GROWTH,
            confidence=found,
            threshold=GROWS,
            evidence=[
                {
                    "sessions": one.sessions,
                    "late_turns": one.late_turns,
                    "late_tokens": round(one.late_tokens),
                    "all_tokens": round(one.all_tokens),
                    "tokens_a_turn_at_20": round(one.brim_tokens),
                }
            ],
            improvement=saved,
            settings={"on_context_full": "summarise"},
        )
