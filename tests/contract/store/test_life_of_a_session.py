"""What becomes of sessions: restored, moved, forked, changed by version, deleted whole."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from tests import rows, steps
from turnmill.domain.content import Image, Message
from turnmill.domain.errors import (
    InvalidInput,
    MoveRefused,
    SessionArchived,
    SessionNotFound,
    TurnNotFound,
    VersionConflict,
)
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Running, SessionStatus, TurnState
from turnmill.new_ids import new_id
from turnmill.store import kept
from turnmill.store.codec import content_of
from turnmill.store.database import Database
from turnmill.store.deletion_records import DeletionReport, Gone
from turnmill.store.line.attached import use
from turnmill.store.line.due import purge_deleted
from turnmill.store.nouns import deletions, forks, holds, lifecycle, sessions, turns
from turnmill.store.records import Fenced, NewSession, SessionRecord
from turnmill.store.schema.belongings import BELONGINGS, Goes
from turnmill.store.schema.file_tables import attachment_uses, attachments
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.schema.tables import messages
from turnmill.store.upkeep import retention as upkeep

pytestmark = pytest.mark.usefixtures("sound")

DAY = timedelta(days=1)


def said(store: Database, session: SessionId, text: str, **options: Any) -> TurnId:
    """Have a turn answered."""
    turn = steps.send(store, session, text).turn_id
    steps.end(store, steps.take_one(store, turn), **options)
    return turn


def history(store: Database, session: SessionId) -> list[tuple[int, str, str]]:
    with store.begin() as conn:
        return [(one.seq, one.role, one.text) for one in sessions.history(conn, session)]


def read(store: Database, session: SessionId) -> SessionRecord:
    with store.begin() as conn:
        return sessions.get(conn, session)


def report(store: Database, session: SessionId) -> DeletionReport:
    with store.begin() as conn:
        return deletions.report_of(conn, session)


def fork(store: Database, source: SessionId, at: TurnId | None = None) -> SessionId:
    new = NewSession(id=SessionId(new_id()), user_id="ada", provider="mock", model="mock")
    with store.begin() as conn:
        return forks.fork(conn, new, source, at=at).id


def rows_left(store: Database, session: SessionId) -> dict[str, int]:
    """Return the tables that still have a row of the session's, but for ids that are needed."""
    with store.begin() as conn:
        counts = {
            one.table.name: conn.scalar(
                select(func.count()).select_from(one.table).where(one.of_sessions([session]))
            )
            for one in BELONGINGS
            if (one.session is not None or one.turn is not None)
            and one.goes in (Goes.BY_KEY, Goes.BY_NAME)
        }
    return {name: count for name, count in counts.items() if count}


def test_a_restored_session_takes_messages_and_stands_on_no_thread(store: Database) -> None:
    session = rows.start(store)
    said(store, session, "first", provider_ref="resp_1")
    with store.begin() as conn:
        sessions.archive(conn, session)
    with pytest.raises(SessionArchived):
        steps.send(store, session)
    with store.begin() as conn:
        assert lifecycle.restore(conn, session).archived_at is None
        assert lifecycle.restore(conn, session).status is SessionStatus.ACTIVE
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    assert claim.provider_ref == ""
    assert [one.text for one in claim.history or ()] == ["first", "answer to first"]
    steps.end(store, claim, provider_ref="resp_2")
    with store.begin() as conn:
        due = kept.take_due(conn, again_after=DAY)
    assert [one.ref for one in due] == ["resp_1"]


def test_a_restored_session_is_not_idle_at_once(store: Database) -> None:
    session = rows.start(store)
    with store.begin() as conn:
        rows.age(conn, session, 40 * DAY)
        assert upkeep.archive_idle(conn, default_ttl=30 * DAY) == 1
    with store.begin() as conn:
        lifecycle.restore(conn, session)
        assert upkeep.archive_idle(conn, default_ttl=30 * DAY) == 0


