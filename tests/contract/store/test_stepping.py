"""A step is written whole and once, by whoever holds the fence; so is what comes of its calls."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests import rows, stepping, steps
from turnmill.domain.ids import SessionId
from turnmill.domain.states import Effects, ToolCallState, TurnState
from turnmill.store.analytics import usage
from turnmill.store.database import Database
from turnmill.store.line.head import lock_sessions
from turnmill.store.line.settle import was_settled
from turnmill.store.line.stepping import send_instead, was_advanced
from turnmill.store.nouns import sessions, turns
from turnmill.store.records import Claim, Fenced, Locked, Settled
from turnmill.store.schema.tables import turns as turn_rows
from turnmill.store.step_records import Advanced, NewCall

pytestmark = pytest.mark.usefixtures("sound")

ONCE = Effects.AT_MOST_ONCE


def claimed(store: Database, **options: object) -> Claim:
    session = rows.start(store, **options)
    return steps.take_one(store, steps.send(store, session).turn_id)


def taken_again(store: Database, claim: Claim) -> Claim:
    """Let the owner be lost, and somebody else claim the turn."""
    steps.lose(store, claim.turn_id)
    return steps.take_one(store, claim.turn_id, owner="two")


def said(store: Database, session: SessionId) -> list[tuple[str, int]]:
    with store.begin() as conn:
        return [(one.role, one.position) for one in sessions.history(conn, session)]


def test_a_step_is_an_attempt_of_its_own_and_the_turn_goes_on_under_the_next_fence(
    store: Database,
) -> None:
    first = claimed(store)
    second = stepping.call(store, first, cost_usd=Decimal("0.5"), provider_ref="resp_1")
    assert (second.step, second.fence, second.attempt) == (2, first.fence + 1, 1)
    with store.begin() as conn:
        ended, running = turns.attempts_of(conn, first.turn_id)
    assert (ended.outcome, ended.step, ended.input_tokens) == ("called", 1, 3)
    assert ended.cost_usd == Decimal("0.5")
    assert (running.outcome, running.step, running.kind) == (None, 2, "send")
    turn, session = steps.turn(store, first.turn_id), steps.session(store, first.session_id)
    assert (turn.state, turn.step, turn.input_tokens) == ("running", 2, 3)
    assert (session.input_tokens, session.cost_usd) == (3, Decimal("0.5"))
    assert steps.beat(store, second).extended == {first.turn_id}
    assert steps.beat(store, first).gone == {first.turn_id}


def test_what_a_step_has_said_is_history_only_when_its_turn_has_succeeded(store: Database) -> None:
    claim = stepping.call(store, claimed(store), stepping.new_call(0), stepping.new_call(1))
    stepping.run(store, claim, 2, 3)
    later = steps.send(store, claim.session_id).turn_id
    assert steps.session(store, claim.session_id).turns_succeeded == 0
    steps.end(store, claim, reply="It is sunny.")
    assert [one.role for one in steps.take_one(store, later).history or ()] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]
    assert said(store, claim.session_id)[:5] == [
        ("user", 0),
        ("assistant", 1),
        ("tool", 2),
        ("tool", 3),
        ("assistant", 4),
    ]


def test_a_turn_that_ends_otherwise_leaves_nothing_of_its_steps_in_the_history(
    store: Database,
) -> None:
    claim = stepping.call(store, claimed(store))
    stepping.run(store, claim, 2)
    later = steps.send(store, claim.session_id).turn_id
    steps.end(store, claim, TurnState.FAILED)
    assert list(steps.take_one(store, later).history or ()) == []


def test_a_step_of_somebody_who_has_lost_the_turn_changes_nothing(store: Database) -> None:
    lost = claimed(store)
    mine = taken_again(store, lost)
    assert stepping.advance(store, stepping.a_step(lost)) == [Fenced(turn_id=lost.turn_id)]
    assert stepping.receipts(store, lost.turn_id) == []
    assert steps.line(store, lost.session_id).fence == mine.fence


def test_a_turn_that_somebody_wants_to_end_takes_no_further_step(store: Database) -> None:
    claim = claimed(store)
    steps.cancel(store, claim.turn_id)
    assert isinstance(stepping.advance(store, stepping.a_step(claim))[0], Fenced)
    assert isinstance(steps.end(store, claim, TurnState.CANCELLED), Settled)


def test_a_finished_step_costs_no_attempt_and_a_failed_one_does(store: Database) -> None:
    claim = claimed(store, max_attempts=2)
    for _ in range(5):
        claim = stepping.call(store, claim)
        stepping.run(store, claim, claim.next_position - 1)
    assert steps.turn(store, claim.turn_id).attempt == 1
    steps.end(store, claim, TurnState.RETRYING)
    again = steps.take_one(store, claim.turn_id)
    assert (again.attempt, again.step) == (2, 6)
    assert stepping.outputs(again) == ["sunny"] * 5


def test_whoever_claims_the_turn_later_goes_on_at_its_step(store: Database) -> None:
    claim = stepping.call(store, claimed(store), provider_ref="resp_1")
    again = taken_again(store, claim)
    assert (again.step, again.step_ref, again.kind) == (2, "resp_1", "check")
    assert [one.role for one in again.messages] == ["user", "assistant"]
    assert again.provider_ref == ""
    assert stepping.states(store, claim.turn_id) == ["pending"]


def test_calls_without_outputs_were_not_followed_by_a_call_of_the_model(store: Database) -> None:
    again = taken_again(store, stepping.call(store, claimed(store)))
    with store.begin() as conn:
        assert send_instead(conn, again.turn_id, again.fence)
        assert not send_instead(conn, again.turn_id, again.fence - 1)
    stepping.run(store, again, 2)
    assert steps.turn(store, again.turn_id).attempt == 1
    assert taken_again(store, again).kind == "check"  # and from here on it may have been
    assert steps.turn(store, again.turn_id).attempt == 0


@pytest.mark.parametrize("effects", list(Effects))
def test_a_call_that_was_begun_is_begun_again_unless_it_may_happen_once_only(
    store: Database, effects: Effects
) -> None:
    claim = stepping.call(store, claimed(store), stepping.new_call(effects=effects))
    assert stepping.begin(store, claim, 2) == {2}
    again = taken_again(store, claim)
    expected = set() if effects is ONCE else {2}
    assert stepping.begin(store, again, 2) == expected
    (receipt,) = stepping.receipts(store, claim.turn_id)
    assert receipt.runs == 1 + len(expected)
    assert receipt.idempotency_key == f"{claim.turn_id}:2"


def test_a_call_is_not_begun_by_somebody_who_has_lost_the_turn(store: Database) -> None:
    claim = stepping.call(store, claimed(store))
    again = taken_again(store, claim)
    assert stepping.begin(store, claim, 2) == set()
    assert stepping.begin(store, again, 2) == {2}


def test_an_output_of_somebody_who_has_lost_the_turn_is_not_written(store: Database) -> None:
    claim = stepping.call(store, claimed(store))
    stepping.begin(store, claim, 2)
    taken_again(store, claim)
    assert stepping.finish(store, claim, 2) == set()
    assert stepping.states(store, claim.turn_id) == ["running"]


def test_no_call_is_begun_for_a_turn_that_is_to_end_and_what_was_begun_may_end(
    store: Database,
) -> None:
    claim = stepping.call(store, claimed(store), stepping.new_call(0), stepping.new_call(1))
    stepping.begin(store, claim, 2)
    steps.cancel(store, claim.turn_id)
    assert stepping.begin(store, claim, 3) == set()
    assert stepping.finish(store, claim, 2) == {2}
    steps.end(store, claim, TurnState.CANCELLED)
    assert stepping.states(store, claim.turn_id) == ["done", "expired"]


def test_a_begin_whose_commit_nobody_acknowledged_is_not_a_second_run(store: Database) -> None:
    claim = stepping.call(store, claimed(store), stepping.new_call(effects=ONCE))
    assert stepping.begin(store, claim, 2) == {2}
    assert stepping.begin(store, claim, 2) == {2}
    assert stepping.receipts(store, claim.turn_id)[0].runs == 1


def test_an_output_is_written_once_and_with_its_receipt(store: Database) -> None:
    claim = stepping.call(store, claimed(store))
    stepping.run(store, claim, 2)
    assert stepping.finish(store, claim, 2, said="rainy") == set()
    assert stepping.outputs(taken_again(store, claim)) == ["sunny"]
    (receipt,) = stepping.receipts(store, claim.turn_id)
    assert (receipt.state, receipt.ended_at is None) == (ToolCallState.DONE, False)


def test_a_call_whose_outcome_is_unknown_is_told_so_by_another_claim_only(store: Database) -> None:
    claim = stepping.call(store, claimed(store), stepping.new_call(effects=ONCE))
    unknown = ToolCallState.UNKNOWN
    assert stepping.finish(store, claim, 2, state=unknown) == set()
    stepping.begin(store, claim, 2)
    assert stepping.finish(store, claim, 2, state=unknown) == set()
    again = taken_again(store, claim)
    assert stepping.finish(store, again, 2, state=unknown) == {2}
    assert stepping.states(store, claim.turn_id) == ["unknown"]


def test_of_a_turn_that_has_ended_a_call_that_was_begun_is_told_as_unknown(store: Database) -> None:
    claim = stepping.call(store, claimed(store))
    stepping.begin(store, claim, 2)
    steps.end(store, claim, TurnState.FAILED)
    assert stepping.states(store, claim.turn_id) == ["unknown"]
    steps.retry(store, claim.turn_id)
    assert stepping.states(store, claim.turn_id) == ["running"]


CALLER = stepping.new_call(state=ToolCallState.CALLER, expires_in=timedelta(hours=1))
APPROVAL = stepping.new_call(state=ToolCallState.APPROVAL)


def test_a_turn_waits_for_those_outside_until_the_first_of_them_has_had_his_time(
    store: Database,
) -> None:
    claim = stepping.call(store, claimed(store), CALLER, replace(CALLER, call_id="call_1"))
    found = stepping.wait(store, claim)
    assert isinstance(found, Settled)
    assert found.due_at is not None
    record = steps.turn(store, claim.turn_id)
    assert (record.state, record.waits_for) == ("waiting", "tool")
    assert steps.take(store, claim.turn_id) == []
    steps.due_now(store, claim.turn_id)
    again = steps.take_one(store, claim.turn_id)
    assert (again.kind, again.attempt, again.step) == ("send", claim.attempt, 2)


def test_what_somebody_has_to_agree_to_is_waited_for_as_that(store: Database) -> None:
    claim = stepping.call(store, claimed(store), CALLER, replace(APPROVAL, call_id="call_1"))
    assert stepping.receipts(store, claim.turn_id)[1].approval
    assert isinstance(stepping.wait(store, claim), Settled)
    assert steps.turn(store, claim.turn_id).waits_for == "approval"


@pytest.mark.parametrize("state", [ToolCallState.PENDING, ToolCallState.DONE])
def test_a_turn_does_not_wait_where_there_is_something_to_do_already(
    store: Database, state: ToolCallState
) -> None:
    claim = stepping.call(store, claimed(store), CALLER)
    stepping.set_receipt(store, claim.turn_id, state=ToolCallState.PENDING)
    if state is ToolCallState.DONE:
        stepping.run(store, claim, 2)
    assert stepping.wait(store, claim) is None
    assert steps.state(store, claim.turn_id) == "running"


def test_a_call_that_nobody_answers_expires_when_its_time_is_over_and_not_before(
    store: Database,
) -> None:
    claim = stepping.call(store, claimed(store), CALLER)
    expired = ToolCallState.EXPIRED
    assert stepping.finish(store, claim, 2, state=expired) == set()
    stepping.set_receipt(store, claim.turn_id, expires_at=stepping.ago())
    assert stepping.receipts(store, claim.turn_id)[0].overdue
    assert stepping.wait(store, claim) is None
    assert stepping.finish(store, claim, 2, state=expired) == {2}


def test_a_step_whose_commit_nobody_acknowledged_is_recognised(store: Database) -> None:
    claim = claimed(store)
    with store.single() as conn:
        assert was_advanced(conn, claim.turn_id, claim.fence) is None
    after = stepping.call(store, claim)
    with store.single() as conn:
        found = was_advanced(conn, claim.turn_id, claim.fence)
        assert was_settled(conn, claim.turn_id, after.fence) is None
    assert found == Advanced(turn_id=claim.turn_id, fence=after.fence, step=2, attempt=1, n=after.n)
    taken_again(store, after)
    with store.single() as conn:
        assert was_advanced(conn, claim.turn_id, claim.fence) is None


def test_steps_of_many_sessions_are_written_together(store: Database) -> None:
    claims = [claimed(store) for _ in range(5)]
    steps.cancel(store, claims[2].turn_id)
    found = stepping.advance(store, *(stepping.a_step(one) for one in claims))
    assert [type(one) for one in found] == [Advanced, Advanced, Fenced, Advanced, Advanced]
    steps.end(store, claims[2], TurnState.CANCELLED)


def test_work_in_the_background_that_ends_in_calls_is_done_with(store: Database) -> None:
    claim = claimed(store)
    steps.end(store, claim, TurnState.WAITING, native_ref="resp_1")
    steps.due_now(store, claim.turn_id)
    resumed = steps.take_one(store, claim.turn_id)
    after = stepping.call(store, resumed, native_ref="", provider_ref="resp_1")
    with store.begin() as conn:
        row = conn.execute(turn_rows.select().where(turn_rows.c.id == claim.turn_id)).one()
    assert (row.native_ref, row.claimed_for, row.step_ref) == ("", "send", "resp_1")
    stepping.run(store, after, 2)
    steps.end(store, after, provider_ref="resp_1")


def failed_with_calls(store: Database, *calls: NewCall) -> Claim:
    """Return the claim of a turn that has died with the first of its calls answered."""
    claim = stepping.call(store, claimed(store), *calls, provider_ref="resp_1")
    stepping.run(store, claim, 2)
    stepping.begin(store, claim, 3)
    later = steps.send(store, claim.session_id).turn_id
    steps.end(store, claim, TurnState.FAILED)
    steps.answer(store, later)
    return claim


def test_a_failed_turn_that_is_retried_in_place_goes_on_at_its_step(store: Database) -> None:
    claim = stepping.call(store, claimed(store), provider_ref="resp_1")
    stepping.run(store, claim, 2)
    steps.end(store, claim, TurnState.FAILED)
    steps.retry(store, claim.turn_id)
    again = steps.take_one(store, claim.turn_id)
    assert (again.step, again.step_ref, again.attempt) == (2, "resp_1", 1)
    assert stepping.outputs(again) == ["sunny"]


def test_a_failed_turn_that_is_retried_as_another_takes_along_what_it_has_done(
    store: Database,
) -> None:
    calls = [stepping.new_call(n, effects=ONCE) for n in range(3)]
    old = failed_with_calls(store, *calls)
    again = steps.take_one(store, steps.retry(store, old.turn_id).turn_id)
    assert again.turn_id != old.turn_id
    assert (again.step, again.step_ref) == (2, "")
    assert [one.role for one in again.messages] == ["user", "assistant", "tool"]
    assert stepping.states(store, again.turn_id) == ["done", "running", "pending"]
    assert stepping.begin(store, again, 3, 4) == {4}
    kept = stepping.receipts(store, again.turn_id)
    assert [one.idempotency_key for one in kept] == [f"{old.turn_id}:{n}" for n in (2, 3, 4)]


def test_what_a_retried_turn_takes_along_is_run_by_one_of_two_that_are_made_of_it(
    store: Database,
) -> None:
    old = failed_with_calls(store, *(stepping.new_call(n, effects=ONCE) for n in range(3)))
    first, second = (steps.retry(store, old.turn_id).turn_id for _ in range(2))
    assert stepping.states(store, first) == ["done", "running", "pending"]
    assert stepping.states(store, second) == ["done", "unknown", "unknown"]
    steps.end(store, steps.take_one(store, first), TurnState.FAILED)
    steps.end(store, steps.take_one(store, second), TurnState.FAILED)
    third = steps.retry(store, first).turn_id
    assert third not in {first, second}
    kept = stepping.receipts(store, third)
    assert kept[0].idempotency_key == f"{old.turn_id}:2"


def test_a_finished_step_counts_as_no_retry_in_the_figures(store: Database) -> None:
    claim = stepping.call(store, claimed(store))
    stepping.run(store, claim, 2)
    steps.end(store, claim, TurnState.RETRYING)
    steps.due_now(store, claim.turn_id)
    steps.end(store, steps.take_one(store, claim.turn_id))
    finished_at = steps.turn(store, claim.turn_id).finished_at
    assert finished_at is not None
    today = finished_at.date()
    with store.begin() as conn:
        usage.roll_up(conn)
        (row,) = usage.report(conn, first=today, last=today)
    assert (row.attempts, row.retries) == (3, 1)


def test_a_busy_session_is_passed_over_and_nobody_waits(database_url: str) -> None:
    store = Database(database_url)
    claim = claimed(store)
    with store.begin() as other:
        lock_sessions(other, [claim.session_id])
        assert stepping.advance(store, stepping.a_step(claim)) == [Locked(turn_id=claim.turn_id)]
    stepping.call(store, claim)
    store.close()
