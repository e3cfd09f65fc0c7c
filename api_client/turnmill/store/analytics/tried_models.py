"""What trials have shown, beside the model that their turns had asked before."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, select

from turnmill.domain.analytics.suggesting.trying import Tried
from turnmill.domain.analytics.windows import Window
from turnmill.store.analytics import trials
from turnmill.store.schema.tables import sessions
from turnmill.store.schema.trial_tables import trial_lines
from turnmill.store.trial_records import Finding


def read(conn: Connection, window: Window) -> list[Tried]:
    """Return trials that ended in the window, whose turns all had asked one model.

    Of those alone whose lines are still there: others do not tell whom they compare with.
    """
    found = [one for one in trials.findings(conn, since=window.since) if _counts(one, window)]
    before = _before(conn, [one.trial_id for one in found])
    return [_tried(one, *before[one.trial_id]) for one in found if len(before[one.trial_id]) == 1]


def _counts(one: Finding, window: Window) -> bool:
    # A cosine is no share: what is the same by it, only whoever made the function knows.
    return one.ended_at < window.until and not one.judge.startswith("embedding:")


def _before(conn: Connection, trial_ids: Sequence[UUID]) -> dict[UUID, list[str]]:
    """Return the models that the turns of each trial had asked; none where lines are gone."""
    asked = (
        select(trial_lines.c.trial_id, sessions.c.provider, sessions.c.model)
        .join(sessions, sessions.c.id == trial_lines.c.session_id)
        .where(trial_lines.c.trial_id.in_(trial_ids))
        .distinct()
    )
    found: dict[UUID, list[str]] = {one: [] for one in trial_ids}
    for row in conn.execute(asked) if trial_ids else ():
        found[row.trial_id].append(f"{row.provider}/{row.model}")
    return found


def _tried(one: Finding, before: str) -> Tried:
    shown = one.summary
    return Tried(
        name=one.name,
        before=before,
        after=f"{one.provider}/{one.model}",
        settings=one.settings,
        template=one.template,
        asked=shown.asked,
        failed=shown.failed,
        agreement=shown.agreement,
        cost_usd=shown.cost_usd,
        at_once=shown.latency_ms.n,
    )
