"""The chain of the audit log: groups are closed, verified, and go when their time is over."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from turnmill.domain.auditing import Action
from turnmill.store.audit_records import FIRST, AuditCheck, AuditHead, hash_of, rows_digest_of
from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.nouns.audit import WRITERS, audited
from turnmill.store.nouns.audit_looking import Looking, head_of
from turnmill.store.schema.audit_tables import audit_heads, audit_log, audit_subjects
from turnmill.store.schema_name import execute
from turnmill.store.types import db_asof_after, db_now

#: Held by whoever closes groups or removes them, and shared by whoever looks at all of them.
_CHAIN = 7_211_884_303
#: Rows of one group.
_MOST = 1000


def chain(conn: Connection) -> int:
    """Close a group of up to 1,000 rows that are not in the chain yet; return how many.

    0, too, while somebody writes: rows of a transaction that is not over would come into the group
    later. In the caller's transaction, which should be short.
    """
    if not _have(conn, _CHAIN) or not _have(conn, WRITERS):
        return 0
    last = head(conn)
    open_rows = select(audit_log.c.id, audit_log.c.digest).order_by(audit_log.c.id).limit(_MOST)
    rows = conn.execute(
        open_rows.where(audit_log.c.id > (0 if last is None else last.last_id))
    ).all()
    if not rows:
        return 0
    at: datetime = conn.scalars(select(db_now())).one()
    made = _closed(last, rows, at)
    names = [column.name for column in audit_heads.columns]
    conn.execute(insert(audit_heads).values({name: getattr(made, name) for name in names}))
    return len(rows)


def head(conn: Connection) -> AuditHead | None:
    """Return the head of the chain; None before the first group is closed."""
    newest = select(audit_heads).order_by(audit_heads.c.n.desc()).limit(1)
    row = conn.execute(newest).first()
    return None if row is None else head_of(row)


def verify(conn: Connection, *, checkpoint: tuple[int, str] | None = None) -> AuditCheck:
    """Look at every row and every group, one after the other.

    `checkpoint` is the number and the hash of a head that was exported: what was written anew from
    one end to the other has another one.
    """
    if Capability.ROW_LOCKS in capabilities_of(conn):
        execute(conn, f"SELECT pg_advisory_xact_lock_shared({_CHAIN})")
    looking = Looking(conn)
    looking.at_groups()
    looking.at_open_rows()
    looking.at_gaps()
    looking.at_purged()
    looking.at_subjects()
    if checkpoint is not None:
        looking.at_checkpoint(*checkpoint)
    return looking.found()


def purge(conn: Connection, *, older_than: timedelta, actor: str = "upkeep") -> int:
    """Remove rows of groups that were closed before that; return how many.

    Their heads stay, and a row of the log says up to where they went. Postgres refuses it for
    groups of the last 30 days.
    """
    old = audit_heads.c.at < db_asof_after(-older_than.total_seconds())
    last_id = conn.scalar(select(func.max(audit_heads.c.last_id)).where(old))
    first = conn.scalar(select(func.min(audit_log.c.id)))
    if last_id is None or first is None or first > last_id:
        return 0
    if not _have(conn, _CHAIN) or not _have(conn, WRITERS):
        return 0
    audited(conn, Action.AUDIT_PURGED, actor=actor, figures={"upto": last_id})
    if Capability.ROW_LOCKS in capabilities_of(conn):
        asked = "SELECT turnmill.audit_purge(%(upto)s::bigint)"
        gone = int(execute(conn, asked, {"upto": last_id}).scalar_one())
    else:
        gone = conn.execute(delete(audit_log).where(audit_log.c.id <= last_id)).rowcount
    named = select(audit_log.c.subject).where(audit_log.c.subject == audit_subjects.c.subject)
    conn.execute(delete(audit_subjects).where(~named.exists()))
    return gone


def _closed(last: AuditHead | None, rows: Sequence[Any], at: datetime) -> AuditHead:
    made = AuditHead(
        n=1 if last is None else last.n + 1,
        last_id=rows[-1].id,
        rows=len(rows),
        rows_digest=rows_digest_of([row.digest for row in rows]),
        before=FIRST if last is None else last.hash,
        at=at,
        hash="",
    )
    return replace(made, hash=hash_of(made))


def _have(conn: Connection, lock: int) -> bool:
    """Tell whether nobody else has the lock, which is this transaction's then."""
    if Capability.ROW_LOCKS not in capabilities_of(conn):
        return True
    return bool(execute(conn, f"SELECT pg_try_advisory_xact_lock({lock})").scalar_one())
