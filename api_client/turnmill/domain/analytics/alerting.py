"""Rules of alerts: whether a figure is beyond its bounds, well within them, or in between.

Pure: figures and moments come as arguments. What opens an alert is further out than what closes it,
and a figure that too little is known of is calm, so that nobody is woken by a rounding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from statistics import median

from turnmill.domain.analytics.alert_bounds import AlertBounds, Rule
from turnmill.domain.analytics.usual import HOUR, Series, usual, weight_of

#: Spreads beyond the usual cost, to open and to stay open.
_FAR, _NEAR = 6.0, 2.5
#: Of how far beyond usual a figure opens an alert, what is no longer beyond at all.
_HALF = 0.5
#: A share of failures is taken to be at least this far on the safe side of chance.
_DEVIATIONS = 3.0
_LEAST_LOST = 5
_TIMES_NEAR = 1.5  # of the usual share: it is no longer beyond
#: Caches are looked at in spans of six hours, against those of the week before.
_CACHE_SPAN = timedelta(hours=6)
CACHE_DAYS = 7
_LEAST_CACHED = 0.15  # of the input: what is cached less does not fall
_CACHE_FAR = 4.0
_TO_DEVIATION = 1.4826
_LEAST_CACHE_SPANS = 8
_CACHE_BACK = 0.75  # of the usual share: it is well again
#: What nothing is known of fails in so many turns.
_LOST_UNKNOWN, _JUDGED_UNKNOWN = 1, 50
#: What has been so for as long is usual: of cost, too, two weeks of four make a median.
_HELD_FOR = timedelta(days=14)
#: So much of a budget's period has to be over, by its usual hours.
_LEAST_OVER = 0.1


class RuleVerdict(StrEnum):
    """Where a figure is."""

    BAD = "bad"  #: beyond what opens an alert
    BETWEEN = "between"  #: it opens none, and closes none
    CALM = "calm"  #: well within, or too little is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A figure, and what a rule says of it."""

    rule: Rule
    subject: str  #: provider or provider/model, a lane, or a budget's id; "": all there is
    verdict: RuleVerdict
    value: float
    usual: float | None = None  #: None: there is no such thing, or it is not known
    bound: float  #: beyond which it opens an alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What was usual when an alert opened, and the bound that its figure was beyond.

    As long as it is open the figure is held against this, for two weeks: else what has gone wrong
    would be usual by itself, and the alert close, before anybody has set it right.
    """

    usual: float | None
    bound: float
    opened_at: datetime

    def still(self, at: datetime) -> bool:
        """Tell whether it counts."""
        return at - self.opened_at < _HELD_FOR


def judge_cost(costs: Series, *, until: datetime, bounds: AlertBounds) -> Judged | None:
    """Judge the hour that ends with the last whole slot; None where too little is known before it.

    Beyond the usual by six spreads, by as many times as the bounds say (of hours beside it, too:
    clocks are moved), and by dollars that count.
    """
    since = until - HOUR
    value = costs.over(since, until)
    known = usual(costs, since, until, ground=bounds.cost_least_usd / _FAR)
    if known is None:
        return None
    opens = max(
        known.at(_FAR),
        max(known.value, known.highest) * bounds.cost_times,
        known.value + bounds.cost_least_usd,
    )
    closes = max(
        known.at(_NEAR),
        known.value * (1 + (bounds.cost_times - 1) * _HALF),
        known.value + bounds.cost_least_usd * _HALF,
    )
    return Judged(
        rule=Rule.COST,
        subject="",
        verdict=_above(value, opens=opens, closes=min(closes, opens)),
        value=value,
        usual=known.value,
        bound=opens,
    )


def judge_failures(
    subject: str,
    *,
    judged: int,
    lost: int,
    usual_judged: int,
    usual_lost: int,
    bounds: AlertBounds,
    held: Held | None = None,
) -> Judged:
    """Judge the turns of a model in the last hour: so many were `judged`, and so many `lost`.

    The usual ones are those of the week before, or what an alert has `held` since it opened. A
    share counts from where it can hardly be chance: the lower end of Wilson's interval, of three
    deviations. Of few turns, that end alone says whether they are well: an outage is not over
    because it is night.
    """
    unknown = _LOST_UNKNOWN / _JUDGED_UNKNOWN
    rate = (usual_lost + _LOST_UNKNOWN) / (usual_judged + _JUDGED_UNKNOWN)
    known = rate if usual_judged else None
    if held is not None:
        rate, known = held.usual or unknown, held.usual
    opens = max(bounds.failures_share, as_likely(rate, times=bounds.failures_times))
    closes = max(opens * _HALF, min(opens, as_likely(rate, times=_TIMES_NEAR)))
    value = lost / judged if judged else 0.0
    surely = lowest(lost, judged)
    is_enough = judged >= bounds.failures_turns and lost >= _LEAST_LOST
    seen = value if lost >= _LEAST_LOST else surely
    near = RuleVerdict.BETWEEN if seen > closes else RuleVerdict.CALM
    return Judged(
        rule=Rule.FAILURES,
        subject=subject,
        verdict=RuleVerdict.BAD if is_enough and surely > opens else near,
        value=value,
        usual=known,
        bound=opens,
    )


def as_likely(share: float, *, times: float) -> float:
    """Return the share that is so many times as likely, by its odds: it never comes to a whole.

    Of a small one that is as many times the share. Three times a half would be beyond anything
    that can fail, and what has failed half of the time could not fail so that anybody hears of it.
    """
    return share * times / (1 + share * (times - 1))


def lowest(lost: int, judged: int, *, deviations: float = _DEVIATIONS) -> float:
    """Return the lower end of Wilson's interval of a share."""
    if not judged:
        return 0.0
    share, square = lost / judged, deviations**2
    middle = share + square / (2 * judged)
    around = deviations * math.sqrt((share * (1 - share) + square / (4 * judged)) / judged)
    return (middle - around) / (1 + square / judged)


