"""Lines of several messages: each is asked with the reply to the one before it, or not at all."""

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests import rows, steps
from tests.batch_clients import batches_of
from turnmill.domain.batches import BatchState
from turnmill.domain.states import TurnState
from turnmill.store.database import Database
from turnmill.store.schema.tables import sessions, turns
from turnmill.sync.batches import Batch
from turnmill_worker.process.tending import tend_batches

pytestmark = pytest.mark.usefixtures("sound")

F, S = TurnState.FAILED, TurnState.SUCCEEDED


def end(store: Database, turn: Any, state: TurnState, code: str) -> None:
    steps.end(store, steps.take_one(store, turn), state, error_code=code)


def several(store: Database, tmp_path: Path, *, messages: int) -> Batch:
    said = [{"role": "user", "content": f"{n}"} for n in range(messages)]
    path = tmp_path / "talk.jsonl"
    path.write_text(json.dumps({"user_id": "ada", "messages": said}) + "\n")
    return batches_of(store).create(path)


def of_line(store: Database, batch: Batch) -> Sequence[Any]:
    with store.begin() as conn:
        mine = select(turns.c.id).where(turns.c.batch_id == batch.id)
        return conn.scalars(mine.order_by(turns.c.seq)).all()


def test_a_line_fails_with_the_first_of_its_messages_and_runs_again_from_there(
    store: Database, tmp_path: Path
) -> None:
    batch = several(store, tmp_path, messages=3)
    first, second, third = of_line(store, batch)
    rows.run(store, first)
    end(store, second, F, "refused")
    assert steps.take_due(store) == []
    tend_batches(store)
    assert steps.state(store, third) == "failed"
    (result,) = batch.iter_results()
    assert (result.state, result.error_code) == ("failed", "refused")
    assert (batch.counts.states, batch.counts.codes) == ({F: 1}, {"refused": 1})
    assert batch.retry_failed() == 2
    for turn in (second, third):
        rows.run(store, turn)
    tend_batches(store)
    assert (batch.counts.states, batch.counts.state) == ({S: 1}, BatchState.COMPLETED)
    assert batch.counts.cost_usd == Decimal("0.75")


def test_each_message_behind_one_that_failed_counts_as_failed_until_it_runs_again(
    store: Database, tmp_path: Path
) -> None:
    def failed() -> int:
        with store.begin() as conn:
            return int(conn.scalars(select(sessions.c.turns_failed)).one())

    batch = several(store, tmp_path, messages=4)
    end(store, of_line(store, batch)[0], F, "refused")
    tend_batches(store)
    assert failed() == 4
    assert batch.retry_failed() == 4
    assert failed() == 0
