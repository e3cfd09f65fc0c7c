"""What an event of an alert or a report says in words, for who asked for words."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from turnmill.domain.analytics.alert_bounds import Rule
from turnmill.domain.analytics.alert_words import sentence
from turnmill.domain.states import EventKind
from turnmill.store.schema.alert_tables import alerts, reports

OF_ALERTS = frozenset({EventKind.ALERT_OPENED.value, EventKind.ALERT_CLOSED.value})


def words_of(conn: Connection, kind: str, of: UUID) -> dict[str, Any] | None:
    """Return the sentence of an alert, or the first figures of a report; None: it is gone."""
    if kind in OF_ALERTS:
        row = conn.execute(select(alerts).where(alerts.c.id == of)).one_or_none()
        return None if row is None else _of_alert(row, kind)
    row = conn.execute(select(reports).where(reports.c.id == of)).one_or_none()
    if row is None:
        return None
    when = {"since": row.since.isoformat(), "until": row.until.isoformat(), "zone": row.zone}
    return {**when, "file": row.file, **row.summary}


def _of_alert(row: Any, kind: str) -> dict[str, Any]:
    value = row.value if kind == EventKind.ALERT_CLOSED.value else row.worst
    return {
        "text": sentence(Rule(row.rule), row.subject, value=value, usual=row.usual),
        "rule": row.rule,
        "subject": row.subject,
        "value": value,
        "usual": row.usual,
        "bound": row.bound,
    }
