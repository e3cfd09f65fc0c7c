"""Calls of tools that somebody outside has a say in: answered, approved, rejected, or too late."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests import rows, stepping, steps
from turnmill.domain.errors import (
    MoveRefused,
    OutputConflict,
    ToolCallExpired,
    ToolCallNotFound,
    TurnNotFound,
)
from turnmill.domain.ids import TurnId
from turnmill.domain.states import FINAL, Effects, ToolCallState, TurnState
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.nouns import sessions, tool_call_moves, tool_calls, turns
from turnmill.store.nouns.tool_call_moves import Decision, Given
from turnmill.store.nouns.tool_calls import ToolCallRecord
from turnmill.store.records import Claim, Head
from turnmill.store.step_records import NewCall

pytestmark = pytest.mark.usefixtures("sound")

HOUR = timedelta(hours=1)
YES, NO = Decision(agreed=True, by="ada"), Decision(agreed=False, by="ada", why="too dear")
OUTSIDE, ASKED, OURS = ToolCallState.CALLER, ToolCallState.APPROVAL, ToolCallState.PENDING


def called(store: Database, *states: ToolCallState, **options: Any) -> Claim:
    """Return the claim of a turn whose model has made calls that begin in these states."""
    claim = steps.take_one(store, steps.send(store, rows.start(store)).turn_id)
    return stepping.call(store, claim, *calls(*states, **options))


def calls(*states: ToolCallState, expires_in: timedelta | None = HOUR) -> list[NewCall]:
    return [
        stepping.new_call(n, state=state, expires_in=None if state is OURS else expires_in)
        for n, state in enumerate(states)
    ]


def waiting(store: Database, *states: ToolCallState, **options: Any) -> TurnId:
    """Return a turn that waits for somebody outside."""
    claim = called(store, *states, **options)
    assert stepping.wait(store, claim)
    assert steps.state(store, claim.turn_id) is TurnState.WAITING
    return claim.turn_id


def submit(store: Database, turn: TurnId, **outputs: str | Given) -> list[Head]:
    given = {call: one if isinstance(one, Given) else Given(one) for call, one in outputs.items()}
    with store.begin() as conn:
        return tool_call_moves.submit(conn, turn, given)


def decide(store: Database, turn: TurnId, decision: Decision, call: str = "call_0") -> list[Head]:
    with store.begin() as conn:
        return tool_call_moves.decide(conn, turn, call, decision)


def seen(store: Database, turn: TurnId) -> list[ToolCallRecord]:
    with store.single() as conn:
        return tool_calls.calls_of(conn, turn)


def heads(found: list[Head]) -> list[TurnId]:
    return [one.turn_id for one in found]


def test_a_turn_goes_on_when_the_last_output_is_there(store: Database) -> None:
    turn = waiting(store, OUTSIDE, OUTSIDE)
    assert submit(store, turn, call_1="rainy") == []
    assert steps.take(store, turn) == []
    assert heads(submit(store, turn, call_0="sunny")) == [turn]
    claim = steps.take_one(store, turn)
    assert (claim.kind, claim.step, claim.attempt) == ("send", 2, 1)
    assert list(stepping.outputs(claim)) == ["sunny", "rainy"]


def test_outputs_are_shown_with_what_was_asked(store: Database) -> None:
    turn = waiting(store, OUTSIDE, OUTSIDE)
    submit(store, turn, call_0="sunny", call_1=Given("no such city", is_error=True))
    first, second = seen(store, turn)
    assert (first.state, first.output, first.error_code) == (ToolCallState.DONE, "sunny", None)
    assert (second.state, second.output) == (ToolCallState.FAILED, "no such city")
    assert second.error_code == tool_calls.FAILED_OUTSIDE
    assert (first.arguments, first.step, first.call_id, first.waits_for) == ({}, 1, "call_0", None)
    assert "sunny" not in repr(first)
    assert first.ended_at is not None


def test_the_same_output_again_is_no_error_and_another_one_is(store: Database) -> None:
    turn = waiting(store, OUTSIDE, OUTSIDE)
    submit(store, turn, call_0="sunny")
    submit(store, turn, call_0="sunny", call_1="rainy")
    for other in ("rainy", Given("sunny", is_error=True)):
        with pytest.raises(OutputConflict):
            submit(store, turn, call_0=other)
    steps.answer(store, turn)
    assert submit(store, turn, call_0="sunny") == []  # who has not heard that it arrived
    assert steps.state(store, turn) is TurnState.SUCCEEDED


def test_outputs_of_which_one_is_refused_are_none_of_them_written(store: Database) -> None:
    turn = waiting(store, OUTSIDE, OUTSIDE)
    with pytest.raises(ToolCallNotFound) as refused:
        submit(store, turn, call_0="sunny", call_7="rainy")
    assert refused.value.index == 1
    assert [one.state for one in seen(store, turn)] == [OUTSIDE, OUTSIDE]


def test_an_output_is_taken_while_a_worker_runs_the_others(store: Database) -> None:
    claim = called(store, OURS, OUTSIDE)
    assert stepping.begin(store, claim, 2) == {2}
    assert submit(store, claim.turn_id, call_1="rainy") == []
    assert steps.state(store, claim.turn_id) is TurnState.RUNNING
    assert stepping.finish(store, claim, 2) == {2}
    assert stepping.wait(store, claim) is None  # there is nothing to wait for
    steps.end(store, claim, position=4)
    assert [one.output for one in seen(store, claim.turn_id)] == ["sunny", "rainy"]


def test_what_is_answered_before_the_worker_lets_go_is_not_waited_for(store: Database) -> None:
    claim = called(store, OUTSIDE)
    submit(store, claim.turn_id, call_0="sunny")
    assert stepping.wait(store, claim) is None


def test_an_approved_call_is_run_and_who_agreed_is_known(store: Database) -> None:
    turn = waiting(store, ASKED)
    assert heads(decide(store, turn, YES)) == [turn]
    assert decide(store, turn, YES) == []
    (call,) = seen(store, turn)
    assert (call.state, call.approval, call.decided_by, call.why) == (OURS, True, "ada", None)
    assert call.decided_at is not None
    claim = steps.take_one(store, turn)
    stepping.run(store, claim, 2)
    decide(store, turn, Decision(agreed=True, by="bob"))
    assert seen(store, turn)[0].decided_by == "ada"
    with pytest.raises(MoveRefused, match="approved already"):
        decide(store, turn, NO)
    steps.end(store, claim, position=3)


def test_the_model_is_told_of_a_call_that_was_rejected(store: Database) -> None:
    turn = waiting(store, ASKED)
    assert heads(decide(store, turn, NO)) == [turn]
    decide(store, turn, Decision(agreed=False, why="in other words"))
    (call,) = seen(store, turn)
    assert (call.state, call.output, call.why) == (
        ToolCallState.REJECTED,
        "refused: too dear",
        "too dear",
    )
    with pytest.raises(MoveRefused, match="rejected already"):
        decide(store, turn, YES)
    assert list(stepping.outputs(steps.take_one(store, turn))) == ["refused: too dear"]


def test_an_approved_call_does_not_wait_for_the_others(store: Database) -> None:
    turn = waiting(store, ASKED, ASKED, OUTSIDE)
    assert heads(decide(store, turn, YES)) == [turn]
    claim = steps.take_one(store, turn)
    stepping.run(store, claim, 2)
    assert stepping.wait(store, claim)
    assert decide(store, turn, NO, "call_1") == []
    assert steps.turn(store, turn).waits_for == "tool"
    assert heads(submit(store, turn, call_2="rainy")) == [turn]


def test_the_next_expiry_is_that_of_a_call_which_still_waits(store: Database) -> None:
    claim = steps.take_one(store, steps.send(store, rows.start(store)).turn_id)
    soon, late = calls(OUTSIDE)[0], calls(OUTSIDE, OUTSIDE, expires_in=2 * HOUR)[1]
    claim = stepping.call(store, claim, soon, late)
    stepping.wait(store, claim)
    before = steps.turn(store, claim.turn_id).available_at
    submit(store, claim.turn_id, call_0="sunny")
    after = steps.turn(store, claim.turn_id).available_at
    assert timedelta(minutes=59) < after - before < timedelta(minutes=61)


def test_an_output_that_comes_late_is_taken_while_nobody_was_told_otherwise(
    store: Database,
) -> None:
    turn = waiting(store, OUTSIDE)
    stepping.set_receipt(store, turn, expires_at=stepping.ago())
    claim = due_now(store, turn)
    submit(store, turn, call_0="sunny")
    assert stepping.finish(store, claim, 2, state=ToolCallState.EXPIRED) == set()
    assert stepping.states(store, turn) == ["done"]


def due_now(store: Database, turn: TurnId) -> Claim:
    """Claim a turn whose calls have had their time."""
    steps.due_now(store, turn)
    return steps.take_one(store, turn)


@pytest.mark.parametrize("state", [OUTSIDE, ASKED])
def test_after_a_call_has_expired_neither_output_nor_approval_is_taken(
    store: Database, state: ToolCallState
) -> None:
    turn = waiting(store, state)
    stepping.set_receipt(store, turn, expires_at=stepping.ago())
    claim = due_now(store, turn)
    assert stepping.finish(store, claim, 2, state=ToolCallState.EXPIRED, said="late") == {2}
    with pytest.raises(ToolCallExpired):
        submit(store, turn, call_0="sunny") if state is OUTSIDE else decide(store, turn, YES)
    assert seen(store, turn)[0].output == "late"
    steps.end(store, claim, position=3)


REFUSED: dict[str, tuple[ToolCallState, Callable[[Database, TurnId], object], str]] = {
    "output of a call that waits for approval": (
        ASKED,
        lambda store, turn: submit(store, turn, call_0="x"),
        "approval",
    ),
    "output of a call that a worker runs": (
        OURS,
        lambda store, turn: submit(store, turn, call_0="x"),
        "pending",
    ),
    "approval of a call that is answered from outside": (
        OUTSIDE,
        lambda store, turn: decide(store, turn, YES),
        "nobody has to agree",
    ),
    "rejection of a call that a worker runs": (
        OURS,
        lambda store, turn: decide(store, turn, NO),
        "nobody has to agree",
    ),
}


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_what_nobody_has_asked_for_is_refused(store: Database, what: str) -> None:
    state, attempt, words = REFUSED[what]
    turn = called(store, state).turn_id
    with pytest.raises(MoveRefused, match=words) as refused:
        attempt(store, turn)
    assert refused.value.hint
    assert stepping.states(store, turn) == [state]


def test_calls_and_turns_that_are_not_there_are_not_found(store: Database) -> None:
    turn = waiting(store, OUTSIDE)
    with pytest.raises(ToolCallNotFound):
        decide(store, turn, YES, "call_7")
    for read in (tool_calls.calls_of, tool_calls.effects_of):
        with store.begin() as conn, pytest.raises(TurnNotFound):
            read(conn, TurnId(new_id()))
    with pytest.raises(TurnNotFound):
        submit(store, TurnId(new_id()), call_0="x")
    session = steps.turn(store, turn).session_id
    with store.begin() as conn:
        sessions.remove(conn, session)
    with pytest.raises(TurnNotFound):
        submit(store, turn, call_0="x")


@pytest.mark.parametrize("state", [OUTSIDE, ASKED])
def test_a_waiting_turn_that_is_cancelled_leaves_no_call_open(
    store: Database, state: ToolCallState
) -> None:
    turn = waiting(store, state, state)
    behind = steps.send(store, steps.turn(store, turn).session_id).turn_id
    with store.begin() as conn:
        found, due = turns.cancel(conn, turn)
    assert (found, heads(list(due))) == (TurnState.CANCELLED, [behind])
    assert [(one.state, one.error_code) for one in seen(store, turn)] == [
        (ToolCallState.EXPIRED, "cancelled")
    ] * 2
    with pytest.raises(MoveRefused, match="cancelled"):
        submit(store, turn, call_0="x") if state is OUTSIDE else decide(store, turn, YES)


def test_a_running_turn_that_is_cancelled_leaves_no_call_open(store: Database) -> None:
    claim = called(store, OURS, OUTSIDE)
    neighbour = called(store, OURS)
    stepping.begin(store, claim, 2)
    steps.cancel(store, claim.turn_id)
    steps.end(store, claim, TurnState.RETRYING)
    assert steps.state(store, claim.turn_id) is TurnState.CANCELLED
    assert stepping.states(store, claim.turn_id) == ["unknown", "expired"]
    assert stepping.states(store, neighbour.turn_id) == ["pending"]


@pytest.mark.parametrize("state", [TurnState.FAILED, TurnState.DEAD])
def test_a_turn_that_may_be_retried_keeps_its_open_calls_for_that(
    store: Database, state: TurnState
) -> None:
    claim = called(store, OURS, OUTSIDE)
    steps.end(store, claim, state, error_code="x")
    assert stepping.states(store, claim.turn_id) == ["pending", "caller"]
    with pytest.raises(MoveRefused, match=state.value) as refused:
        submit(store, claim.turn_id, call_1="y")
    assert refused.value.hint
    assert steps.retry(store, claim.turn_id).turn_id == claim.turn_id
    assert submit(store, claim.turn_id, call_1="rainy")


def test_what_a_turn_has_done_to_the_world_is_listed_whatever_became_of_it(
    store: Database,
) -> None:
    claim = steps.take_one(store, steps.send(store, rows.start(store)).turn_id)
    kinds = (Effects.NONE, Effects.IDEMPOTENT, Effects.AT_MOST_ONCE, Effects.AT_MOST_ONCE)
    claim = stepping.call(
        store, claim, *(stepping.new_call(n, effects=kind) for n, kind in enumerate(kinds))
    )
    stepping.run(store, claim, 2, 3)
    stepping.begin(store, claim, 4)
    steps.cancel(store, claim.turn_id)
    steps.end(store, claim, TurnState.RETRYING)
    found = effects(store, claim.turn_id)
    assert [(one.effects, one.state, one.runs) for one in found] == [
        (Effects.IDEMPOTENT, ToolCallState.DONE, 1),
        (Effects.AT_MOST_ONCE, ToolCallState.UNKNOWN, 1),
    ]


def test_what_somebody_outside_has_answered_is_among_the_effects(store: Database) -> None:
    turn = waiting(store, *[OUTSIDE] * 3)
    submit(store, turn, call_0="charged", call_1=Given("the card was refused", is_error=True))
    steps.cancel(store, turn)
    assert [one.output for one in effects(store, turn)] == ["charged", "the card was refused"]


def effects(store: Database, turn: TurnId) -> list[ToolCallRecord]:
    with store.begin() as conn:
        return tool_calls.effects_of(conn, turn)


def test_a_lost_worker_of_a_dead_turn_leaves_nothing_that_seems_to_run(store: Database) -> None:
    claim = called(store, OURS)
    stepping.begin(store, claim, 2)
    steps.end(store, claim, TurnState.DEAD, error_code="worker_lost")
    (call,) = seen(store, claim.turn_id)
    assert call.state is ToolCallState.UNKNOWN


def test_turns_are_found_by_what_they_wait_for(store: Database) -> None:
    asked, outside = waiting(store, ASKED), waiting(store, OUTSIDE)
    both = waiting(store, OUTSIDE, ASKED)
    layered = steps.send(store, rows.start(store)).turn_id
    steps.end(store, steps.take_one(store, layered), TurnState.QUEUED, waits_for="budget")
    gone = waiting(store, ASKED)
    steps.cancel(store, gone)

    def found(*names: str, **filters: Any) -> set[TurnId]:
        with store.begin() as conn:
            return {one.id for one in turns.find(conn, waits_for=names, **filters)}

    assert found("approval") == {asked, both}
    assert found("tool") == {outside, both}
    assert found("approval", "tool") == {asked, outside, both}
    assert found("budget") == {layered}
    assert found("weather") == set()
    assert found("tool", session_id=steps.turn(store, both).session_id) == {both}
    with store.begin() as conn:
        listed = tool_calls.waiting_of(conn, [both, asked, gone])
    assert [(one.turn_id, one.waits_for) for one in listed] == [
        (both, "tool"),
        (both, "approval"),
        (asked, "approval"),
    ]


def test_a_name_that_a_vendor_gives_twice_is_that_of_the_call_which_waits(store: Database) -> None:
    turn = waiting(store, OUTSIDE)
    submit(store, turn, call_0="sunny")
    claim = steps.take_one(store, turn)
    claim = stepping.call(store, claim, *calls(OUTSIDE))
    stepping.wait(store, claim)
    assert heads(submit(store, turn, call_0="rainy")) == [turn]
    assert [one.output for one in seen(store, turn)] == ["sunny", "rainy"]
    submit(store, turn, call_0="rainy")
    with pytest.raises(OutputConflict):
        submit(store, turn, call_0="sunny")


def test_a_session_is_removed_with_its_calls(store: Database) -> None:
    turn = waiting(store, OUTSIDE)
    session = steps.turn(store, turn).session_id
    with store.begin() as conn:
        sessions.remove(conn, session)
        assert tool_calls.waiting_of(conn, [turn]) == []


@pytest.mark.parametrize("state", sorted(FINAL - {TurnState.CANCELLED, TurnState.EXPIRED}))
def test_a_turn_without_calls_ends_as_before(store: Database, state: TurnState) -> None:
    claim = steps.take_one(store, steps.send(store, rows.start(store)).turn_id)
    steps.end(store, claim, state)
    assert seen(store, claim.turn_id) == []
