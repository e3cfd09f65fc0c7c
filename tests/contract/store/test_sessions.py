"""Sessions: created once for a key, changed, paused, archived, and deleted to the last row."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from tests import rows, steps
from turnmill.domain.errors import Conflict, MoveRefused, SessionArchived, SessionNotFound
from turnmill.domain.ids import SessionId
from turnmill.domain.states import OnFailure, SessionStatus, TurnState
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.line.due import purge_deleted
from turnmill.store.nouns import sessions
from turnmill.store.schema.tables import attempts, messages
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.schema.tables import turns as turn_rows

pytestmark = pytest.mark.usefixtures("sound")


def rows_left(store: Database) -> int:
    tables = (session_rows, turn_rows, messages, attempts)
    with store.begin() as conn:
        counts = [conn.execute(select(func.count()).select_from(table)) for table in tables]
        return sum(count.scalar_one() for count in counts)


def test_a_session_is_kept_as_it_was_created(store: Database) -> None:
    created = rows.start(
        store,
        key="ada:support",
        provider="openai",
        model="small",
        system_prompt="Be brief.",
        settings={"temperature": 0.5},
        metadata={"team": "one"},
        on_failure="pause",
        max_attempts=9,
        idle_ttl=timedelta(days=3),
    )
    found = steps.session(store, created)
    assert (found.key, found.user_id, found.provider) == ("ada:support", "ada", "openai")
    assert (found.model, found.system_prompt) == ("small", "Be brief.")
    assert (found.settings, found.metadata) == ({"temperature": 0.5}, {"team": "one"})
    assert (found.on_failure, found.max_attempts) == (OnFailure.PAUSE, 9)
    assert (found.idle_ttl, found.status) == (timedelta(days=3), SessionStatus.ACTIVE)


def test_a_key_stands_for_one_session(store: Database) -> None:
    first = rows.start(store, key="ada:support")
    assert rows.start(store, key="ada:support", model="other") == first
    assert steps.session(store, first).model == "mock"
    with store.begin() as conn:
        assert sessions.id_of_key(conn, "ada:support") == first


def test_a_key_of_another_user_is_a_conflict(store: Database) -> None:
    rows.start(store, key="support")
    with pytest.raises(Conflict):
        rows.start(store, key="support", user_id="bob")


def test_a_key_of_an_archived_session_is_refused(store: Database) -> None:
    session = rows.start(store, key="support")
    with store.begin() as conn:
        sessions.archive(conn, session)
    with pytest.raises(SessionArchived):
        rows.start(store, key="support")


def test_a_key_is_free_again_when_its_session_is_deleted(store: Database) -> None:
    first = rows.start(store, key="support")
    steps.take_one(store, steps.send(store, first).turn_id)
    with store.begin() as conn:
        sessions.remove(conn, first)
    assert rows.start(store, key="support", user_id="bob") != first


def test_what_is_changed_is_changed_and_nothing_else(store: Database) -> None:
    session = rows.start(store, system_prompt="Be brief.")
    with store.begin() as conn:
        sessions.change(conn, session, {"model": "large", "idle_ttl": timedelta(hours=1)})
    found = steps.session(store, session)
    assert (found.model, found.idle_ttl) == ("large", timedelta(hours=1))
    assert found.system_prompt == "Be brief."


def test_a_turn_runs_with_what_its_session_says_when_it_is_claimed(store: Database) -> None:
    session = rows.start(store)
    sent = steps.send(store, session).turn_id
    with store.begin() as conn:
        sessions.change(conn, session, {"model": "large"})
    assert steps.take_one(store, sent).model == "large"


@pytest.mark.parametrize("verb", [sessions.get, sessions.archive, sessions.pause, sessions.remove])
def test_a_session_that_does_not_exist_is_not_found(store: Database, verb: object) -> None:
    assert callable(verb)
    with pytest.raises(SessionNotFound), store.begin() as conn:
        verb(conn, SessionId(new_id()))


def test_pausing_or_resuming_twice_is_doing_it_once(store: Database) -> None:
    session = rows.start(store)
    with store.begin() as conn:
        for verb, status in ((sessions.pause, "paused"), (sessions.resume, "active")):
            assert verb(conn, session).status == status
            assert verb(conn, session).status == status


def test_a_resumed_session_has_its_head_announced(store: Database) -> None:
    session = rows.start(store)
    with store.begin() as conn:
        sessions.pause(conn, session)
    sent = steps.send(store, session).turn_id
    with store.begin() as conn:
        sessions.resume(conn, session)
        assert [head.turn_id for head in sessions.head_of(conn, session)] == [sent]


def test_a_session_with_something_unfinished_is_not_archived(store: Database) -> None:
    session = rows.start(store)
    steps.send(store, session)
    with pytest.raises(MoveRefused), store.begin() as conn:
        sessions.archive(conn, session)
    assert steps.session(store, session).status is SessionStatus.ACTIVE


def test_an_archived_session_keeps_its_history(store: Database) -> None:
    session = rows.start(store)
    steps.answer(store, steps.send(store, session).turn_id)
    with store.begin() as conn:
        assert sessions.archive(conn, session).archived_at is not None
        assert sessions.archive(conn, session).status is SessionStatus.ARCHIVED
        assert len(sessions.history(conn, session)) == 2


def test_an_archived_session_is_neither_paused_nor_resumed(store: Database) -> None:
    session = rows.start(store)
    with store.begin() as conn:
        sessions.archive(conn, session)
        for verb in (sessions.pause, sessions.resume):
            with pytest.raises(MoveRefused):
                verb(conn, session)


def test_a_deleted_session_leaves_no_row(store: Database) -> None:
    session = rows.start(store)
    steps.answer(store, steps.send(store, session).turn_id)
    steps.send(store, session)
    with store.begin() as conn:
        assert sessions.remove(conn, session) == []
    assert rows_left(store) == 0


def test_a_session_is_deleted_after_the_turn_that_runs(store: Database) -> None:
    session, other = rows.start(store), rows.start(store)
    running = steps.take_one(store, steps.send(store, session).turn_id)
    steps.send(store, session)
    kept = steps.send(store, other).turn_id
    with store.begin() as conn:
        assert sessions.remove(conn, session) == [running.turn_id]
        assert purge_deleted(conn) == 0
    steps.end(store, running)
    with store.begin() as conn:
        assert purge_deleted(conn) == 1
    assert rows_left(store) == 3
    assert steps.state(store, kept) is TurnState.QUEUED


def test_a_session_is_deleted_though_its_worker_was_lost(store: Database) -> None:
    session = rows.start(store)
    running = steps.take_one(store, steps.send(store, session).turn_id)
    with store.begin() as conn:
        sessions.remove(conn, session)
    assert steps.lose(store, running.turn_id) == []
    with store.begin() as conn:
        assert purge_deleted(conn) == 1
    assert rows_left(store) == 0


def test_history_is_ordered_by_turn_then_position_and_read_in_pages(store: Database) -> None:
    session = rows.start(store)
    for number in range(5):
        steps.answer(store, steps.send(store, session, f"q{number}").turn_id)
    with store.begin() as conn:
        first = sessions.history(conn, session, limit=3)
        rest = sessions.history(conn, session, after_seq=first[-1].seq, limit=3)
    told = [(one.seq, one.role, one.text) for one in (*first, *rest)]
    expected = [
        (number + 1, role, text)
        for number in range(5)
        for role, text in (("user", f"q{number}"), ("assistant", f"answer to q{number}"))
    ]
    assert told == expected


def test_history_shows_what_was_said_though_it_failed(store: Database) -> None:
    session = rows.start(store)
    claim = steps.take_one(store, steps.send(store, session, "hello?").turn_id)
    steps.end(store, claim, TurnState.FAILED)
    with store.begin() as conn:
        (message,) = sessions.history(conn, session)
    assert (message.text, message.state) == ("hello?", TurnState.FAILED)


def test_sessions_are_listed_newest_first_in_pages(store: Database) -> None:
    created = [rows.start(store) for _ in range(4)]
    rows.start(store, user_id="bob")
    with store.begin() as conn:
        first = sessions.find(conn, user_id="ada", limit=3)
        rest = sessions.find(conn, user_id="ada", after=first[-1].id)
        sessions.pause(conn, created[0])
        paused = sessions.find(conn, status=SessionStatus.PAUSED)
    assert [one.id for one in (*first, *rest)] == created[::-1]
    assert [one.id for one in paused] == [created[0]]
