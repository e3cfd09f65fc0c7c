"""Attachments over every store: kept once, counted exactly, used by turns, gone with the last."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import delete, func, select

from tests import rows as rows_of_turns
from turnmill.domain.content import Message, Text
from turnmill.domain.errors import (
    AttachmentNotFound,
    FilesQuotaExceeded,
    FilesUnavailable,
    UserOnHold,
)
from turnmill.domain.ids import SessionId, TurnId
from turnmill.files.folder import Folder
from turnmill.files.port import Found
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.file_records import Attachment, AttachmentId, Reserved, key_of
from turnmill.store.line.accept import accept
from turnmill.store.line.attached import release_turns, use, use_again
from turnmill.store.nouns import attachments as rows
from turnmill.store.nouns import holds, sessions
from turnmill.store.records import NewTurn
from turnmill.store.schema.file_tables import attachments, file_usage
from turnmill.store.schema.tables import sessions as session_rows
from turnmill_worker.process.tidying import Tidying

pytestmark = pytest.mark.usefixtures("sound")

GRACE = timedelta(days=1)
AT_ONCE = timedelta(0)
QUOTA = 1000


def reserve(store: Database, size: int, *, user: str = "ada", quota: int = QUOTA) -> Reserved:
    with store.begin() as conn:
        return rows.reserve(conn, AttachmentId(new_id()), user, most=size, least=size, quota=quota)


def keep(
    store: Database, reserved: Reserved, *, content: str = "a", grace: timedelta = GRACE
) -> Attachment:
    found = Found(sha256=content.ljust(64, "0"), size=reserved.bytes, media_type="image/png")
    with store.begin() as conn:
        return rows.keep(conn, reserved, found, grace=grace)


def kept(
    store: Database, content: str = "a", *, size: int = 10, grace: timedelta = GRACE
) -> Attachment:
    return keep(store, reserve(store, size), content=content, grace=grace)


def held(store: Database, *ids: UUID, session: SessionId | None = None) -> tuple[SessionId, TurnId]:
    """Let a turn hold these, of a new session of ada's or of this one."""
    where = session or rows_of_turns.start(store)
    turn = NewTurn(id=TurnId(new_id()), messages=(Message("user", (Text("look"),)),))
    with store.begin() as conn:
        accept(conn, where, turn)
        use(conn, where, turn.id, ids)
    return where, turn.id


def used(store: Database, user: str = "ada") -> int:
    with store.begin() as conn:
        counted = rows.usage(conn, user)
        told = conn.scalar(
            select(func.sum(attachments.c.size)).where(attachments.c.user_id == user)
        )
    assert counted == (told or 0)
    return counted


def tidying(store: Database, folder: Path) -> Tidying:
    return Tidying(store, Settings(files_url=str(folder)))


def test_a_content_is_kept_once_for_each_user(store: Database) -> None:
    first, second = kept(store), kept(store)
    assert second == first
    other = reserve(store, 10, user="eve")
    assert keep(store, other).id == other.id
    with store.begin() as conn:
        assert rows.known(conn, "ada", first.sha256, grace=GRACE) == first
        assert rows.known(conn, "bob", first.sha256, grace=GRACE) is None
        assert [one.id for one in rows.find(conn, user_id="ada")] == [first.id]


def test_the_quota_is_taken_before_a_byte_is_written_and_given_back(store: Database) -> None:
    reserved = reserve(store, 600)
    with pytest.raises(FilesQuotaExceeded):
        reserve(store, 401)
    assert used(store) == 600
    with store.begin() as conn:
        (owed,) = rows.give_back(conn, reserved)
        rows.forget(conn, owed)
    assert used(store) == 0
    reserve(store, 1000)


def test_of_a_size_that_is_not_known_as_much_is_reserved_as_is_left(store: Database) -> None:
    reserve(store, 900)
    with store.begin() as conn:
        found = rows.reserve(conn, AttachmentId(new_id()), "ada", most=500, least=1, quota=QUOTA)
    assert found.bytes == 100
    with pytest.raises(FilesQuotaExceeded):
        reserve(store, 1)


