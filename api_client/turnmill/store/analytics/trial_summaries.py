"""What a trial shows, added up line by line; and as JSON, in which it stays when lines go."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from turnmill.domain.analytics.differences import Difference, Proportion, paired, proportion_of
from turnmill.domain.analytics.judging import JudgeVerdict
from turnmill.domain.states import TurnState
from turnmill.store.trial_records import TrialResult, TrialSide, TrialSummary

#: Figure → what it is of a side.
_PAIRED: Mapping[str, Any] = {
    "cost_usd": lambda side: side.cost_usd,
    "latency_ms": lambda side: side.latency_ms,
    "output_tokens": lambda side: side.output_tokens,
    "characters": lambda side: None if side.text is None else len(side.text),
}
#: Beside the summary: which models the turns had asked, so that it is told when lines are gone.
MODELS_BEFORE = "models_before"
_UNASKED = frozenset({JudgeVerdict.OPEN, JudgeVerdict.JUDGING})


class Adding:
    """Takes in lines one by one, and keeps their figures."""

    def __init__(self) -> None:
        self._pairs: dict[str, list[tuple[object, float, float]]] = {name: [] for name in _PAIRED}
        self._agreement: list[tuple[object, float]] = []
        self._failures: Counter[str] = Counter()
        self._unjudged: Counter[str] = Counter()
        self._preferred: Counter[str] = Counter()
        self._asked = self._answered = self._judged = self._swayed = 0

    def add(self, one: TrialResult) -> None:
        """Take a line in; one that was not asked yet counts nothing."""
        if one.after is None and one.error_code is None:
            return
        self._asked += 1
        if one.after is None or one.after.state is not TurnState.SUCCEEDED:
            self._failures[one.error_code or "cancelled"] += 1
        else:
            self._answered += 1
            if one.before is not None:
                self._compare(one.user_id, one.before, one.after)
        self._take_verdict(one)

    def _compare(self, user_id: str, before: TrialSide, after: TrialSide) -> None:
        for name, read in _PAIRED.items():
            was, now = read(before), read(after)
            if was is not None and now is not None:
                self._pairs[name].append((user_id, float(was), float(now)))

    def _take_verdict(self, one: TrialResult) -> None:
        if one.verdict is JudgeVerdict.JUDGED and one.agreement is not None:
            self._judged += 1
            self._agreement.append((one.user_id, one.agreement))
            self._swayed += bool(one.swayed)
            if one.preferred is not None:
                self._preferred[one.preferred] += 1
        elif one.verdict not in _UNASKED:
            self._unjudged[one.judge_error or one.verdict] += 1

    def summary(self, *, spent_usd: Decimal, judge_usd: Decimal) -> TrialSummary:
        """Return what all of them come to."""
        return TrialSummary(
            asked=self._asked,
            answered=self._answered,
            failed=self._asked - self._answered,
            failures=dict(self._failures),
            **{name: paired(pairs) for name, pairs in self._pairs.items()},
            agreement=proportion_of(self._agreement),
            judged=self._judged,
            unjudged=dict(self._unjudged),
            preferred=dict(self._preferred),
            swayed=self._swayed,
            spent_usd=spent_usd,
            judge_usd=judge_usd,
        )


def document_of(summary: TrialSummary) -> dict[str, Any]:
    """Return a summary as JSON that holds it."""
    found = asdict(summary)
    return found | {name: str(found[name]) for name in ("spent_usd", "judge_usd")}


def summary_in(document: Mapping[str, Any]) -> TrialSummary:
    """Return the summary that JSON holds."""
    found = {name: value for name, value in document.items() if name != MODELS_BEFORE}
    found |= {name: Difference(**found[name]) for name in _PAIRED}
    found["agreement"] = Proportion(**found["agreement"])
    found |= {name: Decimal(found[name]) for name in ("spent_usd", "judge_usd")}
    return TrialSummary(**found)
