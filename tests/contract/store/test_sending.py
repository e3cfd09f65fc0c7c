"""A message that was accepted is a turn in the line of its session, once."""

from datetime import UTC, datetime, timedelta

import pytest

from tests import rows, steps
from turnmill.domain.errors import IdempotencyConflict, SessionArchived, SessionNotFound
from turnmill.domain.ids import SessionId
from turnmill.domain.states import Lane, TurnState
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.nouns import sessions

pytestmark = pytest.mark.usefixtures("sound")

HOUR = timedelta(hours=1)


def test_a_first_message_is_the_head_and_to_be_announced(store: Database) -> None:
    session = rows.start(store)
    sent = steps.send(store, session)
    assert (sent.created, sent.announce) == (True, True)
    line = steps.line(store, session)
    assert (line.head, line.unfinished, line.next_seq) == (sent.turn_id, 1, 2)


def test_a_later_message_waits_behind_the_head_unannounced(store: Database) -> None:
    session = rows.start(store)
    first, second = steps.send(store, session), steps.send(store, session)
    assert second.announce is False
    assert steps.line(store, session).head == first.turn_id
    assert steps.turn(store, second.turn_id).seq == 2


def test_a_message_after_everything_ended_is_the_head_again(store: Database) -> None:
    session = rows.start(store)
    steps.answer(store, steps.send(store, session).turn_id)
    assert steps.line(store, session).head is None
    again = steps.send(store, session)
    assert again.announce is True
    assert steps.line(store, session).head == again.turn_id


def test_the_same_key_and_content_is_the_same_turn(store: Database) -> None:
    session = rows.start(store)
    first = steps.send(store, session, "hello", idempotency_key="k")
    again = steps.send(store, session, "hello", idempotency_key="k")
    assert (again.turn_id, again.created, again.announce) == (first.turn_id, False, False)
    assert steps.count_turns(store) == 1


@pytest.mark.parametrize("final", [TurnState.SUCCEEDED, TurnState.FAILED, TurnState.DEAD])
def test_a_key_stands_for_its_turn_in_whatever_state(store: Database, final: TurnState) -> None:
    session = rows.start(store)
    first = steps.send(store, session, "hello", idempotency_key="k")
    claim = steps.take_one(store, first.turn_id)
    assert steps.send(store, session, "hello", idempotency_key="k").turn_id == first.turn_id
    steps.end(store, claim, final)
    assert steps.send(store, session, "hello", idempotency_key="k").turn_id == first.turn_id


