"""How far a batch is, is counted where its turns end, whichever way they do."""

import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tests import rows, steps
from tests.batch_clients import batches_of
from tests.budgeting import bound
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import FINAL, TurnState
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.nouns import sessions
from turnmill.store.nouns import turns as turn_rows
from turnmill.store.schema.batch_tables import batch_tallies
from turnmill.store.schema.tables import turns
from turnmill.store.upkeep.invariants import violations
from turnmill.sync.batches import Batch
from turnmill.verbs.batch_words import said_of
from turnmill_worker.process.tending import tend_batches

LINES = 40


@pytest.fixture
def batch(store: Database, tmp_path: Path) -> Batch:
    """Return a batch of which some lines go on with one session, in their order."""
    rows.start(store, key="shared")
    path = tmp_path / "jobs.jsonl"
    with path.open("w") as file:
        for n in range(LINES):
            whose = {"session": "shared"} if n % 4 == 0 else {"user_id": f"user-{n}"}
            file.write(json.dumps({"text": "hi", "custom_id": f"{n}", **whose}) + "\n")
    return batches_of(store).create(path)


def of(store: Database, batch: Batch) -> list[Any]:
    """Return the turns of the batch as their rows say they are."""
    with store.begin() as conn:
        query = select(turns).where(turns.c.batch_id == batch.id).order_by(turns.c.batch_line)
        return list(conn.execute(query))


def counted(store: Database, batch: Batch) -> tuple[dict[str, int], dict[str, int]]:
    """Count the turns one by one: by state, and those without a reply by code."""
    found = of(store, batch)
    codes = Counter(one.error_code for one in found if one.error_code and one.state in FINAL)
    return dict(Counter(one.state for one in found)), dict(codes)


def _end(state: TurnState, **verdict: Any) -> Callable[[Database, Any], None]:
    def end(store: Database, turn: Any) -> None:
        for claim in steps.take(store, turn.id):
            steps.end(store, claim, state, **verdict)

    return end


def _cancel(store: Database, turn: Any) -> None:
    steps.cancel(store, turn.id)


def _cancel_in_flight(store: Database, turn: Any) -> None:
    for claim in steps.take(store, turn.id):
        steps.cancel(store, turn.id)
        steps.end(store, claim, TurnState.SUCCEEDED)


def _retry(store: Database, turn: Any) -> None:
    if turn.state in turn_rows.RETRIED:
        with store.begin() as conn:
            turn_rows.retry(conn, turn.id, new_id=TurnId(new_id()))


def _delete(store: Database, turn: Any) -> None:
    with store.begin() as conn:
        sessions.remove(conn, SessionId(turn.session_id))


MOVES: list[Callable[[Database, Any], None]] = [
    *[_end(TurnState.SUCCEEDED, cost_usd=Decimal("0.125"))] * 3,
    *[_end(TurnState.FAILED, error_code="refused", cost_usd=Decimal("0.5"))] * 2,
    _end(TurnState.DEAD, error_code="overloaded"),
    _end(TurnState.RETRYING, error_code="overloaded"),
    _cancel,
    _cancel_in_flight,
    *[_retry] * 3,
]


@pytest.mark.parametrize("seed", range(4))
def test_the_counts_are_those_of_the_turns_whatever_happens_to_them(
    store: Database, batch: Batch, seed: int
) -> None:
    dice = random.Random(seed)
    for n in range(60):
        found = of(store, batch)
        dice.choice(MOVES if n % 10 else [_delete])(store, dice.choice(found))
        counts = batch.counts
        states, codes = counted(store, batch)
        assert {state.value: count for state, count in counts.states.items()} == states
        assert dict(counts.codes) == codes
        assert counts.finished == sum(states.get(state, 0) for state in FINAL)
    batch.cancel()
    tend_batches(store)
    assert of_batches(store) == []


def test_a_line_that_used_nothing_is_none_of_unknown_cost(store: Database, batch: Batch) -> None:
    refused, answered, cut = of(store, batch)[1:4]
    none = (0, 0, 0)
    rows.run(store, refused.id, TurnState.FAILED, cost=None, tokens=none, error_code="refused")
    rows.run(store, answered.id, cost=None)
    rows.run(store, cut.id, TurnState.FAILED, cost=None, tokens=(None,) * 3, error_code="timeout")
    assert batch.counts.unpriced == 2
    assert batch.retry_failed() == 2
    assert batch.counts.unpriced == 1


def test_what_a_batch_has_spent_is_what_its_turns_have(store: Database, batch: Batch) -> None:
    first, second, third = of(store, batch)[1:4]
    rows.run(store, first.id)
    rows.run(store, second.id, TurnState.FAILED, error_code="refused")
    rows.run(store, third.id, cost=None)
    assert (batch.counts.cost_usd, batch.counts.unpriced) == (Decimal("0.5"), 1)
    assert batch.retry_failed() == 1
    rows.run(store, second.id)
    with store.begin() as conn:
        query = select(func.sum(turns.c.cost_usd), func.sum(turns.c.input_tokens))
        cost, tokens = conn.execute(query.where(turns.c.batch_id == batch.id)).one()
    assert (batch.counts.cost_usd, batch.counts.input_tokens) == (cost, tokens)


def test_turns_of_no_batch_are_counted_nowhere(store: Database, batch: Batch) -> None:
    turn = rows.send(store, rows.start(store))
    rows.run(store, turn)
    assert batch.counts.finished == 0


def of_batches(store: Database) -> list[str]:
    with store.begin() as conn:
        return [one.name for one in violations(conn) if one.name == "batch_counts_its_lines"]


def test_a_batch_that_was_miscounted_is_found(store: Database, batch: Batch) -> None:
    batch.cancel()
    tend_batches(store)
    assert of_batches(store) == []
    with store.begin() as conn:
        conn.execute(update(batch_tallies).values(n=batch_tallies.c.n - 1))
    assert of_batches(store) == ["batch_counts_its_lines"]


def test_lines_that_no_budget_has_room_for_are_counted_apart(store: Database, batch: Batch) -> None:
    def wait(*, for_budget: int) -> None:
        heads = iter([one.id for one in of(store, batch) if one.session_id in own])
        for n in range(for_budget + 1):
            (claim,) = steps.take(store, next(heads))
            reason = "budget" if n else "limit"
            steps.end(store, claim, TurnState.QUEUED, waits_for=reason, delay=timedelta(minutes=1))

    def listed() -> list[int | None]:
        return [one.record.waiting_for_budget for one in batches_of(store).list()]

    lines = Counter(one.session_id for one in of(store, batch))
    own = {session for session, turns in lines.items() if turns == 1}
    wait(for_budget=3)
    assert (batch.counts.waiting_for_budget, listed()) == (0, [0])  # there is none any more
    bound(store, "1")
    counts = batch.counts
    assert (counts.waiting_for_budget, listed()) == (3, [3])
    assert counts.states == {TurnState.QUEUED: LINES}
    assert said_of(counts) == ["3 waiting for a budget"]
