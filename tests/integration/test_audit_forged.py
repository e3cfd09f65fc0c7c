"""Whoever may write into the audit log writes at his own time, in his own place: nowhere else."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection, func, insert, select, text

from turnmill import AccessDenied
from turnmill.domain.auditing import Action
from turnmill.store.audit_records import FIRST, AuditEntry, AuditHead, digest_of, hash_of
from turnmill.store.database import Database
from turnmill.store.nouns.audit import audited
from turnmill.store.nouns.audit_chain import chain, head, verify
from turnmill.store.schema.audit_tables import audit_heads, audit_log
from turnmill.store.types import db_after

MONTHS = timedelta(days=31)


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    store = Database(database_url)
    with store.begin() as conn:
        audited(conn, Action.USER_EXPORTED, actor="os:eve", user_id="ada")
    yield store
    store.close()


def put(conn: Connection, made: AuditEntry | AuditHead) -> None:
    table = audit_log if isinstance(made, AuditEntry) else audit_heads
    conn.execute(insert(table).values({c.name: getattr(made, c.name) for c in table.columns}))


def group_of(conn: Connection, age: timedelta) -> AuditHead:
    """Return a head that closes all there is, as it would have been made so long ago."""
    last, n = head(conn), conn.scalar(select(func.count()).select_from(audit_log))
    made = AuditHead(
        n=last.n + 1 if last else 1,
        last_id=conn.scalars(select(func.max(audit_log.c.id))).one(),
        rows=n or 0,
        rows_digest="",
        before=last.hash if last else FIRST,
        at=conn.scalars(select(db_after(-age.total_seconds()))).one(),
        hash="",
    )
    return replace(made, hash=hash_of(made))


def row_of(conn: Connection, *, number: int, later: timedelta = timedelta(0)) -> AuditEntry:
    """Return a row that fits in all but its place and its time."""
    made = AuditEntry(
        id=number,
        at=conn.scalars(select(db_after(later.total_seconds()))).one(),
        actor="upkeep",
        login=conn.scalars(text("SELECT session_user")).one(),
        action=Action.AUDIT_PURGED,
        subject=None,
        objects={},
        figures={"upto": 1},
        after=conn.scalar(select(func.max(audit_log.c.id))),
        digest="",
    )
    return replace(made, digest=digest_of(made))


def drawn(conn: Connection) -> int:
    """Return the next number, as whoever writes a row draws it."""
    return int(conn.scalars(text("SELECT nextval('turnmill.audit_log_id_seq')")).one())


def purge_all(conn: Connection) -> None:
    """Close a group as if that was long ago, and have its rows purged."""
    forged = group_of(conn, MONTHS)
    put(conn, forged)
    conn.execute(text("SELECT turnmill.audit_purge(:upto)"), {"upto": forged.last_id})


def test_a_group_that_is_dated_back_to_have_its_rows_purged_is_refused(store: Database) -> None:
    with pytest.raises(AccessDenied):
        store.run(purge_all)
    with store.begin() as conn:
        assert conn.scalar(select(func.count()).select_from(audit_log)) == 1
        assert verify(conn).ok


@pytest.mark.parametrize("later", [MONTHS, -MONTHS])
def test_a_row_that_is_dated_otherwise_than_now_is_refused(
    store: Database, later: timedelta
) -> None:
    with pytest.raises(AccessDenied):
        store.run(lambda conn: put(conn, row_of(conn, number=drawn(conn), later=later)))


# Before all others; or so that none after it comes into a group.
@pytest.mark.parametrize("number", [0, 2**63 - 1])
@pytest.mark.parametrize("draws", [True, False])
def test_a_row_whose_number_was_not_drawn_is_refused(
    store: Database, number: int, draws: bool
) -> None:
    def put_in(conn: Connection) -> None:
        if draws:
            drawn(conn)
        put(conn, row_of(conn, number=number))

    with pytest.raises(AccessDenied):
        store.run(put_in)
    with store.begin() as conn:
        assert chain(conn) == 1
        assert verify(conn).ok
