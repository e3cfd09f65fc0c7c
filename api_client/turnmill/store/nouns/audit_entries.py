"""Rows of the audit log, as they are read."""

from typing import Any

from sqlalchemy import Connection, Row, select

from turnmill.domain.auditing import Action
from turnmill.store.audit_records import AuditEntry
from turnmill.store.readable import read_page
from turnmill.store.schema.audit_tables import audit_log, audit_subjects

#: With whose data it was, where the log knows that yet.
ENTRIES = select(audit_log, audit_subjects.c.user_id).outerjoin(
    audit_subjects, audit_subjects.c.subject == audit_log.c.subject
)


def find(
    conn: Connection,
    *,
    user_id: str | None = None,
    action: Action | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[AuditEntry]:
    """Return up to `limit` rows, newest first; `before` is the last id of the page before."""
    query = ENTRIES
    if user_id is not None:
        query = query.where(audit_subjects.c.user_id == user_id)
    if action is not None:
        query = query.where(audit_log.c.action == action.value)
    if before is not None:
        query = query.where(audit_log.c.id < before)
    return read_page(conn, query, entry, by=audit_log.c.id, limit=limit)


def entry(row: Row[Any]) -> AuditEntry:
    """Return the record."""
    return AuditEntry(**{name: getattr(row, name) for name in AuditEntry.__dataclass_fields__})
