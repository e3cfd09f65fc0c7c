"""Whether another model does the same work for less."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from turnmill.domain.analytics.intervals import Interval, difference, mean, ratio
from turnmill.domain.analytics.suggesting.findings import Finding, Improvement, SuggestionRule

#: Fewer turns of either model tell nothing.
LEAST_TURNS = 200
#: It must cost two thirds or less, at the upper end of the interval.
MOST_RATIO = 2 / 3
#: It may be worse by so much of all turns, at the upper end: cut, failed, or disliked.
MARGIN = 0.02
#: Where its replies are so many times longer or shorter, it does other work.
_SAME_LENGTH = 2.0
_LEAST_RATED = 30
#: What is read from a cache costs a tenth, or more with some vendors: then it explains less.
_CACHE_SAVES = 0.9
_FORMULA = (
    "cost of the other model's prices, fitted to its own turns by least squares over input and"
    " output tokens (of input as if no more of it were cached than of this one's, at a tenth of the"
    " price), on this one's tokens, divided by this one's cost: at most 2/3 at the upper"
    " end; share of its turns that failed, were cut or disliked: higher by at most 0.02 there"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """What the turns of one task came to with one model."""

    task: str  #: the template of their sessions; "" for none, which is compared with nothing
    provider: str
    model: str
    turns: int  #: that were answered, with a known price and known tokens
    bad: int  #: beside these: that failed, or whose answer was cut
    ended: int  #: all that ended with an answer or without
    cost_usd: float
    cost_squares: float
    input_tokens: float
    output_tokens: float
    input_squares: float
    output_squares: float
    input_by_output: float
    input_by_cost: float
    output_by_cost: float
    cached_tokens: float = 0.0  #: of the input, read from a cache
    rated: int = 0  #: of its turns, those that somebody has rated
    disliked: int = 0  #: of these, below 0 on average

    @property
    def name(self) -> str:
        """Return who is asked."""
        return f"{self.provider}/{self.model}"

    def prices(self) -> tuple[float, float]:
        """Return what a token of input and one of output costs, by least squares, from 0 on."""
        a, b, c = self.input_squares, self.input_by_output, self.output_squares
        d, e = self.input_by_cost, self.output_by_cost
        determinant = a * c - b * b
        if determinant > 1e-9 * a * c:
            found = (d * c - e * b) / determinant, (a * e - b * d) / determinant
            if min(found) >= 0:
                return found
        tokens = self.input_tokens + self.output_tokens
        flat = self.cost_usd / tokens if tokens else 0.0
        return flat, flat


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """What users said of the turns of one task with one model."""

    task: str
    provider: str
    model: str
    rated: int
    disliked: int


def with_ratings(uses: Iterable[ModelUse], found: Iterable[Rated]) -> list[ModelUse]:
    """Return the same uses with what was said of them."""
    said = {(one.task, one.provider, one.model): one for one in found}
    return [
        one
        if (of := said.get((one.task, one.provider, one.model))) is None
        else replace(one, rated=of.rated, disliked=of.disliked)
        for one in uses
    ]


def cheaper_models(
    uses: Sequence[ModelUse], others: Sequence[ModelUse] | None = None
) -> Iterator[Finding]:
    """Yield, for each task and model, the cheapest other model that is no worse at it.

    Of these themselves, or of `others`: everybody's, where `uses` are of one user.
    """
    best: dict[tuple[str, str], Finding] = {}
    for one, other in product(uses, uses if others is None else others):
        # What has no name may be any work: two models of it are not asked the same things.
        alike = bool(one.task) and one.task == other.task and one.name != other.name
        found = _compared(one, other) if alike else None
        if found is None:
            continue
        so_far = best.get((one.task, one.name))
        if so_far is None or found.improvement.amount > so_far.improvement.amount:
            best[one.task, one.name] = found
    yield from best.values()


def _compared(one: ModelUse, other: ModelUse) -> Finding | None:
    if min(one.turns, other.turns) < LEAST_TURNS or not _same_work(one, other):
        return None
    for_input, for_output = other.prices()
    for_input *= max(1.0, _paid_in_full(one) / _paid_in_full(other))
    would = for_input * one.input_tokens + for_output * one.output_tokens
    if would <= 0 or one.cost_usd <= 0:
        return None
    theirs = mean(other.turns, other.cost_usd, other.cost_squares)
    scaled = would / one.turns / (other.cost_usd / other.turns)
    costs = ratio(
        Interval(theirs.low * scaled, theirs.high * scaled),
        mean(one.turns, one.cost_usd, one.cost_squares),
    )
    worse = _worse(one, other)
    if costs.high > MOST_RATIO or worse.high > MARGIN:
        return None
    saved = one.cost_usd - would
    interval = Interval(one.cost_usd * (1 - costs.high), one.cost_usd * (1 - costs.low))
    return Finding(
        rule=SuggestionRule.CHEAPER_MODEL,
        subject=f"{one.task}: {one.name}",
        target=one.name,
        says=(
            f"With the template {one.task}, {other.name} would have cost {would / one.cost_usd:.0%}"
            f" of what {one.name} did, and is no worse as far as rows tell. A trial shows more."
        ),
        formula=_FORMULA,
        confidence=costs,
        threshold=MOST_RATIO,
        evidence=[_shown(one), _shown(other), {"worse_by_at_most": round(worse.high, 4)}],
        improvement=Improvement.of("usd", saved, interval),
        model=other.name,
    )


def _paid_in_full(use: ModelUse) -> float:
    """Return which share of the input was paid for, at a tenth of the price from a cache.

    A model whose prompts are cached is not cheaper because of that: where those of the other one
    are not, they may not be with this one either.
    """
    return 1 - _CACHE_SAVES * _cached(use)


def _cached(use: ModelUse) -> float:
    return min(1.0, use.cached_tokens / use.input_tokens) if use.input_tokens else 0.0


def _same_work(one: ModelUse, other: ModelUse) -> bool:
    mine, theirs = one.output_tokens / one.turns, other.output_tokens / other.turns
    return theirs <= _SAME_LENGTH * mine and mine <= _SAME_LENGTH * theirs


def _worse(one: ModelUse, other: ModelUse) -> Interval:
    """Return by how much the other is worse, by what is the worst of it."""
    bad = difference(other.bad, other.ended, one.bad, one.ended)
    if min(one.rated, other.rated) < _LEAST_RATED:
        return bad
    disliked = difference(other.disliked, other.rated, one.disliked, one.rated)
    return max(bad, disliked, key=lambda found: found.high)


def _shown(one: ModelUse) -> dict[str, Any]:
    return {
        "model": one.name,
        "turns": one.turns,
        "usd": round(one.cost_usd, 6),
        "usd_a_turn": round(one.cost_usd / one.turns, 8),
        "input_tokens_a_turn": round(one.input_tokens / one.turns, 1),
        "output_tokens_a_turn": round(one.output_tokens / one.turns, 1),
        "cached_share": round(_cached(one), 4),
        "bad": one.bad,
        "ended": one.ended,
        "rated": one.rated,
        "disliked": one.disliked,
    }