def test_a_paused_session_is_resumed_and_not_restored(store: Database) -> None:
    session = rows.start(store)
    with store.begin() as conn:
        sessions.pause(conn, session)
        with pytest.raises(MoveRefused):
            lifecycle.restore(conn, session)


def test_every_update_is_another_version_and_the_older_one_changes_nothing(
    store: Database,
) -> None:
    session = rows.start(store)
    with store.begin() as conn:
        assert sessions.get(conn, session).version == 1
        first = sessions.change(conn, session, {"model": "two"}, if_version=1)
        assert first.version == 2
        with pytest.raises(VersionConflict) as caught:
            sessions.change(conn, session, {"model": "three"}, if_version=1)
        assert caught.value.version == 2
        assert sessions.get(conn, session).model == "two"
        sessions.pause(conn, session)
        assert sessions.get(conn, session).version == 2


def test_a_session_moves_with_its_history_and_leaves_its_thread_behind(store: Database) -> None:
    session = rows.start(store, provider="openai", model="gpt-5-mini")
    said(store, session, "first", provider_ref="resp_1")
    waiting = steps.send(store, session, "second").turn_id
    with store.begin() as conn:
        assert lifecycle.settle_begun(conn, session, Running.REFUSE) is None
        moved, heads = lifecycle.move(conn, session, {"provider": "mock", "model": "mock"})
    assert (moved.provider, moved.model, moved.provider_ref) == ("mock", "mock", "")
    assert [head.turn_id for head in heads] == [waiting]
    claim = steps.take_one(store, waiting)
    assert (claim.provider, claim.provider_ref) == ("mock", "")
    assert [one.text for one in claim.history or ()] == ["first", "answer to first"]
    steps.end(store, claim)
    with store.begin() as conn:
        assert [one.ref for one in kept.take_due(conn, again_after=DAY)] == ["resp_1"]


def test_a_session_does_not_move_under_a_turn_that_has_begun(store: Database) -> None:
    session = rows.start(store)
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    with store.begin() as conn:
        with pytest.raises(MoveRefused):
            lifecycle.settle_begun(conn, session, Running.REFUSE)
        assert lifecycle.settle_begun(conn, session, Running.WAIT) == claim.turn_id
        assert lifecycle.settle_begun(conn, session, Running.CANCEL) == claim.turn_id
        assert turns.get(conn, claim.turn_id).cancel_requested
    steps.end(store, claim)
    with store.begin() as conn:
        assert lifecycle.settle_begun(conn, session, Running.REFUSE) is None


def test_archiving_waits_for_the_last_turn_or_cancels_all(store: Database) -> None:
    session = rows.start(store)
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    last = steps.send(store, session).turn_id
    with store.begin() as conn:
        with pytest.raises(MoveRefused):
            lifecycle.settle_open(conn, session, Running.REFUSE)
        assert lifecycle.settle_open(conn, session, Running.WAIT) == last
        assert lifecycle.settle_open(conn, session, Running.CANCEL) == claim.turn_id
    steps.end(store, claim)
    with store.begin() as conn:
        assert lifecycle.settle_open(conn, session, Running.REFUSE) is None
        states = {one.state for one in turns.find(conn, session_id=session)}
    assert states == {TurnState.CANCELLED}


def test_a_fork_has_the_history_up_to_a_turn_and_goes_on_by_itself(store: Database) -> None:
    session = rows.start(store)
    said(store, session, "one", provider_ref="resp_1")
    rows.run(store, rows.send(store, session, "fails"), TurnState.FAILED)
    at = said(store, session, "two", provider_ref="resp_2")
    said(store, session, "three", provider_ref="resp_3")
    copy = fork(store, session, at)
    assert history(store, copy) == [
        *((1, "user", "one"), (1, "assistant", "answer to one")),
        *((2, "user", "two"), (2, "assistant", "answer to two")),
    ]
    record = read(store, copy)
    assert (record.forked_from, record.turns_succeeded) == (session, 2)
    assert (record.provider_ref, record.input_tokens) == ("", 0)
    assert record.cost_usd == 0
    said(store, copy, "elsewhere", provider_ref="resp_4")
    assert len(history(store, session)) == 7
    with store.begin() as conn:
        sessions.remove(conn, session)
    assert len(history(store, copy)) == 6
    with store.begin() as conn:
        due = {one.ref for one in kept.take_due(conn, again_after=DAY)}
    assert due == {"resp_1", "resp_2", "resp_3"}


