"""Calls of tools, answered by many at once: whoever comes first, the model is told once."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import rows, stepping, steps, stores
from tests.crowd import at_once, succeeded
from turnmill.domain.errors import Conflict, TurnmillError
from turnmill.domain.ids import TurnId
from turnmill.domain.states import FINAL, ToolCallState, TurnState
from turnmill.store.database import Database
from turnmill.store.nouns import tool_call_moves, tool_calls, turns
from turnmill.store.nouns.tool_call_moves import Decision, Given
from turnmill.store.nouns.tool_calls import ToolCallRecord
from turnmill.store.records import Claim

ROUNDS = 12
OUTSIDE, ASKED, OURS = ToolCallState.CALLER, ToolCallState.APPROVAL, ToolCallState.PENDING


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=10, overflow=10)
    yield database
    steps.assert_sound(database)
    database.close()


def waiting(store: Database, *states: ToolCallState) -> Claim:
    """Return the claim under which a turn was put off that now waits for somebody outside."""
    claim = steps.take_one(store, steps.send(store, rows.start(store)).turn_id)
    calls = [
        stepping.new_call(n, state=state, expires_in=timedelta(hours=1))
        for n, state in enumerate(states)
    ]
    claim = stepping.call(store, claim, *calls)
    stepping.wait(store, claim)
    return claim


def submit(store: Database, turn: TurnId, call: str, output: str) -> bool:
    """Submit an output; True where a worker is to be told."""
    with store.begin() as conn:
        return bool(tool_call_moves.submit(conn, turn, {call: Given(output)}))


def decide(store: Database, turn: TurnId, call: str, agreed: bool) -> bool:
    with store.begin() as conn:
        return bool(tool_call_moves.decide(conn, turn, call, Decision(agreed=agreed)))


def cancel(store: Database, turn: TurnId) -> TurnState:
    with store.begin() as conn:
        return turns.cancel(conn, turn)[0]


def expire(store: Database, turn: TurnId) -> set[int]:
    """Do what a worker does when the time of a call is over."""
    taken = steps.take(store, turn)
    return late(store, taken[0], 2) if taken else set()


def late(store: Database, claim: Claim, position: int) -> set[int]:
    return stepping.finish(store, claim, position, state=ToolCallState.EXPIRED, said="late")


def seen(store: Database, turn: TurnId) -> list[ToolCallRecord]:
    with store.begin() as conn:
        return tool_calls.calls_of(conn, turn)


def refused(results: Sequence[object]) -> list[Exception]:
    """Return the refusals among them; anything else that was raised is a fault."""
    found = [one for one in results if isinstance(one, Exception)]
    assert all(isinstance(one, Conflict) for one in found), found
    return found


def test_the_same_output_from_many_at_once_is_one_output(store: Database) -> None:
    turn = waiting(store, OUTSIDE).turn_id
    told = succeeded(at_once(*[partial(submit, store, turn, "call_0", "sunny")] * 10))
    assert any(told)
    assert list(stepping.outputs(steps.take_one(store, turn))) == ["sunny"]


def test_of_different_outputs_at_once_one_stands_and_the_others_are_refused(
    store: Database,
) -> None:
    turn = waiting(store, OUTSIDE).turn_id
    results = at_once(*[partial(submit, store, turn, "call_0", f"{n}") for n in range(10)])
    assert len(refused(results)) == 9
    (first,) = [n for n, one in enumerate(results) if not isinstance(one, Exception)]
    assert list(stepping.outputs(steps.take_one(store, turn))) == [f"{first}"]


def test_parallel_outputs_of_one_turn_make_it_due_with_the_last(store: Database) -> None:
    for _ in range(ROUNDS):
        turn = waiting(store, *[OUTSIDE] * 5).turn_id
        told = succeeded(
            at_once(*[partial(submit, store, turn, f"call_{n}", f"{n}") for n in range(5)])
        )
        assert told.count(True) == 1
        assert list(stepping.outputs(steps.take_one(store, turn))) == [f"{n}" for n in range(5)]


def test_an_output_that_meets_its_expiry_is_told_or_refused_and_never_both(
    store: Database,
) -> None:
    for _ in range(ROUNDS):
        turn = waiting(store, OUTSIDE).turn_id
        stepping.set_receipt(store, turn, expires_at=stepping.ago())
        steps.due_now(store, turn)
        submitted, expired = at_once(
            partial(submit, store, turn, "call_0", "sunny"), partial(expire, store, turn)
        )
        (call,) = seen(store, turn)
        taken = refused([submitted]) == []
        assert (call.output == "sunny") is taken
        assert (expired == {2}) is not taken


def test_an_approval_that_meets_a_cancel_leaves_nothing_to_be_run(store: Database) -> None:
    for _ in range(ROUNDS):
        turn = waiting(store, ASKED).turn_id
        approved, cancelled = at_once(
            partial(decide, store, turn, "call_0", True), partial(cancel, store, turn)
        )
        assert cancelled is TurnState.CANCELLED
        refused([approved])
        (call,) = seen(store, turn)
        assert call.state is ToolCallState.EXPIRED
        assert steps.take(store, turn) == []


def test_a_worker_that_lets_go_while_the_last_output_comes_never_waits_for_it(
    store: Database,
) -> None:
    for _ in range(ROUNDS):
        claim = steps.take_one(store, steps.send(store, rows.start(store)).turn_id)
        call = stepping.new_call(state=OUTSIDE, expires_in=timedelta(hours=1))
        claim = stepping.call(store, claim, call)
        waits, _ = succeeded(
            at_once(
                partial(stepping.wait, store, claim),
                partial(submit, store, claim.turn_id, "call_0", "sunny"),
            )
        )
        assert waits is None or steps.take(store, claim.turn_id)


def lose(store: Database, turn: TurnId) -> None:
    if steps.state(store, turn) is TurnState.RUNNING:
        steps.lose(store, turn)


MOVES: dict[str, Callable[[Database, TurnId, str], Any]] = {
    "submit": lambda store, turn, call: submit(store, turn, call, "sunny"),
    "submit other": lambda store, turn, call: submit(store, turn, call, "rainy"),
    "approve": lambda store, turn, call: decide(store, turn, call, agreed=True),
    "reject": lambda store, turn, call: decide(store, turn, call, agreed=False),
    "cancel": lambda store, turn, _: cancel(store, turn),
    "lose": lambda store, turn, _: lose(store, turn),
}
some_calls = st.lists(st.sampled_from([OUTSIDE, ASKED, OURS]), min_size=1, max_size=4)
some_moves = st.lists(
    st.tuples(st.sampled_from([*MOVES, "work", "expire", "work"]), st.integers(0, 3)), max_size=8
)


@pytest.mark.long
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(states=some_calls, moves=some_moves)
def test_in_whatever_order_they_come_a_call_is_answered_once_and_a_turn_never_stands_still(
    memory: Database, states: list[ToolCallState], moves: list[tuple[str, int]]
) -> None:
    store = memory
    claim = steps.take_one(store, steps.send(store, rows.start(store)).turn_id)
    turn = claim.turn_id
    calls = [
        stepping.new_call(n, state=one, expires_in=None if one is OURS else timedelta(hours=1))
        for n, one in enumerate(states)
    ]
    claim = stepping.call(store, claim, *calls)
    last = seen(store, turn)
    for move, which in moves:
        call = f"call_{which % len(states)}"
        refused = False
        if move in ("work", "expire"):
            claim = work(store, turn, claim, expires=move == "expire") or claim
        else:
            try:
                MOVES[move](store, turn, call)
            except TurnmillError:
                refused = True
        found = seen(store, turn)
        assert not refused or found == last
        for before, one in zip(last, found, strict=True):
            assert before.output in (None, one.output)
        never_stands_still(store, turn, found)
        last = found


@pytest.fixture(scope="module")
def memory() -> Iterator[Database]:
    database = stores.in_memory()
    yield database
    steps.assert_sound(database)  # of all examples at once: it reads everything
    database.close()


def work(store: Database, turn: TurnId, claim: Claim, *, expires: bool) -> Claim | None:
    """Do what a worker does with a turn that is due, or that it holds, until it lets go."""
    if expires:
        stepping.set_receipt(store, turn, expires_at=stepping.ago())
        if steps.state(store, turn) is TurnState.WAITING:
            steps.due_now(store, turn)
    if steps.state(store, turn) is not TurnState.RUNNING:
        taken = steps.take(store, turn)
        if not taken:
            return None
        claim = taken[0]
    for one in seen(store, turn):
        if one.state is OURS and stepping.begin(store, claim, one.position):
            stepping.finish(store, claim, one.position)
        if one.waits_for and expires:
            late(store, claim, one.position)
    stepping.wait(store, claim)
    return claim


def never_stands_still(store: Database, turn: TurnId, calls: Sequence[ToolCallRecord]) -> None:
    """A turn is final, is held, is due, or has a call that somebody outside is asked about."""
    record = steps.turn(store, turn)
    if record.state in FINAL or record.state is TurnState.RUNNING:
        return
    asked = [one for one in calls if one.waits_for]
    with store.begin() as conn:
        listed = [
            one.id
            for one in turns.find(
                conn, waits_for=("tool", "approval"), session_id=record.session_id
            )
        ]
    assert (turn in listed) == bool(asked)
    assert asked or record.available_at <= datetime.now(UTC)
