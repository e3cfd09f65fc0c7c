"""Whether a trial has shown that another model, or other settings, say the same for less."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from turnmill.domain.analytics.differences import Difference, Proportion
from turnmill.domain.analytics.intervals import Interval, share
from turnmill.domain.analytics.suggesting.findings import Finding, Improvement, SuggestionRule
from turnmill.domain.analytics.suggesting.models import ModelUse
from turnmill.domain.dollars import rounded

#: Replies must say the same in nine of ten turns, at the lower end of the interval.
SAME_SHARE = 0.9
#: So many of what was asked again may have come to nothing, at the upper end.
MOST_FAILED = 0.05
_FORMULA = (
    "of a trial, by users at 95 %: replies that say the same / replies that were judged: 0.9 or"
    " more at the lower end; cost of a turn after less before: below 0 at the upper end; turns that"
    " failed / turns that were asked: 0.05 or less there (Wilson); saved is that difference, for"
    " each turn of the span with that model"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What a trial has shown that has ended, and whom its turns had asked before."""

    name: str = field(repr=False)
    before: str  #: provider/model of all its turns
    after: str
    settings: Mapping[str, Any] = field(repr=False)  #: in place of those that sessions have
    template: str | None  #: of sessions made from it alone; None: of all
    asked: int
    failed: int
    agreement: Proportion
    cost_usd: Difference
    #: Turns of which both times are known; of a vendor's own batches, at half price, nobody knows.
    at_once: int


def tried(trials: Sequence[Tried], uses: Sequence[ModelUse]) -> Iterator[Finding]:
    """Yield what trials have shown of the models of these turns: of each the greatest saving."""
    best: dict[tuple[str | None, str], Finding] = {}
    for one in trials:
        found = _shown(one, _turns_like(one, uses))
        if found is None:
            continue
        so_far = best.get((one.template, one.before))
        if so_far is None or found.improvement.amount > so_far.improvement.amount:
            best[one.template, one.before] = found
    yield from best.values()


def _turns_like(one: Tried, uses: Sequence[ModelUse]) -> int:
    """Return how many turns of the span are such as the trial has asked again."""
    return sum(
        use.turns
        for use in uses
        if use.name == one.before and one.template in (None, use.task or None)
    )


def _shown(one: Tried, turns: int) -> Finding | None:
    agreement, cost = _interval(one.agreement), _interval(one.cost_usd)
    if not turns or agreement is None or cost is None or one.cost_usd.difference is None:
        return None
    failed = share(one.failed, one.asked)
    if agreement.low < SAME_SHARE or cost.high >= 0 or failed.high > MOST_FAILED:
        return None
    if one.at_once < one.cost_usd.n:  # the price of a batch says nothing of the model's
        return None
    is_other = one.after != one.before
    return Finding(
        rule=SuggestionRule.TRIED,
        subject=f"{one.name}: {one.before}",
        target=one.before,
        says=(
            f"The trial {one.name} asked {one.asked} turns again, of"
            f" {one.after if is_other else 'the same model, with other settings'}: replies say the"
            f" same in {one.agreement.mean:.0%}, and a turn costs"
            f" {rounded(-one.cost_usd.difference, digits=6):f} dollars less."
        ),
        formula=_FORMULA,
        confidence=agreement,
        threshold=SAME_SHARE,
        evidence=[_figures(one, failed.high)],
        improvement=Improvement.of(
            "usd", -one.cost_usd.difference * turns, Interval(-cost.high * turns, -cost.low * turns)
        ),
        settings=dict(one.settings),
        model=one.after if is_other else None,
    )


def _interval(of: Proportion | Difference) -> Interval | None:
    return None if of.low is None or of.high is None else Interval(of.low, of.high)


def _figures(one: Tried, failed: float) -> dict[str, Any]:
    return {
        "trial": one.name,
        "asked": one.asked,
        "failed": one.failed,
        "failed_at_most": round(failed, 4),
        "judged": one.agreement.n,
        "users": one.cost_usd.clusters,
        "usd_before": one.cost_usd.before,
        "usd_after": one.cost_usd.after,
        "usd_low": one.cost_usd.low,
        "usd_high": one.cost_usd.high,
    }
