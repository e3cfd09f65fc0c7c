"""What a rule has found: what to change, what that may bring, and the figures that say so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from turnmill.domain.analytics.intervals import Interval
from turnmill.domain.reply_limits import LIMITS_OF_REPLIES


class SuggestionRule(StrEnum):
    """Which rule has found something."""

    CHEAPER_MODEL = "cheaper_model"  #: another model does the same work for less
    ANSWERS_CUT = "answers_cut"  #: replies end where `max_output_tokens` does
    LIMIT_TOO_HIGH = "limit_too_high"  #: `max_output_tokens` is far beyond any reply
    RETRY_STORM = "retry_storm"  #: hours in which many calls failed and were made again
    DEAD_TARGET = "dead_target"  #: a model that is asked and never answers
    CACHE_UNUSED = "cache_unused"  #: what was said before is paid for in full again
    HISTORY_GROWS = "history_grows"  #: long conversations are sent whole
    COULD_WAIT = "could_wait"  #: nobody waits for it, and it is asked at the price of haste
    FEW_WORKERS = "few_workers"  #: turns wait for a free slot at certain hours
    TOOL_LOOPS = "tool_loops"  #: one tool is called again and again in a turn
    SENT_AGAIN = "sent_again"  #: users write again before they have an answer
    TRIED = "tried"  #: a trial has shown that another model, or other settings, cost less


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """What a change may bring in a span as long as the one that was looked at."""

    what: str  #: `usd`, `tokens`, `turns`, `attempts` or `seconds`
    amount: float
    low: float  #: of the 95 % interval
    high: float

    @classmethod
    def of(cls, what: str, amount: float, interval: Interval | None = None) -> "Improvement":
        """Return one; without an interval it is counted, and no estimate."""
        low, high = (amount, amount) if interval is None else interval
        return cls(what=what, amount=amount, low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that could be done better."""

    rule: SuggestionRule
    subject: str  #: provider/model, with what sets its turns apart
    target: str  #: provider/model that it is about; "" for none
    says: str = field(repr=False)  #: in a sentence
    formula: str = field(repr=False)  #: by which it is found, with the threshold
    confidence: Interval  #: 95 %, of the figure that the threshold is of
    threshold: float
    evidence: Sequence[Mapping[str, Any]] = field(repr=False)  #: the figures that say so
    improvement: Improvement
    #: of sessions, as they might be
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    model: str | None = None  #: provider/model that might be asked instead


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What might be changed about a session, a user's sessions, or all: findings, and their sum."""

    suggested_model: str | None  #: provider/model; None: none is known to be better
    suggested_temperature: float | None  #: only where a trial shows it
    suggested_max_tokens: int | None  #: by whatever name sessions have it: findings tell it
    suggested_settings: Mapping[str, Any] = field(repr=False)
    estimated_improvement: Decimal | None  #: dollars in such a span; None: none in money
    findings: Sequence[Finding]  #: the dearest first
    #: Which share of sessions was looked at: of very many, some are drawn. Sentences and evidence
    #: are then of these, and what a change may bring is of all.
    looked_at: float = 1.0


#: What a rule says of some turns of a model alone, and would be wrong for its other ones.
_NOT_FOR_ALL = frozenset({SuggestionRule.COULD_WAIT})


def suggestion_of(findings: Sequence[Finding], *, longest: int = 0) -> Suggestion:
    """Return what these findings come to.

    A model or setting is suggested for all only where no two findings disagree about it; each
    finding has those of its own. What is right for turns of the bulk lane is for nobody else, and a
    limit of replies is for none that would be cut by it: the `longest` had so many tokens.

    Savings are not added where they may be of the same dollars: of each model the greatest counts.
    No rule but that of trials names a temperature.
    """
    ordered = sorted(findings, key=_weight)
    settings = _agreed([one for one in ordered if one.rule not in _NOT_FOR_ALL])
    limits = {_limit(one) for one in ordered} - {None}
    limit = limits.pop() if len(limits) == 1 else None
    saved: dict[str, float] = {}
    for one in ordered:
        if one.improvement.what == "usd":
            saved.setdefault(one.target, one.improvement.amount)
    models = {one.model for one in ordered if one.model is not None}
    return Suggestion(
        suggested_model=models.pop() if len(models) == 1 else None,
        suggested_temperature=settings.pop("temperature", None),
        suggested_max_tokens=limit if limit is not None and limit >= longest else None,
        suggested_settings={
            name: one for name, one in settings.items() if name not in LIMITS_OF_REPLIES
        },
        estimated_improvement=Decimal(str(round(sum(saved.values()), 6))) if saved else None,
        findings=ordered,
    )


def _agreed(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the settings that all who name them agree about."""
    named: dict[str, list[Any]] = {}
    for one in findings:
        for name, value in one.settings.items():
            named.setdefault(name, []).append(value)
    return {
        name: values[0]
        for name, values in named.items()
        if all(value == values[0] for value in values)
    }


def _limit(one: Finding) -> int | None:
    """Return the limit of replies that it suggests, by whatever name."""
    if one.rule in _NOT_FOR_ALL:
        return None
    return next((one.settings[name] for name in LIMITS_OF_REPLIES if name in one.settings), None)


def _weight(one: Finding) -> tuple[bool, float, str, str]:
    is_money = one.improvement.what == "usd"
    return (not is_money, -one.improvement.amount, one.rule.value, one.subject)
