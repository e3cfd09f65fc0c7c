"""What had come of a streamed reply goes with its turn's end, where somebody asked to keep it."""

from decimal import Decimal
from typing import Any

import pytest

from tests import rows, steps
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.store.database import Database
from turnmill.store.line.estimates import withdraw_estimates
from turnmill.store.line.history import succeeded_history
from turnmill.store.line.settle import settle
from turnmill.store.message_records import MessageRecord
from turnmill.store.nouns import turns
from turnmill.store.records import Claim, Fenced, Settlement
from turnmill.store.schema_name import execute
from turnmill.store.turn_records import AttemptRecord
from turnmill.store.upkeep.invariants import violations

pytestmark = pytest.mark.usefixtures("sound")

CUT = {"partial": "Once upon", "input_tokens": 0, "output_tokens": 0}


def streamed(store: Database, *, stream: bool = True) -> Claim:
    session = rows.start(store)
    return steps.take_one(store, steps.send(store, session, stream=stream).turn_id)


def said(store: Database, turn_id: TurnId) -> list[MessageRecord]:
    with store.begin() as conn:
        return turns.messages_of(conn, turn_id)


def partial_of(store: Database, turn_id: TurnId) -> list[str]:
    return [one.text for one in said(store, turn_id) if one.partial]


def history_of(store: Database, session_id: SessionId) -> list[str]:
    with store.begin() as conn:
        return [one.text for one in succeeded_history(conn, session_id)]


@pytest.mark.parametrize("keep", [True, False])
def test_what_had_come_is_kept_with_the_verdict_if_it_was_asked_for(
    store: Database, *, keep: bool
) -> None:
    claim = streamed(store)
    assert steps.cancel(store, claim.turn_id, keep_partial=keep) is TurnState.RUNNING
    steps.end(store, claim, TurnState.CANCELLED, **CUT)
    assert partial_of(store, claim.turn_id) == ["Once upon"] * keep
    assert next(one.text for one in said(store, claim.turn_id)) == "hello"
    assert history_of(store, claim.session_id) == []


def test_a_reply_that_came_as_its_turn_was_cancelled_is_kept_as_a_part(store: Database) -> None:
    claim = streamed(store)
    steps.cancel(store, claim.turn_id, keep_partial=True)
    steps.end(store, claim, reply="Once upon a time.")
    assert steps.state(store, claim.turn_id) is TurnState.CANCELLED
    assert partial_of(store, claim.turn_id) == ["Once upon a time."]


def test_a_cut_that_met_a_cancel_leaves_its_part_whatever_the_worker_meant(
    store: Database,
) -> None:
    claim = streamed(store)
    steps.cancel(store, claim.turn_id, keep_partial=True)
    steps.end(store, claim, TurnState.UNKNOWN, **CUT)
    assert steps.state(store, claim.turn_id) is TurnState.CANCELLED
    assert partial_of(store, claim.turn_id) == ["Once upon"]


@pytest.mark.parametrize(
    "state", [TurnState.RETRYING, TurnState.UNKNOWN, TurnState.FAILED, TurnState.DEAD]
)
def test_no_other_end_of_a_call_leaves_a_part_behind(store: Database, state: TurnState) -> None:
    claim = streamed(store)
    steps.end(store, claim, state, **CUT)
    assert [one.role for one in said(store, claim.turn_id)] == ["user"]


def test_nothing_is_kept_of_a_turn_that_was_not_streamed(store: Database) -> None:
    claim = streamed(store, stream=False)
    steps.cancel(store, claim.turn_id, keep_partial=True)
    steps.end(store, claim, reply="whole")
    assert partial_of(store, claim.turn_id) == []


def test_who_asked_to_keep_it_is_not_overruled_by_a_second_cancel(store: Database) -> None:
    claim = streamed(store)
    steps.cancel(store, claim.turn_id, keep_partial=True)
    steps.cancel(store, claim.turn_id)
    steps.end(store, claim, TurnState.CANCELLED, **CUT)
    assert partial_of(store, claim.turn_id) == ["Once upon"]