def test_a_quota_is_exact_under_fifty_uploads_at_once(store: Database) -> None:
    def upload(n: int) -> bool:
        try:
            keep(store, reserve(store, 70), content=f"{n:02}")
        except FilesQuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(upload, range(50)))
    assert sum(done) == QUOTA // 70
    assert used(store) == 70 * (QUOTA // 70)


def test_an_upload_that_was_given_up_does_not_stand_after_all(store: Database) -> None:
    reserved = reserve(store, 10)
    with store.begin() as conn:
        rows.give_back(conn, reserved)
    with pytest.raises(FilesUnavailable):
        keep(store, reserved)


def test_a_turn_holds_only_what_its_user_has(store: Database) -> None:
    mine = kept(store)
    theirs = keep(store, reserve(store, 10, user="eve"), content="b")
    half = reserve(store, 10)
    for wrong in (theirs.id, half.id, new_id()):
        with pytest.raises(AttachmentNotFound):
            held(store, mine.id, wrong)
    held(store, mine.id)


def test_what_is_held_stays_and_goes_with_the_last_session(store: Database, tmp_path: Path) -> None:
    one = kept(store, grace=AT_ONCE)
    first, _ = held(store, one.id)
    second, _ = held(store, one.id)
    for session, left in ((first, 1), (second, 0)):
        tidying(store, tmp_path).tidy()
        with store.begin() as conn:
            sessions.remove(conn, session)
        tidying(store, tmp_path).tidy()
        with store.begin() as conn:
            assert len(rows.find(conn, user_id="ada")) == left
    assert used(store) == 0


def test_what_nobody_holds_goes_when_its_time_has_come(store: Database, tmp_path: Path) -> None:
    lasting, fleeting = kept(store), kept(store, "b", grace=AT_ONCE)
    tidying(store, tmp_path).tidy()
    with store.begin() as conn:
        assert [one.id for one in rows.find(conn, user_id="ada")] == [lasting.id]
        assert rows.known(conn, "ada", fleeting.sha256, grace=GRACE) is None
    assert used(store) == 10


def test_putting_it_again_gives_a_file_its_time_anew(store: Database, tmp_path: Path) -> None:
    one = kept(store, grace=AT_ONCE)
    with store.begin() as conn:
        rows.known(conn, "ada", one.sha256, grace=GRACE)
    tidying(store, tmp_path).tidy()
    with store.begin() as conn:
        assert rows.get(conn, one.id) == one


def test_a_session_that_was_removed_by_hand_lets_its_files_go(
    store: Database, tmp_path: Path
) -> None:
    one = kept(store)
    session, _ = held(store, one.id)
    with store.begin() as conn:
        conn.execute(delete(session_rows).where(session_rows.c.id == session))
    tidying(store, tmp_path).sweep()
    assert used(store) == 0


def test_what_is_deleted_is_gone_for_everybody_and_its_content_can_be_kept_anew(
    store: Database, tmp_path: Path
) -> None:
    one = kept(store)
    held(store, one.id)
    with store.begin() as conn:
        rows.remove(conn, one.id)
    again = kept(store)
    assert again.id != one.id
    tidying(store, tmp_path).tidy()
    with store.begin() as conn:
        assert rows.kept_among(conn, [one.id, again.id]) == {again.id: again}
    with pytest.raises(AttachmentNotFound), store.begin() as conn:
        rows.remove(conn, one.id)
    assert used(store) == 10


def test_a_turn_that_is_said_again_holds_the_same_files(store: Database) -> None:
    one = kept(store)
    session, turn = held(store, one.id)
    again = rows_of_turns.send(store, session)
    with store.begin() as conn:
        use_again(conn, turn, session, again)
        release_turns(conn, [turn])
        assert rows.mark_due(conn) == 1
        assert rows.get(conn, one.id) == one


def test_all_files_of_a_user_go_with_him(store: Database, tmp_path: Path) -> None:
    kept(store), held(store, kept(store, "b").id), reserve(store, 10)
    other = keep(store, reserve(store, 10, user="eve"))
    with store.begin() as conn:
        rows.remove_of_user(conn, "ada")
    tidying(store, tmp_path).tidy()
    assert used(store) == 0
    with store.begin() as conn:
        assert rows.find(conn, user_id=None) == [other]
        assert conn.scalars(select(file_usage.c.user_id)).all() == ["eve"]


def test_bytes_that_no_row_knows_are_found_and_only_those_of_our_keys(
    store: Database, tmp_path: Path
) -> None:
    folder = Folder(tmp_path)
    mine, stray = kept(store), new_id()
    known, unknown = key_of("ada", mine.id), key_of("ada", stray)
    for key in (known, unknown, f"{known}.{stray.hex}.part"):
        folder.put(key, [b"x"])
    (tmp_path / "somebody").mkdir()
    (tmp_path / "somebody" / "else").write_bytes(b"x")
    tidying(store, tmp_path).sweep()
    assert len(list(folder.keys())) == 3, "what was written a moment ago is spared"
    for path in tmp_path.rglob("*"):
        os.utime(path, (0, 0))
    tidying(store, tmp_path).sweep()
    left = folder.keys()
    assert [one.key for one in left] == [known]
    assert (tmp_path / "somebody" / "else").exists()


def test_no_file_of_a_user_on_hold_goes(store: Database, tmp_path: Path) -> None:
    sent, unsent = kept(store), kept(store, "b", grace=AT_ONCE)
    held(store, sent.id)
    with store.begin() as conn:
        holds.hold(conn, "ada", "case 7")
    for one in (sent, unsent):
        with pytest.raises(UserOnHold), store.begin() as conn:
            rows.remove(conn, one.id)
    tidying(store, tmp_path).tidy()
    with store.begin() as conn:
        assert rows.kept_among(conn, [sent.id, unsent.id]).keys() == {sent.id, unsent.id}
        holds.release(conn, "ada")
    tidying(store, tmp_path).tidy()
    with store.begin() as conn:
        assert rows.kept_among(conn, [sent.id, unsent.id]).keys() == {sent.id}
        assert rows.remove(conn, sent.id)