def judge_queue(lane: str, *, oldest: timedelta | None, bounds: AlertBounds) -> Judged:
    """Judge for how long the first turn of a lane has been due; None: none is."""
    opens = bounds.longest(lane).total_seconds()
    value = 0.0 if oldest is None else max(0.0, oldest.total_seconds())
    return Judged(
        rule=Rule.QUEUE,
        subject=lane,
        verdict=_above(value, opens=opens, closes=opens * _HALF),
        value=value,
        bound=opens,
    )


def judge_cache(
    subject: str,
    *,
    tokens: Series,
    cached: Series,
    until: datetime,
    bounds: AlertBounds,
    held: Held | None = None,
) -> Judged:
    """Judge the share of a model's input that a cache had, of the last six hours.

    Spans of six hours of the week before, those with enough input, say what is usual, or what an
    alert has `held` since it opened. Of too little
    input no alert opens, but one that is open stays while the little there is misses the cache.
    """
    value = _share(tokens, cached, until, least=1)
    is_enough = tokens.over(until - _CACHE_SPAN, until) >= bounds.cache_tokens
    usual_share = _usual_share(tokens, cached, until, bounds)
    if held is not None and held.usual is not None:
        usual_share = held.usual, min(held.usual * bounds.cache_times, held.bound)
    if value is None or usual_share is None:
        return _calm_cache(subject, value)
    middle, opens = usual_share
    if middle < _LEAST_CACHED:
        verdict = RuleVerdict.CALM
    elif is_enough and value < opens:
        verdict = RuleVerdict.BAD
    else:
        is_back = value >= max(middle * _CACHE_BACK, opens)
        verdict = RuleVerdict.CALM if is_back else RuleVerdict.BETWEEN
    return Judged(
        rule=Rule.CACHE,
        subject=subject,
        verdict=verdict,
        value=value,
        usual=middle,
        bound=max(0.0, opens),
    )


def _usual_share(
    tokens: Series, cached: Series, until: datetime, bounds: AlertBounds
) -> tuple[float, float] | None:
    """Return which share is usual, and from which on it is missed; None: too little is known."""
    spans = [until - n * _CACHE_SPAN for n in range(1, CACHE_DAYS * 4)]
    before = [_share(tokens, cached, end, least=bounds.cache_tokens) for end in spans]
    known = [one for one in before if one is not None]
    if len(known) < _LEAST_CACHE_SPANS:
        return None
    middle = median(known)
    apart = _TO_DEVIATION * median(abs(one - middle) for one in known)
    return middle, min(middle * bounds.cache_times, middle - _CACHE_FAR * apart)


def _calm_cache(subject: str, value: float | None) -> Judged:
    return Judged(
        rule=Rule.CACHE, subject=subject, verdict=RuleVerdict.CALM, value=value or 0.0, bound=0.0
    )


def _share(tokens: Series, cached: Series, until: datetime, *, least: int) -> float | None:
    since = until - _CACHE_SPAN
    told = tokens.over(since, until)
    return cached.over(since, until) / told if told >= least else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgeted:
    """A budget in its period, as a forecast needs it."""

    id: str
    limit_usd: Decimal
    spent_usd: Decimal
    starts_at: datetime
    ends_at: datetime


def forecast(one: Budgeted, *, at: datetime, profile: Sequence[float]) -> Decimal | None:
    """Return what will be spent by the end of the period, if things go on as they do.

    What was spent so far is to the whole as the hours that are over are to all hours, each as much
    as its hour of the week usually costs (`profile`, see `hours_of_week`). None in the first tenth
    of the period, by these hours, when it would be a guess.
    """
    over = weight_of(profile, one.starts_at, min(max(at, one.starts_at), one.ends_at))
    whole = weight_of(profile, one.starts_at, one.ends_at)
    if whole <= 0 or over < _LEAST_OVER * whole:
        return None
    return one.spent_usd * Decimal(str(whole / over))


def judge_budget(
    one: Budgeted, *, at: datetime, profile: Sequence[float], bounds: AlertBounds
) -> Judged:
    """Judge where a budget is heading. One that is used up already is told of by its own event."""
    heading = forecast(one, at=at, profile=profile)
    limit = float(one.limit_usd)
    opens = limit * bounds.budget_times
    value = float(one.spent_usd if heading is None else heading)
    verdict = RuleVerdict.CALM if heading is None else _above(value, opens=opens, closes=limit)
    return Judged(
        rule=Rule.BUDGET, subject=one.id, verdict=verdict, value=value, usual=limit, bound=opens
    )


def judge_account(
    subject: str, *, closed_for: timedelta, permanent: bool, bounds: AlertBounds
) -> Judged:
    """Judge for how long it has been closed; `permanent`: until somebody has set it right."""
    opens = bounds.account_refused if permanent else bounds.account_closed
    value = closed_for.total_seconds()
    return Judged(
        rule=Rule.ACCOUNT,
        subject=subject,
        verdict=_above(value, opens=opens, closes=opens * _HALF),
        value=value,
        bound=opens,
    )


def even_profile() -> list[float]:
    """Return the profile of those of whom no hours are known: each is as any other."""
    return [1.0] * 168


def _above(value: float, *, opens: float, closes: float) -> RuleVerdict:
    if value > opens:
        return RuleVerdict.BAD
    return RuleVerdict.CALM if value <= closes else RuleVerdict.BETWEEN