def test_a_fork_of_all_is_a_fork_at_the_last_turn_that_has_ended(store: Database) -> None:
    session = rows.start(store)
    said(store, session, "one")
    running = steps.take_one(store, steps.send(store, session, "runs").turn_id)
    assert len(history(store, fork(store, session))) == 2
    with pytest.raises(InvalidInput):
        fork(store, session, running.turn_id)
    with pytest.raises(TurnNotFound):
        fork(store, session, TurnId(new_id()))
    steps.end(store, running)


def test_a_report_counts_the_rows_that_went_and_says_what_is_left_at_vendors(
    store: Database,
) -> None:
    session = rows.start(store)
    said(store, session, "one", provider_ref="resp_1")
    said(store, session, "two", provider_ref="resp_2")
    with store.begin() as conn:
        sessions.remove(conn, session)
    found = report(store, session)
    assert {name: found.rows[name] for name in ("sessions", "turns", "messages", "attempts")} == {
        "sessions": 1,
        "turns": 2,
        "messages": 4,
        "attempts": 2,
    }
    (left,) = found.pending
    assert (left.what, left.provider, left.count) == ("kept_refs", "mock", 2)
    assert left.due_at is not None and not found.done
    assert rows_left(store, session) == {}
    with store.begin() as conn:
        kept.forget(conn, kept.take_due(conn, again_after=DAY))
    assert report(store, session).done


def test_a_report_says_what_failed_and_when_it_is_tried_again(store: Database) -> None:
    session = rows.start(store)
    said(store, session, "one", provider_ref="resp_1")
    with store.begin() as conn:
        sessions.remove(conn, session)
        (one,) = kept.take_due(conn, again_after=DAY)
        kept.put_off(conn, one, error_code="unreachable", delay=DAY)
    (left,) = report(store, session).pending
    assert (left.error_code, left.tries) == ("unreachable", 1)


def test_a_response_that_was_adopted_is_said_to_stay(store: Database) -> None:
    session = rows.start(store, provider="openai", model="gpt-5-mini", adopt="resp_other")
    with store.begin() as conn:
        sessions.remove(conn, session)
    (left,) = report(store, session).impossible
    assert (left.what, left.ref) == ("adopted_response", "resp_other")
    assert report(store, session).done


def test_a_session_that_a_turn_runs_in_is_gone_at_once_and_its_rows_after_it(
    store: Database,
) -> None:
    session = rows.start(store, key="room")
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    with store.begin() as conn:
        with pytest.raises(MoveRefused):
            sessions.remove(conn, session, running=Running.REFUSE)
        sessions.remove(conn, session, running=Running.CANCEL)
        assert purge_deleted(conn) == 0
        with pytest.raises(SessionNotFound):
            sessions.get(conn, session)
    (left,) = report(store, session).pending
    assert left.what == "running turn"
    steps.end(store, claim)
    with store.begin() as conn:
        assert purge_deleted(conn) == 1
    assert report(store, session).done
    assert report(store, session).rows["turns"] == 1


def test_a_hold_keeps_the_rows_of_a_deleted_session_that_are_still_there(store: Database) -> None:
    session = rows.start(store)
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    with store.begin() as conn:
        sessions.remove(conn, session)
        holds.hold(conn, "ada", "case 7")
    steps.end(store, claim)
    with store.begin() as conn:
        assert purge_deleted(conn) == 0
    assert [one.what for one in report(store, session).pending] == ["legal hold"]
    with store.begin() as conn:
        holds.release(conn, "ada")
        assert purge_deleted(conn) == 1
    assert report(store, session).done