def test_a_lost_worker_takes_the_part_along_and_the_turn_is_cancelled(store: Database) -> None:
    claim = streamed(store)
    steps.cancel(store, claim.turn_id, keep_partial=True)
    steps.lose(store, claim.turn_id)
    assert steps.state(store, claim.turn_id) is TurnState.CANCELLED
    assert isinstance(steps.end(store, claim, TurnState.CANCELLED, **CUT), Fenced)
    assert partial_of(store, claim.turn_id) == []


def test_a_part_in_the_wrong_place_is_found(store: Database) -> None:
    claim = streamed(store)
    steps.cancel(store, claim.turn_id, keep_partial=True)
    steps.end(store, claim, TurnState.CANCELLED, **CUT)
    for broken in ("SET keep_partial = false", "SET state = 'failed', keep_partial = true"):
        with store.begin() as conn:
            execute(conn, f"UPDATE turnmill.turns {broken}")
        with store.begin() as conn:
            assert "partial_only_if_cancelled" in {one.name for one in violations(conn)}
    with store.begin() as conn:
        execute(conn, "UPDATE turnmill.turns SET state = 'cancelled'")


# Estimates.

ESTIMATE: dict[str, Any] = {
    "input_tokens": 100,
    "output_tokens": 20,
    "cost_usd": Decimal("0.5"),
    "estimated": True,
}


def cut_and_asked_about(store: Database, **estimate: Any) -> Claim:
    """Return the question about a call that was cut, and booked as an estimate."""
    claim = streamed(store)
    steps.end(store, claim, TurnState.UNKNOWN, outcome="maybe_sent", **ESTIMATE | estimate)
    question = steps.take_one(store, claim.turn_id)
    assert (question.kind, question.estimated) == ("check", True)
    return question


def found_out(store: Database, question: Claim, state: TurnState, **options: Any) -> Settlement:
    """Write what the question came to, as a worker's ledger does."""
    settlement = steps.verdict(question, state, counts_again=True, **options)
    with store.begin() as conn:
        withdraw_estimates(conn, [settlement])
        settle(conn, [settlement])
    return settlement


def tried(store: Database, turn_id: TurnId) -> list[AttemptRecord]:
    with store.begin() as conn:
        return turns.attempts_of(conn, turn_id)


def test_an_estimate_is_booked_like_any_usage_and_marked(store: Database) -> None:
    claim = streamed(store)
    steps.cancel(store, claim.turn_id)
    steps.end(store, claim, TurnState.CANCELLED, **ESTIMATE)
    (attempt,) = tried(store, claim.turn_id)
    assert (attempt.estimated, attempt.input_tokens, attempt.output_tokens) == (True, 100, 20)
    turn, session = steps.turn(store, claim.turn_id), steps.session(store, claim.session_id)
    assert (turn.input_tokens, session.output_tokens) == (100, 20)
    assert turn.cost_usd == session.cost_usd == Decimal("0.5")


@pytest.mark.parametrize("looks", [1, 3])
def test_work_in_the_background_is_an_estimate_however_often_it_is_looked_at(
    store: Database, looks: int
) -> None:
    claim = streamed(store)
    steps.end(store, claim, TurnState.WAITING, native_ref="work_1", **ESTIMATE)
    untold = {"input_tokens": 0, "output_tokens": 0, "native_ref": "work_1"}
    for _ in range(looks):
        question = steps.take_one(store, claim.turn_id)
        assert (question.kind, question.estimated) == ("resume", True)
        steps.end(store, question, TurnState.WAITING, **untold)
        (attempt,) = tried(store, claim.turn_id)
        assert (attempt.estimated, attempt.input_tokens) == (True, 100)
    real = {"input_tokens": 90, "output_tokens": 33, "cost_usd": Decimal("0.25")}
    found_out(store, steps.take_one(store, claim.turn_id), TurnState.SUCCEEDED, **real)
    (attempt,) = tried(store, claim.turn_id)
    assert attempt.estimated is False
    turn, session = steps.turn(store, claim.turn_id), steps.session(store, claim.session_id)
    for counted in (attempt, turn, session):
        assert (counted.input_tokens, counted.output_tokens) == (90, 33)
        assert counted.cost_usd == Decimal("0.25")


