"""`on_ambiguous="hold"`: what may have left twice waits for an operator; nothing else does."""

import pytest

from tests import rows, steps
from turnmill.domain.errors import MoveRefused
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.store.database import Database
from turnmill.store.nouns import sessions, turns
from turnmill.store.records import Claim, Head

pytestmark = pytest.mark.usefixtures("sound")


def one_claimed(store: Database) -> Claim:
    session = rows.start(store, on_ambiguous="hold", max_attempts=1)
    return steps.take_one(store, steps.send(store, session).turn_id)


def held(store: Database) -> Claim:
    claim = one_claimed(store)
    assert steps.mark_sent(store, claim)
    steps.lose(store, claim.turn_id)
    return claim


def release(store: Database, turn_id: TurnId) -> list[Head]:
    with store.begin() as conn:
        return turns.release_held(conn, turn_id)


def change(store: Database, session_id: SessionId, **columns: str) -> None:
    with store.begin() as conn:
        sessions.change(conn, session_id, columns)


def test_a_lost_turn_whose_request_had_left_is_held(store: Database) -> None:
    claim = held(store)
    assert steps.state(store, claim.turn_id) is TurnState.UNKNOWN
    assert steps.take(store, claim.turn_id) == []
    assert steps.line(store, claim.session_id).due is False


def test_a_lost_turn_whose_request_never_left_is_sent_again(store: Database) -> None:
    claim = one_claimed(store)
    steps.lose(store, claim.turn_id)
    again = steps.take_one(store, claim.turn_id)
    assert (again.kind, again.attempt) == ("send", 1)


def test_a_request_that_may_have_left_is_held_by_its_own_worker_too(store: Database) -> None:
    claim = one_claimed(store)
    steps.mark_sent(store, claim)
    steps.end(store, claim, TurnState.UNKNOWN, outcome="maybe_sent")
    assert steps.take(store, claim.turn_id) == []


def test_a_held_turn_holds_the_line(store: Database) -> None:
    claim = held(store)
    behind = steps.send(store, claim.session_id)
    assert behind.announce is False
    assert steps.take(store, behind.turn_id) == []


def test_a_released_turn_is_due_at_once(store: Database) -> None:
    claim = held(store)
    assert [head.turn_id for head in release(store, claim.turn_id)] == [claim.turn_id]
    again = steps.take_one(store, claim.turn_id)
    assert (again.kind, again.attempt) == ("check", 0)


def test_a_release_stands_whatever_happens_behind_it(store: Database) -> None:
    claim = held(store)
    behind = steps.send(store, claim.session_id).turn_id
    release(store, claim.turn_id)
    steps.cancel(store, behind)
    with store.begin() as conn:
        sessions.head_of(conn, claim.session_id)
    assert len(steps.take(store, claim.turn_id)) == 1


def test_a_released_turn_is_asked_about_until_there_is_an_answer(store: Database) -> None:
    claim = held(store)
    release(store, claim.turn_id)
    steps.end(store, steps.take_one(store, claim.turn_id), TurnState.UNKNOWN)
    steps.take_one(store, claim.turn_id)
    steps.lose(store, claim.turn_id)
    again = steps.take_one(store, claim.turn_id)
    assert (again.kind, again.attempt) == ("check", 0)
    steps.end(store, again)


def test_a_turn_that_is_not_held_is_not_released(store: Database) -> None:
    claim = one_claimed(store)
    with pytest.raises(MoveRefused):
        release(store, claim.turn_id)


def test_a_held_turn_can_be_cancelled(store: Database) -> None:
    claim = held(store)
    behind = steps.send(store, claim.session_id).turn_id
    assert steps.cancel(store, claim.turn_id) is TurnState.CANCELLED
    assert len(steps.take(store, behind)) == 1


def test_a_session_that_holds_no_more_lets_go_what_it_held(store: Database) -> None:
    claim = held(store)
    change(store, claim.session_id, on_ambiguous="reconcile")
    assert steps.take_one(store, claim.turn_id).kind == "check"


def test_a_session_that_holds_from_now_on_leaves_questions_alone(store: Database) -> None:
    session = rows.start(store)
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    steps.lose(store, claim.turn_id)
    change(store, session, on_ambiguous="hold")
    assert steps.take_one(store, claim.turn_id).kind == "check"


def test_only_the_owner_notes_that_a_request_leaves(store: Database) -> None:
    zombie = one_claimed(store)
    steps.lose(store, zombie.turn_id)
    assert steps.mark_sent(store, zombie) is False
    successor = steps.take_one(store, zombie.turn_id)
    assert steps.mark_sent(store, zombie) is False
    assert steps.mark_sent(store, successor) is True
