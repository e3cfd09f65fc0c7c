"""What trials have shown, beside the model that their turns had asked before."""

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
    return [_tried(one, names[0]) for one in found if len(names := _before(conn, one.trial_id)) == 1]


def _counts(one: Finding, window: Window) -> bool:
    # A cosine is no share: what is the same by it, only whoever made the function knows.
    return one.ended_at < window.until and not one.judge.startswith("embedding:")


def _before(conn: Connection, trial_id: UUID) -> list[str]:
    asked = (
        select(sessions.c.provider, sessions.c.model)
        .join(trial_lines, trial_lines.c.session_id == sessions.c.id)
        .where(trial_lines.c.trial_id == trial_id)
        .distinct()
        .limit(2)
    )
    return [f"{row.provider}/{row.model}" for row in conn.execute(asked)]


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
