"""What trials have shown, beside the model that their turns had asked before."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection

from turnmill.domain.analytics.suggesting.trying import Tried
from turnmill.domain.analytics.windows import Window
from turnmill.store.analytics import trials
from turnmill.store.trial_records import Finding


def read(conn: Connection, window: Window) -> list[Tried]:
    """Return trials that ended in the window, whose turns all had asked one model.

    What they have shown counts when their lines are gone, too. One whose settings cannot be opened
    here is left out: nobody could be told what was tried.
    """
    found = [one for one in trials.findings(conn, since=window.since) if _counts(one, window)]
    before = _before(conn, found)
    return [_tried(one, *before[one.trial_id]) for one in found if len(before[one.trial_id]) == 1]


def _counts(one: Finding, window: Window) -> bool:
    # A cosine is no share: what is the same by it, only whoever made the function knows.
    is_told = one.settings is not None and one.ended_at < window.until
    return is_told and not one.judge.startswith("embedding:")


def _before(conn: Connection, found: Sequence[Finding]) -> dict[UUID, Sequence[str]]:
    """Return the models that the turns of each trial had asked, as they were when it ended.

    Of those that ended under a version before, as far as their lines are there.
    """
    known = {one.trial_id: one.models_before for one in found if one.models_before is not None}
    unknown = [one.trial_id for one in found if one.trial_id not in known]
    return {**known, **trials.models_before(conn, unknown)}


def _tried(one: Finding, before: str) -> Tried:
    shown = one.summary
    return Tried(
        name=one.name,
        before=before,
        after=f"{one.provider}/{one.model}",
        settings=one.settings or {},
        template=one.template,
        asked=shown.asked,
        failed=shown.failed,
        agreement=shown.agreement,
        cost_usd=shown.cost_usd,
        at_once=shown.latency_ms.n,
    )
