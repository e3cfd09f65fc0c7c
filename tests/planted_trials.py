"""Trials of a planted month: what they have come to, without the turns that they asked again."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from turnmill.domain.analytics.differences import Difference, Proportion
from turnmill.domain.analytics.judging import TrialState
from turnmill.store.analytics.trial_summaries import MODELS_BEFORE, document_of
from turnmill.store.trial_records import TrialSummary

_ASKED, _USERS = 200, 120
_NOTHING = Difference(
    n=_ASKED, clusters=_USERS, before=1.0, after=1.0, difference=0.0, low=-0.1, high=0.1
)


def trial(number: int, *, before: str, after: str, same: float, ended: datetime) -> dict[str, Any]:
    """Return the row of a trial in which so many replies said the same, at a third of the cost."""
    cost = Difference(
        n=_ASKED,
        clusters=_USERS,
        before=0.006,
        after=0.002,
        difference=-0.004,
        low=-0.0045,
        high=-0.0035,
    )
    summary = TrialSummary(
        asked=_ASKED,
        answered=_ASKED,
        failed=0,
        failures={},
        **dict.fromkeys(("latency_ms", "output_tokens", "characters"), _NOTHING),
        cost_usd=cost,
        agreement=Proportion(
            n=_ASKED, clusters=_USERS, mean=same, low=same - 0.03, high=min(1.0, same + 0.03)
        ),
        judged=_ASKED,
        unjudged={},
        preferred={},
        swayed=0,
        spent_usd=Decimal("0.4"),
        judge_usd=Decimal(0),
    )
    return {
        "id": UUID(int=number),
        "batch_id": UUID(int=1000 + number),
        "name": f"trial-{number}",
        "state": TrialState.DONE.value,
        "provider": "openai",
        "model": after,
        "settings": {"temperature": 0.3},
        "judge": "exact",
        "sampled": _ASKED,
        "since": ended - timedelta(days=7),
        "created_at": ended,
        "ended_at": ended,
        "outcome": document_of(summary) | {MODELS_BEFORE: [f"openai/{before}"]},
    }