def test_what_is_purged_is_reported_as_that(store: Database) -> None:
    session = rows.start(store)
    with store.begin() as conn:
        sessions.archive(conn, session)
    with store.begin() as conn:
        assert upkeep.purge_archived(conn, older_than=timedelta(0)) == 1
    assert report(store, session).how is Gone.PURGED
    with pytest.raises(SessionNotFound):
        report(store, rows.start(store))


def test_a_report_is_forgotten_when_nothing_is_left_anywhere(store: Database) -> None:
    done, open_ = rows.start(store), rows.start(store)
    said(store, open_, "one", provider_ref="resp_1")
    with store.begin() as conn:
        sessions.remove(conn, done)
        sessions.remove(conn, open_)
    with store.begin() as conn:
        assert upkeep.purge_tombstones(conn, older_than=DAY) == 0
        assert upkeep.purge_tombstones(conn, older_than=timedelta(0)) == 1
    assert not report(store, open_).done


@pytest.mark.parametrize("how", ["deleted", "purged"])
def test_what_a_frozen_worker_writes_after_its_session_is_gone_brings_nothing_back(
    store: Database, how: str
) -> None:
    session = rows.start(store)
    said(store, session, "one")
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    with store.begin() as conn:
        if how == "deleted":
            sessions.remove(conn, session)
    steps.lose(store, claim.turn_id)
    with store.begin() as conn:
        if how == "deleted":
            assert purge_deleted(conn) == 1
        else:
            turns.cancel(conn, claim.turn_id)
            sessions.archive(conn, session)
    if how == "purged":
        with store.begin() as conn:
            assert upkeep.purge_archived(conn, older_than=timedelta(0)) == 1
    assert isinstance(steps.end(store, claim, provider_ref="resp_late"), Fenced)
    with store.begin() as conn:
        kept.keep_late(conn, steps.verdict(claim, TurnState.SUCCEEDED, provider_ref="resp_late"))
    assert rows_left(store, session) == {}
    with store.begin() as conn:  # an id alone, so that the vendor's copy is deleted, too
        assert conn.scalars(select(kept_refs.c.due_at.is_not(None))).all() == [True]


def test_a_message_of_the_history_is_whole_in_the_fork(store: Database) -> None:
    session = rows.start(store)
    turn = steps.send(store, session, "one").turn_id
    steps.end(store, steps.take_one(store, turn), reply="two  \n parts")
    with store.begin() as conn:
        (first, second) = sessions.history(conn, fork_in(conn, session))
    assert (first.parts, second.parts) == (
        Message.of("user", "one").parts,
        Message.of("assistant", "two  \n parts").parts,
    )


def fork_in(conn: Any, source: SessionId) -> SessionId:
    new = NewSession(id=SessionId(new_id()), user_id="ada", provider="mock", model="mock")
    return forks.fork(conn, new, source, at=None).id


def test_a_fork_holds_the_files_of_its_turns_whatever_becomes_of_the_other(store: Database) -> None:
    session, picture = rows.start(store), new_id()
    with store.begin() as conn:
        row = {"id": picture, "user_id": "ada", "sha256": "a", "size": 1, "ready": True}
        conn.execute(insert(attachments).values(**row, media_type="image/png"))
    turn = steps.send(store, session, "see").turn_id
    with store.begin() as conn:
        shown = content_of([Image(id=str(picture), media_type="image/png")])
        conn.execute(update(messages).where(messages.c.turn_id == turn).values(content=shown))
        use(conn, session, turn, [picture])
    steps.end(store, steps.take_one(store, turn), reply="seen")
    copy = fork(store, session)
    with store.begin() as conn:
        sessions.remove(conn, session)
        assert conn.scalars(select(attachment_uses.c.session_id)).all() == [copy]
        sessions.remove(conn, copy)
        assert conn.scalars(select(attachment_uses.c.session_id)).all() == []
        assert conn.scalars(select(attachments.c.due_at.is_not(None))).all() == [True]
