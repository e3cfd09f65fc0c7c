"""Whether turns go round in circles, and whether users do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from turnmill.domain.analytics import behaving
from turnmill.domain.analytics.intervals import Interval, share
from turnmill.domain.analytics.suggesting.findings import Finding, Improvement, SuggestionRule

#: A turn loops when it calls one tool so often.
LOOP_CALLS = behaving.LOOP_CALLS
#: Of turns that call the tool, at the lower end of the interval.
LOOP_SHARE = 0.05
LEAST_WITH_TOOL = 50
#: Of turns that follow another one, those that were sent before its answer was there.
AGAIN_SHARE = 0.05
LEAST_TURNS = 200
_LOOPS = (
    "turns with 8 or more calls of one tool / turns that call it: 0.05 or more at the lower end"
    " (Wilson, 95 %), 50 or more turns; saved is what they cost beyond the others"
)
_AGAIN = (
    "turns of the interactive lane that were sent while the turn before had no answer yet, by its"
    " user, within 60 s / turns that follow another one: 0.05 or more at the lower end (Wilson,"
    " 95 %), 200 or more turns"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """How often turns of one model call one tool."""

    provider: str
    model: str
    tool: str
    turns: int  #: that call it
    looping: int  #: of these, that call it eight times or more
    calls: int  #: of looping turns
    looping_usd: float
    other_usd: float  #: of the other ones
    most_rounds: int  #: steps that a turn which does not loop has taken at the most


def tool_loops(uses: Sequence[ToolUse]) -> Iterator[Finding]:
    """Yield tools that one turn in twenty calls again and again."""
    for one in uses:
        found = share(one.looping, one.turns)
        if one.turns < LEAST_WITH_TOOL or found.low < LOOP_SHARE:
            continue
        others = one.turns - one.looping
        usual = one.other_usd / others if others else 0.0
        usd = max(0.0, one.looping_usd - one.looping * usual)
        # A limit is of turns with other tools, too: it is none where these take as many rounds.
        rounds = 2 + max(use.most_rounds for use in uses if _of(use) == _of(one))
        is_limit = rounds <= LOOP_CALLS
        or_limit = f", or let a turn take {rounds} rounds at the most" if is_limit else ""
        yield Finding(
            rule=SuggestionRule.TOOL_LOOPS,
            subject=f"{one.provider}/{one.model} calling {one.tool}",
            target=f"{one.provider}/{one.model}",
            says=(
                f"{one.looping} of {one.turns} turns called {one.tool} {LOOP_CALLS} times or more"
                f" ({one.calls} calls). Say in its output what to do next{or_limit}."
            ),
            formula=_LOOPS,
            confidence=found,
            threshold=LOOP_SHARE,
            evidence=[
                {
                    "turns": one.turns,
                    "looping": one.looping,
                    "calls": one.calls,
                    "looping_usd": round(one.looping_usd, 6),
                    "usd_of_another_turn": round(usual, 8),
                }
            ],
            improvement=Improvement.of("usd", usd) if usd else Improvement.of("turns", one.looping),
            settings={"max_tool_rounds": rounds} if is_limit else {},
        )


def _of(use: ToolUse) -> tuple[str, str]:
    return use.provider, use.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often users of one model have written again before they had an answer."""

    provider: str
    model: str
    turns: int  #: that follow another one of their session
    again: int  #: of these, that were sent before it had ended
    waited: float  #: seconds that these users had waited by then, all together


def sent_again(uses: Sequence[Patience]) -> Iterator[Finding]:
    """Yield models whose users do not wait for the answer."""
    for one in uses:
        found = share(one.again, one.turns)
        if one.turns < LEAST_TURNS or found.low < AGAIN_SHARE:
            continue
        waited = one.waited / one.again
        yield Finding(
            rule=SuggestionRule.SENT_AGAIN,
            subject=f"{one.provider}/{one.model}",
            target=f"{one.provider}/{one.model}",
            says=(
                f"{one.again} of {one.turns} messages were sent before the one before had an"
                f" answer, after {waited:.0f} s on the average. Stream replies, so that somebody"
                " sees them come, and give repeated sends one idempotency key."
            ),
            formula=_AGAIN,
            confidence=found,
            threshold=AGAIN_SHARE,
            evidence=[{"turns": one.turns, "again": one.again, "waited_seconds": round(waited, 1)}],
            improvement=Improvement.of(
                "turns", one.again, Interval(found.low * one.turns, found.high * one.turns)
            ),
        )
