"""Turns that are cancelled, retried or overdue: in every state, at every place of the line."""

from datetime import UTC, datetime, timedelta

import pytest

from tests import rows, steps
from turnmill.domain.errors import MoveRefused, SessionArchived, SessionNotFound, TurnNotFound
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import FINAL, TurnState
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.nouns import sessions, turns
from turnmill.store.schema_name import execute

pytestmark = pytest.mark.usefixtures("sound")

HOUR = timedelta(hours=1)


def brought_to(store: Database, session: SessionId, state: TurnState) -> TurnId:
    """Return a turn at the head of the line that came to this state as turns do."""
    sent = steps.send(store, session).turn_id
    match state:
        case TurnState.QUEUED:
            pass
        case TurnState.CANCELLED:
            steps.cancel(store, sent)
        case TurnState.EXPIRED:
            with store.begin() as conn:
                execute(conn, "UPDATE turnmill.turns SET expires_at = created_at")
            steps.expire(store)
        case TurnState.RUNNING:
            steps.take_one(store, sent)
        case _:
            steps.end(store, steps.take_one(store, sent), state)
    assert steps.state(store, sent) is state
    return sent


@pytest.mark.parametrize("state", sorted(frozenset(TurnState) - FINAL - {TurnState.RUNNING}))
def test_a_turn_that_nobody_runs_is_cancelled_at_once(store: Database, state: TurnState) -> None:
    session = rows.start(store)
    sent = brought_to(store, session, state)
    behind = steps.send(store, session).turn_id
    with store.begin() as conn:
        found, heads = turns.cancel(conn, sent)
    assert found is TurnState.CANCELLED
    assert [head.turn_id for head in heads] == [behind]
    assert steps.turn(store, sent).error_code == "cancelled"


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_turn_stays_what_it_is_when_it_is_cancelled(
    store: Database, state: TurnState
) -> None:
    sent = brought_to(store, rows.start(store), state)
    assert steps.cancel(store, sent) is state
    assert steps.state(store, sent) is state


def test_a_running_turn_is_asked_to_stop_and_stays_running(store: Database) -> None:
    sent = brought_to(store, rows.start(store), TurnState.RUNNING)
    assert steps.cancel(store, sent) is TurnState.RUNNING
    assert steps.turn(store, sent).cancel_requested is True


def test_cancelling_behind_the_head_leaves_the_head_alone(store: Database) -> None:
    session = rows.start(store)
    first, second, third = (steps.send(store, session).turn_id for _ in range(3))
    assert steps.cancel(store, second) is TurnState.CANCELLED
    assert steps.line(store, session).head == first
    steps.answer(store, first)
    assert steps.line(store, session).head == third


@pytest.mark.parametrize("state", sorted(frozenset(TurnState) - {TurnState.FAILED, TurnState.DEAD}))
def test_only_what_failed_is_retried(store: Database, state: TurnState) -> None:
    sent = brought_to(store, rows.start(store), state)
    with pytest.raises(MoveRefused):
        steps.retry(store, sent)
    assert steps.state(store, sent) is state


@pytest.mark.parametrize("state", [TurnState.FAILED, TurnState.DEAD])
def test_a_retry_in_place_has_all_its_attempts_again(store: Database, state: TurnState) -> None:
    session = rows.start(store, max_attempts=1)
    sent = brought_to(store, session, state)
    again = steps.retry(store, sent)
    assert (again.turn_id, again.created, again.announce) == (sent, False, True)
    assert steps.session(store, session).turns_failed == 0
    claim = steps.take_one(store, sent)
    assert (claim.attempt, claim.n, claim.fence) == (1, 2, 2)
    steps.end(store, claim)
    assert steps.outcomes(store, sent) == [state.value, "succeeded"]
    found = steps.session(store, session)
    assert (found.turns_succeeded, found.turns_failed) == (1, 0)


def test_a_retry_in_place_runs_before_what_has_not_started(store: Database) -> None:
    session = rows.start(store)
    sent = brought_to(store, session, TurnState.FAILED)
    behind = steps.send(store, session).turn_id
    steps.retry(store, sent)
    assert steps.take(store, behind) == []
    steps.answer(store, sent)
    steps.answer(store, behind)


@pytest.mark.parametrize("ended", [TurnState.RUNNING, TurnState.SUCCEEDED, TurnState.QUEUED])
def test_a_retry_after_a_later_turn_has_started_is_a_new_turn_at_the_end(
    store: Database, ended: TurnState
) -> None:
    session = rows.start(store)
    sent = brought_to(store, session, TurnState.DEAD)
    later = steps.take_one(store, steps.send(store, session).turn_id)
    if ended is not TurnState.RUNNING:
        steps.end(store, later, ended)
    again = steps.retry(store, sent)
    turn = steps.turn(store, again.turn_id)
    assert again.created is True
    assert (turn.retry_of, turn.seq) == (sent, 3)
    assert steps.state(store, sent) is TurnState.DEAD
    with store.begin() as conn:
        assert turns.messages_of(conn, turn.id)[0].text == "hello"


