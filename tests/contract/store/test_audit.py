"""The audit log: who did what to whose data, written once, and chained."""

import pytest
from sqlalchemy import Connection, select

from turnmill.domain.auditing import Action
from turnmill.store.audit_records import pseudonym_of
from turnmill.store.database import Database
from turnmill.store.nouns.audit import audited, audited_erasure
from turnmill.store.schema.audit_tables import audit_log, audit_subjects


def write(store: Database, *users: str | None, action: Action = Action.CONTENT_READ) -> None:
    for user in users:
        with store.begin() as conn:
            audited(conn, action, actor="os:eve", user_id=user, figures={"messages": 2})


def subjects(conn: Connection) -> list[str | None]:
    return list(conn.scalars(select(audit_log.c.subject).order_by(audit_log.c.id)))


def test_a_user_has_one_pseudonym_which_only_its_key_makes(store: Database) -> None:
    write(store, "ada", "bob", "ada", None)
    with store.begin() as conn:
        ada, bob, again, nobody = subjects(conn)
        assert ada == again != bob
        assert nobody is None
        key = conn.scalar(select(audit_subjects.c.key).where(audit_subjects.c.user_id == "ada"))
    assert key is not None
    assert pseudonym_of("ada", key=key) == ada


def test_after_an_erasure_nothing_tells_whose_a_pseudonym_was(store: Database) -> None:
    write(store, "ada", "bob")
    with store.begin() as conn:
        audited_erasure(conn, actor="os:eve", user_id="ada", figures={"sessions": 3})
    with store.begin() as conn:
        ada, _, erased = subjects(conn)
        assert ada == erased
        assert list(conn.scalars(select(audit_subjects.c.user_id))) == ["bob"]


def test_a_deed_that_is_rolled_back_is_not_written_down(store: Database) -> None:
    def done_half(conn: Connection) -> None:
        audited(conn, Action.USER_EXPORTED, actor="os:eve", user_id="ada")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.run(done_half)
    write(store, "bob")
    with store.begin() as conn:
        assert len(subjects(conn)) == 1
