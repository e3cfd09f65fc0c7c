"""Writing into the audit log: one function for all that is written down there."""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from turnmill.domain.auditing import Action
from turnmill.domain.checks import storable
from turnmill.store.audit_records import AuditEntry, digest_of, pseudonym_of
from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.schema.audit_tables import audit_heads, audit_log, audit_subjects
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.schema_name import execute
from turnmill.store.types import db_now, insert_into

#: Held shared by whoever writes, until he commits: the chain closes a group when nobody holds it,
#: and so no row comes into a group later. Any number.
WRITERS = 7_211_884_302

_LONGEST = 200

# The lock comes first: an id is drawn under it.
_PLACE = f"""
SELECT pg_advisory_xact_lock_shared({WRITERS}),
    nextval(pg_get_serial_sequence('turnmill.audit_log', 'id')) AS id,
    clock_timestamp() AS at,
    CAST(session_user AS text) AS login,
    (SELECT max(id) FROM turnmill.audit_log) AS after
"""


class _Place(NamedTuple):
    id: int
    at: datetime
    login: str
    after: int | None


def audited(
    conn: Connection,
    action: Action,
    *,
    actor: str,
    user_id: str | None = None,
    objects: Mapping[str, object] | None = None,
    figures: Mapping[str, int | str | bool | None] | None = None,
) -> int:
    """Write down what is done, and return the number of the row.

    In the caller's transaction, with the deed: neither stands without the other. What has effect
    outside of it, an export say, is written down before. `objects` are ids by what they are,
    `figures` counts and codes; neither may hold content, nor a name that somebody chose.
    """
    place = _place(conn)
    entry = AuditEntry(
        **place._asdict(),
        actor=_short(actor),
        action=action.value,
        subject=None if user_id is None else _subject_of(conn, user_id),
        objects={name: _short(str(one)) for name, one in (objects or {}).items()},
        figures=dict(figures or {}),
        digest="",
    )
    entry = replace(entry, digest=digest_of(entry))
    names = [column.name for column in audit_log.columns]
    conn.execute(insert(audit_log).values({name: getattr(entry, name) for name in names}))
    return entry.id


def audited_erasure(
    conn: Connection,
    *,
    actor: str,
    user_id: str,
    figures: Mapping[str, int | str | bool | None] | None = None,
) -> int:
    """Write down that the user was erased, and forget whose his pseudonym is. As `audited`.

    What the log says of him stays, and so does its chain; that it was he, nobody can tell from then
    on. Called again, he gets another pseudonym, which is forgotten as well.
    """
    number = audited(conn, Action.USER_ERASED, actor=actor, user_id=user_id, figures=figures)
    conn.execute(delete(audit_subjects).where(audit_subjects.c.user_id == user_id))
    return number


def owners(
    conn: Connection, kind: Literal["turn", "session"], ids: Collection[Any]
) -> dict[Any, str]:
    """Return whose each of these turns or sessions is; those that are gone are left out."""
    found = select(sessions.c.id, sessions.c.user_id)
    if kind == "turn":
        found = select(turns.c.id, sessions.c.user_id).join(
            sessions, sessions.c.id == turns.c.session_id
        )
    of = turns.c.id if kind == "turn" else sessions.c.id
    rows = conn.execute(found.where(of.in_(list(ids))))
    return {row.id: row.user_id for row in rows}


def _place(conn: Connection) -> _Place:
    if Capability.ROW_LOCKS in capabilities_of(conn):
        row = execute(conn, _PLACE).one()
        return _Place(row.id, row.at, row.login, row.after)
    # One writer at a time: no row of somebody else's has a number by now and comes later.
    last = select(func.max(audit_log.c.id)).scalar_subquery()
    chained = select(func.max(audit_heads.c.last_id)).scalar_subquery()
    after, closed, at = conn.execute(select(last, chained, db_now())).one()
    return _Place(max(after or 0, closed or 0) + 1, at, "", after)


def _subject_of(conn: Connection, user_id: str) -> str:
    known = select(audit_subjects.c.subject).where(audit_subjects.c.user_id == user_id)
    found: str | None = conn.scalar(known)
    if found is None:
        key = secrets.token_hex(32)
        new = {"subject": pseudonym_of(user_id, key=key), "user_id": user_id, "key": key}
        conn.execute(insert_into(conn, audit_subjects).values(new).on_conflict_do_nothing())
        found = conn.scalars(known).one()
    return found


def _short(text: str) -> str:
    return storable(text)[:_LONGEST]