@pytest.mark.parametrize("cost", [Decimal("0.5"), None])
def test_a_reply_that_is_found_counts_instead_of_the_estimate(
    store: Database, cost: Decimal | None
) -> None:
    question = cut_and_asked_about(store, cost_usd=cost, priced=cost is not None)
    real = {"input_tokens": 90, "output_tokens": 33, "cost_usd": Decimal("0.25")}
    found_out(store, question, TurnState.SUCCEEDED, **real)
    turn, session = steps.turn(store, question.turn_id), steps.session(store, question.session_id)
    for counted in (turn, session):
        assert (counted.input_tokens, counted.output_tokens) == (90, 33)
        assert counted.cost_usd == Decimal("0.25")
    assert session.unpriced_attempts == 0
    assert [one.estimated for one in tried(store, question.turn_id)] == [False, False]


def test_a_call_that_never_was_has_used_nothing(store: Database) -> None:
    question = cut_and_asked_about(store)
    nothing = {"input_tokens": 0, "output_tokens": 0, "outcome": "absent"}
    found_out(store, question, TurnState.RETRYING, **nothing)
    turn, session = steps.turn(store, question.turn_id), steps.session(store, question.session_id)
    assert (turn.input_tokens, turn.output_tokens, turn.cost_usd) == (0, 0, None)
    assert (session.input_tokens, session.cost_usd) == (0, Decimal(0))


def test_an_estimate_of_unknown_size_leaves_no_unknown_sum_behind(store: Database) -> None:
    question = cut_and_asked_about(store, input_tokens=None, cost_usd=None, priced=False)
    assert steps.turn(store, question.turn_id).input_tokens is None
    found_out(store, question, TurnState.SUCCEEDED, input_tokens=90, output_tokens=33)
    assert steps.turn(store, question.turn_id).input_tokens == 90


def test_estimates_of_calls_before_it_stay(store: Database) -> None:
    first = cut_and_asked_about(store)
    steps.end(store, first, TurnState.RETRYING, outcome="unknowable", **dict.fromkeys(_TOKENS, 0))
    again = steps.take_one(store, first.turn_id)
    steps.end(store, again, TurnState.UNKNOWN, outcome="maybe_sent", **ESTIMATE)
    question = steps.take_one(store, first.turn_id)
    found_out(store, question, TurnState.SUCCEEDED, input_tokens=90, output_tokens=33)
    turn = steps.turn(store, question.turn_id)
    assert (turn.input_tokens, turn.output_tokens) == (190, 53)
    assert [one.estimated for one in tried(store, first.turn_id)] == [True, False, False, False]


def test_who_no_longer_holds_a_turn_takes_no_estimate_back(store: Database) -> None:
    late = cut_and_asked_about(store)
    steps.lose(store, late.turn_id)
    found_out(store, late, TurnState.SUCCEEDED)
    assert steps.turn(store, late.turn_id).input_tokens == 100


def test_only_a_question_about_an_estimate_says_so(store: Database) -> None:
    claim = streamed(store)
    assert claim.estimated is False
    steps.end(store, claim, TurnState.UNKNOWN, outcome="maybe_sent")
    assert steps.take_one(store, claim.turn_id).estimated is False


_TOKENS = ("input_tokens", "output_tokens")


def work_in_the_background(store: Database) -> Claim:
    """Return the claim of work that has begun, and is booked as what it was told."""
    claim = streamed(store)
    told = ESTIMATE | {"output_tokens": 0}
    steps.end(store, claim, TurnState.WAITING, outcome="running", native_ref="resp_1", **told)
    return claim


def test_the_reply_of_work_in_the_background_counts_instead_of_the_estimate(
    store: Database,
) -> None:
    begun = work_in_the_background(store)
    steps.due_now(store, begun.turn_id)
    question = steps.take_one(store, begun.turn_id)
    assert (question.kind, question.estimated) == ("resume", True)
    found_out(store, question, TurnState.SUCCEEDED, input_tokens=90, output_tokens=33)
    assert steps.turn(store, begun.turn_id).input_tokens == 90
    assert not any(one.estimated for one in tried(store, begun.turn_id))


def test_work_in_the_background_that_is_cancelled_while_it_waits_keeps_its_estimate(
    store: Database,
) -> None:
    begun = work_in_the_background(store)
    assert steps.cancel(store, begun.turn_id) is TurnState.CANCELLED
    (attempt,) = tried(store, begun.turn_id)
    assert (attempt.estimated, attempt.input_tokens) == (True, 100)
    assert steps.session(store, begun.session_id).cost_usd == Decimal("0.5")
