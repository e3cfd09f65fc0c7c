"""Reports that were made: one row for a window, and one event that tells of it."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, insert, select

from turnmill.domain.analytics.report_data import ReportData
from turnmill.domain.analytics.windows import Window
from turnmill.domain.states import EventKind
from turnmill.new_ids import new_id
from turnmill.store.rules.happenings import NOBODY
from turnmill.store.rules.wanted import is_wanted
from turnmill.store.schema.alert_tables import reports
from turnmill.store.schema.event_tables import events
from turnmill.store.types import db_after, insert_into


def is_made(conn: Connection, window: Window, zone: str) -> bool:
    """Tell whether it was made already."""
    c = reports.c
    found = select(c.id).where(c.since == window.since, c.until == window.until, c.zone == zone)
    return conn.execute(found).first() is not None


def note(conn: Connection, data: ReportData, *, file: str | None) -> UUID | None:
    """Note that it was made, and tell who wants to hear of it; None: somebody has done so before.

    In the caller's transaction.
    """
    row = conn.execute(
        insert_into(conn, reports)
        .values(
            id=new_id(),
            since=data.since,
            until=data.until,
            zone=data.zone,
            file=file,
            summary=summary_of(data),
        )
        .on_conflict_do_nothing()
        .returning(reports.c.id)
    ).one_or_none()
    if row is None:
        return None
    if is_wanted(conn, EventKind.REPORT_MADE):
        told = {"session_id": row.id, "n": 1, "turn_id": NOBODY}
        conn.execute(insert(events).values(**told, kind=EventKind.REPORT_MADE.value))
    found: UUID = row.id
    return found


def summary_of(data: ReportData) -> dict[str, Any]:
    """Return the first figures, and those of before: no names."""
    before = data.before
    return {
        "turns": data.now.turns,
        "turns_before": None if before is None else before.turns,
        "cost_usd": format(data.now.cost_usd, "f"),
        "cost_usd_before": None if before is None else format(before.cost_usd, "f"),
        "failure_rate": data.now.failure_rate,
        "failure_rate_before": None if before is None else before.failure_rate,
        "cached_share": data.now.cached_share,
        "anomalies": len(data.anomalies),
        "open_alerts": sum(one.closed_at is None for one in data.alerts),
    }


def purge(conn: Connection, *, older_than: timedelta, limit: int = 5_000) -> int:
    """Forget up to `limit` reports that were made longer ago; return how many. No file is gone."""
    old = reports.c.made_at < db_after(-older_than.total_seconds())
    some = select(reports.c.id).where(old).limit(limit)
    return conn.execute(delete(reports).where(reports.c.id.in_(some))).rowcount
