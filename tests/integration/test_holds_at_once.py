"""A hold that comes while something of the user's is being deleted stands once that has gone."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, select

from tests import rows
from tests.crowd import is_blocked
from turnmill.domain.ids import SessionId
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.deletion_records import Hold
from turnmill.store.nouns import attachments, holds, sessions
from turnmill.store.schema.file_tables import attachments as attachment_rows
from turnmill.store.upkeep.content_retention import empty_content
from turnmill.store.upkeep.retention import purge_archived
from turnmill_worker.stack.process import wait_until

DAY = timedelta(days=1)
OLD = datetime.now(UTC) - 40 * DAY
_SOON = timedelta(seconds=20)


def an_old_file(conn: Connection) -> None:
    conn.execute(
        attachment_rows.insert().values(
            id=new_id(),
            user_id="ada",
            name="a.txt",
            media_type="text/plain",
            size=1,
            sha256="a" * 64,
            ready=True,
            due_at=OLD,
        )
    )


def deleted(conn: Connection, session: SessionId) -> None:
    sessions.remove(conn, session)


def purged(conn: Connection, _: SessionId) -> None:
    assert purge_archived(conn, older_than=30 * DAY) == 1


def emptied(conn: Connection, session: SessionId) -> None:
    assert empty_content(conn, session, default=30 * DAY).turns == 1


def file_deleted(conn: Connection, _: SessionId) -> None:
    attachments.remove(conn, conn.scalars(select(attachment_rows.c.id)).one())


def file_purged(conn: Connection, _: SessionId) -> None:
    assert attachments.mark_due(conn) == 1


@pytest.mark.parametrize("delete", [deleted, purged, emptied, file_deleted, file_purged])
def test_a_hold_is_not_told_to_stand_while_something_is_being_deleted(
    database: Database, delete: Callable[[Connection, SessionId], None]
) -> None:
    rows.start(database, user_id="ada")
    old = rows.start(database, user_id="ada")
    turn = rows.send(database, old)
    rows.run(database, turn)
    rows.ended_at(database, turn, OLD)
    rows.set_session(database, old, created_at=OLD)
    if delete is purged:
        rows.set_session(database, old, archived_at=OLD, status="archived")
    with database.begin() as conn:
        an_old_file(conn)

    def hold() -> Hold:
        with database.begin() as conn:
            return holds.hold(conn, "ada", "case 7")

    with ThreadPoolExecutor(1) as pool:
        with database.begin() as conn:
            delete(conn, old)
            told: Future[Hold] = pool.submit(hold)
            assert wait_until(lambda: told.done() or is_blocked(database), timeout=_SOON)
            assert not told.done()
        assert told.result(timeout=60).user_id == "ada"
