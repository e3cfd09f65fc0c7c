"""A check of alerts: which figures are beyond their bounds."""

from __future__ import annotations

from turnmill.cli.doctor.findings import Examination, Findings, note, ok
from turnmill.show.wording import moment_text

_SHOWN = 10


def check_alerts(examination: Examination) -> Findings:
    """Alerts that are open. They are about figures: none of them says that anything is broken."""
    from turnmill.domain.analytics.alert_words import sentence
    from turnmill.store.analytics.alerts import find

    if examination.database is None:
        return
    with examination.database.single() as conn:
        found = find(conn, limit=_SHOWN)
    for one in found:
        said = sentence(one.rule, one.subject, value=one.worst, usual=one.usual)
        yield note(
            f"{said}; since {moment_text(one.opened_at)[:16]}",
            "turnmill analytics alerts; turnmill analytics report --since 24h --html report.html",
            code=f"alert_{one.rule.value}",
        )
    if not found:
        yield ok("no alert is open")
