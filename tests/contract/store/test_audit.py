"""The audit log: who did what to whose data, written once, and chained."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection, delete, insert, select, text, update

from turnmill.domain.auditing import Action
from turnmill.store.audit_records import FIRST, AuditCheck, AuditHead, hash_of, pseudonym_of
from turnmill.store.database import Database
from turnmill.store.nouns.audit import audited, audited_erasure
from turnmill.store.nouns.audit_chain import chain, head, purge, verify
from turnmill.store.nouns.audit_entries import find
from turnmill.store.nouns.audit_looking import head_of
from turnmill.store.schema.audit_tables import audit_heads, audit_log, audit_subjects
from turnmill.store.types import db_after

MONTHS = timedelta(days=100)


def write(store: Database, *users: str | None, action: Action = Action.CONTENT_READ) -> None:
    for user in users:
        with store.begin() as conn:
            audited(conn, action, actor="os:eve", user_id=user, figures={"messages": 2})


def subjects(conn: Connection) -> list[str | None]:
    return list(conn.scalars(select(audit_log.c.subject).order_by(audit_log.c.id)))


def closed(store: Database) -> AuditHead:
    """Close groups until nothing is open, and return the head."""
    while store.run(chain):
        pass
    found = store.run(head)
    assert found is not None
    return found


def checked(store: Database, checkpoint: AuditHead | None = None) -> AuditCheck:
    wanted = None if checkpoint is None else (checkpoint.n, checkpoint.hash)
    return store.run(verify, checkpoint=wanted)


@contextmanager
def unguarded(store: Database) -> Iterator[Connection]:
    """Be somebody who may do anything, as a superuser may."""
    with store.begin() as conn:
        if store.is_postgres:
            conn.execute(text("SET LOCAL session_replication_role = replica"))
        yield conn


def test_a_user_has_one_pseudonym_which_only_its_key_makes(store: Database) -> None:
    write(store, "ada", "bob", "ada", None)
    with store.begin() as conn:
        ada, bob, again, nobody = subjects(conn)
        assert ada == again != bob
        assert nobody is None
        key = conn.scalar(select(audit_subjects.c.key).where(audit_subjects.c.user_id == "ada"))
    assert key is not None
    assert pseudonym_of("ada", key=key) == ada


def test_after_an_erasure_nothing_tells_whose_a_pseudonym_was_and_the_chain_holds(
    store: Database,
) -> None:
    write(store, "ada", "bob")
    before = closed(store)
    with store.begin() as conn:
        audited_erasure(conn, actor="os:eve", user_id="ada", figures={"sessions": 3})
    with store.begin() as conn:
        ada, _, erased = subjects(conn)
        assert ada == erased
        assert list(conn.scalars(select(audit_subjects.c.user_id))) == ["bob"]
        assert find(conn, user_id="ada") == []
        assert [one.user_id for one in find(conn)] == [None, "bob", None]
    closed(store)
    assert checked(store, before).ok


def test_a_deed_that_is_rolled_back_is_not_written_down(store: Database) -> None:
    def done_half(conn: Connection) -> None:
        audited(conn, Action.USER_EXPORTED, actor="os:eve", user_id="ada")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.run(done_half)
    write(store, "bob")
    with store.begin() as conn:
        assert len(subjects(conn)) == 1


def test_what_nobody_touched_is_whole_in_the_chain_and_before_it(store: Database) -> None:
    assert checked(store) == AuditCheck(
        rows=0, groups=0, purged=0, unchained=0, head=None, broken=()
    )
    write(store, "ada", "bob", None)
    first = closed(store)
    write(store, "cy", "ada")
    second = closed(store)
    write(store, "bob")
    found = checked(store, first)
    assert (found.ok, found.rows, found.groups, found.unchained) == (True, 6, 2, 1)
    assert found.head == second
    assert store.run(chain) == 1
    assert store.run(chain) == 0


def drop(n: int) -> Callable[[Connection], object]:
    return lambda conn: conn.execute(delete(audit_log).where(audit_log.c.id == _id(conn, n)))


def edit(n: int, **values: object) -> Callable[[Connection], object]:
    return lambda conn: conn.execute(
        update(audit_log).where(audit_log.c.id == _id(conn, n)).values(values)
    )


def swap(conn: Connection) -> None:
    """Let the second and the third row change places."""
    two, three = _id(conn, 1), _id(conn, 2)
    for before, after in ((two, 10_000), (three, two), (10_000, three)):
        conn.execute(update(audit_log).where(audit_log.c.id == before).values(id=after))


def put_in(conn: Connection) -> None:
    """Put in a row before the last one, made as ours are."""
    row = dict(conn.execute(select(audit_log).where(audit_log.c.id == _id(conn, 1))).one()._mapping)
    conn.execute(delete(audit_log).where(audit_log.c.id == row["id"]))
    conn.execute(insert(audit_log).values(row | {"id": row["id"], "actor": "os:mallory"}))


def _id(conn: Connection, n: int) -> int:
    """Return the id of the row of this number, from 0 on."""
    return int(list(conn.scalars(select(audit_log.c.id).order_by(audit_log.c.id)))[n])


CHANGED: dict[str, Callable[[Connection], object]] = {
    "the first row is removed": drop(0),
    "a row is removed": drop(2),
    "who did it is edited": edit(1, actor="os:mallory"),
    "when is edited": edit(1, at=db_after(-86_400)),
    "what is edited": edit(1, action="turn.retried"),
    "whose is edited": edit(1, subject=None),
    "which is edited": edit(1, objects={"turn": "another"}),
    "how much is edited": edit(1, figures={"messages": 0}),
    "the login is edited": edit(1, login="somebody"),
    "two rows change places": swap,
    "a row is put in another's place": put_in,
}
IN_CHAIN: dict[str, Callable[[Connection], object]] = {
    "the last row is removed": drop(-1),
    "a group is removed": lambda conn: conn.execute(delete(audit_log)),
    "the first head is removed": lambda conn: conn.execute(
        delete(audit_heads).where(audit_heads.c.n == 1)
    ),
    "a head is edited": lambda conn: conn.execute(
        update(audit_heads).where(audit_heads.c.n == 2).values(rows=7)
    ),
    "a pseudonym is given to somebody else": lambda conn: conn.execute(
        update(audit_subjects).where(audit_subjects.c.user_id == "bob").values(user_id="eve")
    ),
    "whose a pseudonym is is removed": lambda conn: conn.execute(
        delete(audit_subjects).where(audit_subjects.c.user_id == "bob")
    ),
    **CHANGED,
}


def missed(store: Database, changes: Mapping[str, Callable[[Connection], object]]) -> list[str]:
    """Return which of these changes nobody finds, each tried by itself."""
    found = []
    for how, change in changes.items():
        with suppress(_Undone), unguarded(store) as conn:
            change(conn)
            if verify(conn).ok:
                found.append(how)
            raise _Undone
    return found


class _Undone(Exception):
    """Rolls back what was tried."""


def test_whatever_is_changed_in_the_chain_is_found(store: Database) -> None:
    write(store, "ada", "bob", None)
    closed(store)
    write(store, "cy")
    closed(store)
    assert checked(store).ok
    assert missed(store, IN_CHAIN) == []


def test_whatever_is_changed_before_it_is_chained_is_found_too(store: Database) -> None:
    write(store, "ada", "bob", None, "cy")
    assert checked(store).ok
    assert missed(store, CHANGED) == []


def test_whatever_was_changed_before_it_was_chained_is_found_afterwards(store: Database) -> None:
    write(store, "ada", "bob", None, "cy")
    assert missed(store, {how: chained_after(change) for how, change in CHANGED.items()}) == []


def chained_after(change: Callable[[Connection], object]) -> Callable[[Connection], object]:
    def on(conn: Connection) -> None:
        change(conn)
        assert chain(conn)

    return on


def test_a_log_that_was_written_anew_from_end_to_end_is_not_that_of_the_checkpoint(
    store: Database,
) -> None:
    write(store, "ada", "bob")
    exported = closed(store)
    with unguarded(store) as conn:
        for table in (audit_log, audit_heads, audit_subjects):
            conn.execute(delete(table))
    write(store, "bob", "bob")
    closed(store)
    assert checked(store).ok
    assert not checked(store, exported).ok


def test_a_tail_that_was_cut_off_with_its_heads_is_found_against_a_checkpoint_of_later(
    store: Database,
) -> None:
    write(store, "ada", "bob")
    early = closed(store)
    write(store, "cy", "ada")
    late = closed(store)
    with unguarded(store) as conn:
        last = conn.execute(select(audit_heads).where(audit_heads.c.n == 2)).one()
        conn.execute(delete(audit_log).where(audit_log.c.id > _id(conn, 1)))
        conn.execute(delete(audit_heads).where(audit_heads.c.n == last.n))
    assert checked(store, early).ok
    assert not checked(store, late).ok
    # Nor is it made good by others that take their place.
    write(store, "cy", "ada")
    closed(store)
    assert checked(store, early).ok
    assert not checked(store, late).ok


def age(store: Database, n: int) -> None:
    """Let the first groups be a year old, as if they had been closed then."""
    with unguarded(store) as conn:
        old = conn.execute(select(audit_heads).where(audit_heads.c.n <= n)).all()
        assert len(old) == n
        conn.execute(
            update(audit_heads).where(audit_heads.c.n <= n).values(at=db_after(-365 * 86_400))
        )
        _close_anew(conn)


def _close_anew(conn: Connection) -> None:
    before = FIRST
    for row in conn.execute(select(audit_heads).order_by(audit_heads.c.n)).all():
        made = replace(head_of(row), before=before)
        made = replace(made, hash=hash_of(made))
        before = made.hash
        values = {"before": made.before, "hash": made.hash}
        conn.execute(update(audit_heads).where(audit_heads.c.n == made.n).values(values))


def test_rows_go_by_whole_groups_when_their_time_is_over_and_the_chain_holds(
    store: Database,
) -> None:
    write(store, "ada", "bob")
    closed(store)
    write(store, "cy")
    closed(store)
    assert store.run(purge, older_than=MONTHS) == 0
    age(store, 1)
    assert store.run(purge, older_than=MONTHS) == 2
    found = checked(store)
    assert (found.broken, found.purged, found.rows) == ((), 1, 2)
    with store.begin() as conn:
        assert [one.action for one in find(conn)] == [Action.AUDIT_PURGED, Action.CONTENT_READ]
        assert list(conn.scalars(select(audit_subjects.c.user_id))) == ["cy"]
    assert store.run(purge, older_than=MONTHS) == 0
    with unguarded(store) as conn:  # more than it says
        conn.execute(delete(audit_log).where(audit_log.c.action == Action.CONTENT_READ))
    assert not checked(store).ok


def test_a_group_is_not_closed_while_somebody_writes(store: Database) -> None:
    if not store.is_postgres:
        pytest.skip("one writer at a time")
    write(store, "ada")
    with store.begin() as late:
        audited(late, Action.CONTENT_READ, actor="os:eve", user_id="bob")
        write(store, "cy")
        assert store.run(chain) == 0
    assert store.run(chain) == 3
    assert checked(store).ok
