"""A turn that is put off is given back as it was, and says what it waits for."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from tests import steps
from tests.steps import one_claimed, settled
from turnmill.domain.states import TurnState
from turnmill.store.database import Database
from turnmill.store.nouns import turns
from turnmill.store.records import Claim, Settled
from turnmill.store.schema import tables

pytestmark = pytest.mark.usefixtures("sound")


def put_off(store: Database, claim: Claim, state: TurnState = TurnState.QUEUED) -> Settled:
    """Settle as a worker does whose layer said: not now."""
    options = {"outcome": "not_now", "gives_attempt_back": True, "waits_for": "budget"}
    used = {"input_tokens": 0, "output_tokens": 0, "kept": []}
    return settled(steps.end(store, claim, state, **options | used))


def test_a_turn_that_is_put_off_spends_nothing_and_says_what_it_waits_for(store: Database) -> None:
    claim = one_claimed(store, max_attempts=1)
    for _ in range(3):
        assert (claim.kind, claim.attempt, claim.n) == ("send", 1, 1)
        assert put_off(store, claim).state is TurnState.QUEUED
        turn = steps.turn(store, claim.turn_id)
        assert (turn.attempt, turn.waits_for, turn.error_code) == (0, "budget", None)
        assert steps.outcomes(store, claim.turn_id) == ["not_now"]
        claim = steps.take_one(store, claim.turn_id)
    steps.end(store, claim)
    turn = steps.turn(store, claim.turn_id)
    assert (turn.state, turn.attempt, turn.waits_for) == (TurnState.SUCCEEDED, 1, None)
    assert steps.outcomes(store, claim.turn_id) == ["succeeded"]
    with store.begin() as conn:
        [attempt] = turns.attempts_of(conn, claim.turn_id)
    # Three claims more, and none has asked a provider for anything.
    assert (attempt.n, attempt.polls, attempt.fence) == (1, 0, claim.fence)


def test_a_turn_that_was_put_off_and_then_lost_has_a_row_for_each(store: Database) -> None:
    claim = one_claimed(store)
    put_off(store, claim)
    steps.take_one(store, claim.turn_id)
    steps.lose(store, claim.turn_id)
    asked = steps.take_one(store, claim.turn_id)
    assert asked.kind == "check"
    assert steps.outcomes(store, claim.turn_id) == ["lost", None]


def test_a_question_that_is_put_off_stays_one(store: Database) -> None:
    claim = one_claimed(store)
    steps.end(store, claim, TurnState.WAITING, native_ref="bg_1")
    asked = steps.take_one(store, claim.turn_id)
    put_off(store, asked, TurnState.WAITING)
    again = steps.take_one(store, claim.turn_id)
    assert (again.kind, again.n, again.attempt) == ("resume", asked.n, 1)


def _cancelled(store: Database, claim: Claim) -> None:
    put_off(store, claim)
    steps.cancel(store, claim.turn_id)


def _cancelled_as_it_was_put_off(store: Database, claim: Claim) -> None:
    steps.cancel(store, claim.turn_id)
    put_off(store, claim)


def _expired(store: Database, claim: Claim) -> None:
    put_off(store, claim)
    ago = datetime.now(UTC) - timedelta(days=1)
    with store.begin() as conn:
        conn.execute(update(tables.turns).values(expires_at=ago))
    steps.expire(store)


def _lost_and_cancelled(store: Database, claim: Claim) -> None:
    put_off(store, claim)
    steps.take_one(store, claim.turn_id)
    steps.cancel(store, claim.turn_id)
    steps.lose(store, claim.turn_id)


@pytest.mark.parametrize(
    "end", [_cancelled, _cancelled_as_it_was_put_off, _expired, _lost_and_cancelled]
)
def test_a_turn_that_has_ended_waits_for_nothing(
    store: Database, end: Callable[[Database, Claim], None]
) -> None:
    claim = one_claimed(store)
    end(store, claim)
    turn = steps.turn(store, claim.turn_id)
    assert turn.state in {TurnState.CANCELLED, TurnState.EXPIRED}
    assert turn.waits_for is None


def test_a_turn_that_was_put_off_is_cancelled_like_any_other(store: Database) -> None:
    claim = one_claimed(store)
    put_off(store, claim)
    assert steps.cancel(store, claim.turn_id) is TurnState.CANCELLED