def test_turns_that_died_one_after_the_other_run_again_in_their_order(store: Database) -> None:
    session = rows.start(store)
    died = [brought_to(store, session, TurnState.DEAD) for _ in range(3)]
    again = [steps.turn(store, steps.retry(store, one).turn_id) for one in died]
    assert [one.retry_of for one in again] == died  # the last one, too, though nothing is behind it
    assert [one.seq for one in again] == [4, 5, 6]
    for one in again:
        steps.answer(store, one.id)


def test_a_retry_forgets_when_it_was_to_expire(store: Database) -> None:
    session = rows.start(store)
    sent = steps.send(store, session, expires=datetime.now(UTC) + HOUR).turn_id
    steps.end(store, steps.take_one(store, sent), TurnState.FAILED)
    steps.retry(store, sent)
    assert steps.turn(store, sent).expires_at is None


def test_a_retry_after_losses_starts_outside_quarantine(store: Database) -> None:
    session = rows.start(store)
    sent = steps.send(store, session).turn_id
    steps.take_one(store, sent)
    steps.lose(store, sent)
    steps.end(store, steps.take_one(store, sent), TurnState.FAILED)
    steps.retry(store, sent)
    assert steps.line(store, session).lane == "interactive"
    assert steps.take_one(store, sent).kind == "send"


@pytest.mark.parametrize("started", [False, True])
def test_nothing_is_retried_in_an_archived_session(store: Database, *, started: bool) -> None:
    session = rows.start(store)
    sent = brought_to(store, session, TurnState.FAILED)
    if started:
        steps.answer(store, steps.send(store, session).turn_id)
    with store.begin() as conn:
        sessions.archive(conn, session)
    with pytest.raises(SessionArchived):
        steps.retry(store, sent)


def test_what_is_overdue_expires_at_any_place_of_the_line(store: Database) -> None:
    session = rows.start(store)
    past = datetime.now(UTC) - timedelta(seconds=1)
    first = steps.send(store, session).turn_id
    second = steps.send(store, session, expires=past).turn_id
    third = steps.send(store, session).turn_id
    steps.expire(store)
    assert steps.line(store, session).head == first
    turn = steps.turn(store, second)
    assert (turn.state, turn.error_code) == (TurnState.EXPIRED, "expired")
    steps.answer(store, first)
    assert steps.line(store, session).head == third


def test_a_head_that_expires_makes_room_for_the_next(store: Database) -> None:
    session = rows.start(store)
    past = datetime.now(UTC) - timedelta(seconds=1)
    steps.send(store, session, expires=past)
    behind = steps.send(store, session).turn_id
    assert [head.turn_id for head in steps.expire(store)] == [behind]


def test_several_turns_of_a_line_expire_at_once(store: Database) -> None:
    session = rows.start(store)
    past = datetime.now(UTC) - timedelta(seconds=1)
    for _ in range(3):
        steps.send(store, session, expires=past)
    steps.expire(store)
    assert steps.line(store, session).unfinished == 0


@pytest.mark.parametrize("state", [TurnState.RUNNING, TurnState.WAITING, TurnState.UNKNOWN])
def test_what_a_provider_may_work_on_does_not_expire(store: Database, state: TurnState) -> None:
    sent = brought_to(store, rows.start(store), state)
    with store.begin() as conn:
        execute(conn, "UPDATE turnmill.turns SET expires_at = created_at")
    steps.expire(store)
    assert steps.state(store, sent) is state
    if state is not TurnState.RUNNING:
        assert len(steps.take(store, sent)) == 1


def test_a_turn_that_waits_for_its_retry_expires(store: Database) -> None:
    sent = brought_to(store, rows.start(store), TurnState.RETRYING)
    with store.begin() as conn:
        execute(conn, "UPDATE turnmill.turns SET expires_at = created_at")
    steps.expire(store)
    assert steps.state(store, sent) is TurnState.EXPIRED


def test_a_turn_that_does_not_exist_is_not_found(store: Database) -> None:
    for verb in (steps.cancel, steps.retry, steps.turn):
        with pytest.raises(TurnNotFound):
            verb(store, TurnId(new_id()))


def test_a_turn_of_a_deleted_session_is_not_found(store: Database) -> None:
    session = rows.start(store)
    sent = brought_to(store, session, TurnState.RUNNING)
    with store.begin() as conn:
        sessions.remove(conn, session)
    for verb in (steps.cancel, steps.retry, steps.turn):
        with pytest.raises(TurnNotFound):
            verb(store, sent)
    with pytest.raises(SessionNotFound):
        steps.session(store, session)


def test_turns_are_found_by_what_became_of_them(store: Database) -> None:
    session, other = rows.start(store), rows.start(store)
    failed = brought_to(store, session, TurnState.FAILED)
    brought_to(store, session, TurnState.SUCCEEDED)
    dead = brought_to(store, other, TurnState.DEAD)
    with store.begin() as conn:
        letters = turns.find(conn, states=[TurnState.FAILED, TurnState.DEAD])
        page = turns.find(conn, states=[TurnState.FAILED, TurnState.DEAD], after=dead)
        here = turns.find(conn, session_id=session, limit=1)
    assert [one.id for one in letters] == [dead, failed]
    assert [one.id for one in page] == [failed]
    assert [one.state for one in here] == [TurnState.SUCCEEDED]