def test_the_same_key_for_other_content_is_a_conflict_and_leaves_no_gap(store: Database) -> None:
    session = rows.start(store)
    steps.send(store, session, "hello", idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        steps.send(store, session, "goodbye", idempotency_key="k")
    assert steps.turn(store, steps.send(store, session).turn_id).seq == 2


def test_a_key_compares_content_only(store: Database) -> None:
    session = rows.start(store)
    first = steps.send(store, session, idempotency_key="k", metadata={"try": 1})
    again = steps.send(store, session, idempotency_key="k", metadata={"try": 2}, lane="bulk")
    assert again.turn_id == first.turn_id
    assert steps.turn(store, first.turn_id).metadata == {"try": 1}


def test_a_key_means_something_within_its_session_only(store: Database) -> None:
    ada, bob = rows.start(store), rows.start(store, user_id="bob")
    first = steps.send(store, ada, "one", idempotency_key="k")
    other = steps.send(store, bob, "two", idempotency_key="k")
    assert other.created is True
    assert other.turn_id != first.turn_id


@pytest.mark.parametrize("key", [None, "k"])
def test_an_archived_session_refuses_messages_and_writes_nothing(
    store: Database, key: str | None
) -> None:
    session = rows.start(store)
    with store.begin() as conn:
        sessions.archive(conn, session)
    with pytest.raises(SessionArchived):
        steps.send(store, session, idempotency_key=key)
    assert steps.count_turns(store) == 0


def test_a_key_used_before_still_names_its_turn_when_the_session_is_archived(
    store: Database,
) -> None:
    session = rows.start(store)
    first = steps.send(store, session, idempotency_key="k").turn_id
    steps.answer(store, first)
    with store.begin() as conn:
        sessions.archive(conn, session)
    assert steps.send(store, session, idempotency_key="k").turn_id == first


@pytest.mark.parametrize("key", [None, "k"])
def test_an_unknown_session_is_not_found(store: Database, key: str | None) -> None:
    with pytest.raises(SessionNotFound):
        steps.send(store, SessionId(new_id()), idempotency_key=key)


@pytest.mark.parametrize("key", [None, "used", "fresh"])
def test_a_deleted_session_is_not_found_while_its_last_turn_runs(
    store: Database, key: str | None
) -> None:
    session = rows.start(store)
    steps.take_one(store, steps.send(store, session, idempotency_key="used").turn_id)
    with store.begin() as conn:
        sessions.remove(conn, session)
    with pytest.raises(SessionNotFound):
        steps.send(store, session, idempotency_key=key)


def test_a_paused_session_accepts_and_announces_nothing(store: Database) -> None:
    session = rows.start(store)
    with store.begin() as conn:
        sessions.pause(conn, session)
    sent = steps.send(store, session)
    assert (sent.created, sent.announce) == (True, False)
    assert steps.take(store, sent.turn_id) == []


def test_a_message_for_later_is_neither_announced_nor_run_before(store: Database) -> None:
    session = rows.start(store)
    later = steps.send(store, session, deliver_at=datetime.now(UTC) + HOUR)
    assert later.announce is False
    assert steps.take(store, later.turn_id) == []
    steps.due_now(store, later.turn_id)
    assert len(steps.take(store, later.turn_id)) == 1


def test_a_message_for_later_holds_the_line(store: Database) -> None:
    session = rows.start(store)
    steps.send(store, session, deliver_at=datetime.now(UTC) + HOUR)
    now = steps.send(store, session)
    assert now.announce is False
    assert steps.take(store, now.turn_id) == []


def test_a_message_for_later_keeps_its_time_behind_another(store: Database) -> None:
    session = rows.start(store)
    first = steps.send(store, session)
    later = steps.send(store, session, deliver_at=datetime.now(UTC) + HOUR)
    steps.answer(store, first.turn_id)
    assert steps.line(store, session).head == later.turn_id
    assert steps.take(store, later.turn_id) == []


def test_a_moment_that_has_passed_is_now(store: Database) -> None:
    session = rows.start(store)
    assert steps.send(store, session, deliver_at=datetime.now(UTC) - HOUR).announce is True


def test_a_turn_has_its_own_number_of_attempts_or_that_of_its_session(store: Database) -> None:
    session = rows.start(store, max_attempts=7)
    own = steps.send(store, session, max_attempts=2)
    assert steps.turn(store, own.turn_id).max_attempts == 2
    assert steps.turn(store, steps.send(store, session).turn_id).max_attempts == 7


def test_a_turn_keeps_the_lane_and_metadata_that_it_was_sent_with(store: Database) -> None:
    session = rows.start(store)
    sent = steps.send(store, session, lane="bulk", metadata={"ticket": 991})
    turn = steps.turn(store, sent.turn_id)
    assert (turn.lane, turn.metadata) == (Lane.BULK, {"ticket": 991})
    assert steps.line(store, session).lane == "bulk"


@pytest.mark.parametrize(
    "text", ["ünïcödé 🦆", "line\nline\ttab", "'; DROP TABLE turns; --", "%s {}"]
)
def test_a_text_comes_back_as_it_was_sent(store: Database, text: str) -> None:
    session = rows.start(store)
    sent = steps.send(store, session, text)
    assert steps.take_one(store, sent.turn_id).text == text
    with store.begin() as conn:
        assert [one.text for one in sessions.history(conn, session)] == [text]
