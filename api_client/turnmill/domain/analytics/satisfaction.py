"""What somebody felt about a conversation: what he has said of it, or else an estimate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import exp

from turnmill.domain.analytics.conversing import Exchange, shape_of_times, shape_of_words
from turnmill.domain.analytics.satisfaction_model import (
    BASE,
    BY_TIMES,
    WITH_WORDS,
    EstimateQuality,
    Model,
)

#: Turns of one conversation that an estimate is made of, the newest ones.
MOST_TURNS = 1_000


class Basis(StrEnum):
    """What an estimate was made of."""

    WORDS = "words"  #: times and states of turns, and the words of all of them
    TIMES = "times"  #: times and states alone: not all words can be read


@dataclass(frozen=True, slots=True, kw_only=True)
class SatisfactionEstimate:
    """How a conversation was liked, judged by its shape: a guess, and never what somebody said."""

    score: float  #: from -1 to 1; 0: as good as the average conversation that it was learned from
    basis: Basis
    coverage: float  #: of the turns that have ended, the share that it was made of, words and all
    turns: int  #: that it was made of
    quality: EstimateQuality  #: how good such estimates are, as measured


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackGiven:
    """What was said of turns, in figures."""

    count: int  #: of those who said something, of each turn once
    mean: float | None  #: from -1 to 1; None: nobody has said anything
    positive: int  #: above 0
    negative: int  #: below 0
    comments: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Satisfaction:
    """What was felt: `score` is the mean of what was said; where nothing was, an estimate."""

    score: float | None  #: from -1 to 1; None: nothing is known
    is_estimate: bool  #: `score` is one
    given: FeedbackGiven
    estimate: float | None  #: whether it is used or not
    #: what `estimate` is made of: of sessions the share, of one session see SatisfactionEstimate
    coverage: float
    quality: EstimateQuality | None  #: of the estimates, the worst of them


def estimate(exchanges: Sequence[Exchange], *, turns: int) -> SatisfactionEstimate | None:
    """Return what the shape of a conversation says; None where no turn of it has ended.

    `exchanges` are its turns that have ended, the oldest first, at most `MOST_TURNS`; `turns` is
    how many there are in all.
    """
    if not exchanges:
        return None
    readable = sum(_has_words(one) for one in exchanges)
    whole = readable == len(exchanges)
    model = WITH_WORDS if whole else BY_TIMES
    shape = shape_of_times(exchanges)
    if whole:
        shape |= shape_of_words(exchanges)
    return SatisfactionEstimate(
        score=score(model, shape),
        basis=Basis.WORDS if whole else Basis.TIMES,
        coverage=readable / max(turns, len(exchanges)),
        turns=len(exchanges),
        quality=model.quality,
    )


def score(model: Model, shape: Mapping[str, float]) -> float:
    """Return how much likelier than the average it is that a conversation was liked."""
    odds = model.intercept + sum(weight * shape[name] for name, weight in model.weights.items())
    return 2 / (1 + exp(min(700.0, BASE - odds))) - 1


def of_session(given: FeedbackGiven, estimated: SatisfactionEstimate | None) -> Satisfaction:
    """Return what was felt about one conversation."""
    return _felt(
        given,
        None if estimated is None else estimated.score,
        coverage=0.0 if estimated is None else estimated.coverage,
        quality=None if estimated is None else estimated.quality,
    )


def of_sessions(
    given: FeedbackGiven, estimates: Sequence[SatisfactionEstimate], *, sessions: int
) -> Satisfaction:
    """Return what was felt about many; each conversation's estimate weighs the same."""
    mean = sum(one.score for one in estimates) / len(estimates) if estimates else None
    worst = min((one.quality for one in estimates), key=lambda one: one.auc, default=None)
    coverage = len(estimates) / sessions if sessions else 0.0
    return _felt(given, mean, coverage=coverage, quality=worst)


def _felt(
    given: FeedbackGiven,
    estimated: float | None,
    *,
    coverage: float,
    quality: EstimateQuality | None,
) -> Satisfaction:
    said = given.mean
    return Satisfaction(
        score=estimated if said is None else said,
        is_estimate=said is None and estimated is not None,
        given=given,
        estimate=estimated,
        coverage=coverage,
        quality=quality,
    )


def _has_words(one: Exchange) -> bool:
    return one.said is not None and (one.heard is not None or not one.answered)
