"""Copies of attachments at vendors: noted before they are made, and gone with their session."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from tests import rows, steps
from turnmill.domain.ids import SessionId
from turnmill.domain.uploads import IN_FLIGHT
from turnmill.store import kept
from turnmill.store.database import Database
from turnmill.store.line import uploads
from turnmill.store.nouns import sessions
from turnmill.store.records import Claim
from turnmill.store.schema.kept_tables import kept_refs

pytestmark = pytest.mark.usefixtures("sound")


def claimed(store: Database, session: SessionId | None = None) -> Claim:
    session = session or rows.start(store)
    return steps.take_one(store, steps.send(store, session, "What is this?").turn_id)


def begin(store: Database, claim: Claim, name: str = "n1", attachment: str = "cat") -> bool:
    with store.begin() as conn:
        return uploads.begin(conn, claim, attachment, name)


def keep(
    store: Database,
    claim: Claim,
    name: str = "n1",
    ref: str = "file-1",
    *,
    attachment: str = "cat",
    expires_at: datetime | None = None,
) -> bool:
    with store.begin() as conn:
        return uploads.keep(conn, claim, attachment, name, ref=ref, expires_at=expires_at)


def uploaded(store: Database, claim: Claim, *ids: str) -> dict[str, str]:
    with store.begin() as conn:
        return uploads.uploaded(conn, claim, ids or ("cat",))


def due(store: Database) -> list[str]:
    """Return what is given up now, and take it."""
    with store.begin() as conn:
        return sorted(one.ref for one in kept.take_due(conn, again_after=timedelta(hours=1)))


def refs(store: Database) -> list[str]:
    with store.begin() as conn:
        return sorted(conn.scalars(select(kept_refs.c.ref)))


def test_a_copy_is_known_to_its_session_as_soon_as_its_upload_has_ended(store: Database) -> None:
    claim = claimed(store)
    assert begin(store, claim)
    assert (uploaded(store, claim), refs(store)) == ({}, [f"{IN_FLIGHT}n1"])
    assert keep(store, claim)
    assert (uploaded(store, claim), refs(store)) == ({"cat": "file-1"}, ["file-1"])
    assert uploaded(store, claimed(store)) == {}
    assert due(store) == []


def test_one_that_expires_soon_is_not_used_any_more(store: Database) -> None:
    claim = claimed(store)
    now = datetime.now(UTC)
    for name, left in (("n1", timedelta(minutes=59)), ("n2", timedelta(days=30))):
        begin(store, claim, name, name)
        keep(store, claim, name, f"file-{name}", attachment=name, expires_at=now + left)
    assert uploaded(store, claim, "n1", "n2") == {"n2": "file-n2"}


def test_an_upload_that_nobody_ended_is_looked_for_by_the_next_attempt(store: Database) -> None:
    claim = claimed(store)
    begin(store, claim)
    assert due(store) == []
    steps.lose(store, claim.turn_id)
    later = steps.take_one(store, claim.turn_id)
    assert not begin(store, claim, "n2")
    assert begin(store, later, "n3")
    assert due(store) == [f"{IN_FLIGHT}n1"]


def test_an_upload_that_nobody_ended_is_looked_for_in_the_end(store: Database) -> None:
    claim = claimed(store)
    begin(store, claim)
    with store.begin() as conn:
        conn.execute(update(kept_refs).values(due_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert due(store) == [f"{IN_FLIGHT}n1"]


def test_one_whose_session_has_ended_meanwhile_is_given_up(store: Database) -> None:
    claim = claimed(store)
    begin(store, claim)
    steps.end(store, claim)
    with store.begin() as conn:
        sessions.archive(conn, claim.session_id)
    assert due(store) == [f"{IN_FLIGHT}n1"]
    assert not keep(store, claim)
    assert due(store) == ["file-1"]


def test_one_that_was_given_up_meanwhile_is_deleted_whatever_was_found(store: Database) -> None:
    claim = claimed(store)
    begin(store, claim)
    with store.begin() as conn:
        uploads.give_up_copies(conn, ["cat"])
    (one,) = due(store)
    with store.begin() as conn:
        uploads.drop(conn, claim, one.removeprefix(IN_FLIGHT))
    assert not keep(store, claim)
    assert due(store) == ["file-1"]


def test_copies_go_with_their_attachment_and_with_their_session(store: Database) -> None:
    claim = claimed(store)
    for name in ("cat", "dog"):
        begin(store, claim, name, name)
        keep(store, claim, name, f"file-{name}", attachment=name)
    with store.begin() as conn:
        assert uploads.give_up_copies(conn, ["cat", "bird"]) == 1
    assert due(store) == ["file-cat"]
    assert uploaded(store, claim, "cat", "dog") == {"dog": "file-dog"}
    steps.end(store, claim)
    with store.begin() as conn:
        sessions.archive(conn, claim.session_id)
    assert due(store) == ["file-dog"]


def test_a_file_that_is_lost_is_not_named_again(store: Database) -> None:
    claim = claimed(store)
    begin(store, claim)
    keep(store, claim)
    with store.begin() as conn:
        uploads.lose(conn, claim, ["file-1"])
    assert uploaded(store, claim) == {}
    begin(store, claim, "n2")
    assert keep(store, claim, "n2", "file-2")
    assert (uploaded(store, claim), due(store)) == ({"cat": "file-2"}, ["file-1"])
