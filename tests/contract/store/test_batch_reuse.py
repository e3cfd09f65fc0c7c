"""A line that was answered in an earlier batch of the same owner is paid for once."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests import rows
from tests.batch_clients import batches_of
from turnmill.domain.ids import SessionId
from turnmill.domain.states import TurnState
from turnmill.store.database import Database
from turnmill.store.nouns import sessions
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.sync.batches import Batch
from turnmill_worker.process.tending import tend_batches

Make = Callable[..., Batch]


@pytest.fixture
def made(store: Database, tmp_path: Path) -> Make:
    def make(name: str, *lines: Any, **options: Any) -> Batch:
        path = tmp_path / f"{name}.jsonl"
        said = (one if isinstance(one, dict) else {"text": one} for one in lines)
        path.write_text("".join(f"{json.dumps(line)}\n" for line in said))
        return batches_of(store).create(path, **{"user_id": "ada", "name": name, **options})

    return make


def answer(store: Database, batch: Batch) -> None:
    for one in batch.iter_results():
        if one.state is TurnState.QUEUED:
            assert one.turn_id is not None
            rows.run(store, one.turn_id)
    tend_batches(store)


def fresh(batch: Batch) -> list[int]:
    """Return the lines that have turns of their own."""
    return [one.line for one in batch.iter_results() if not one.reused]


def test_what_is_equal_takes_the_answer_and_the_rest_is_asked(store: Database, made: Make) -> None:
    answer(store, made("monday", "a", "b", "c"))
    batch = made("tuesday", "a", "changed", "c", reuse=True)
    assert (fresh(batch), batch.counts.reused) == ([2], 2)
    answer(store, batch)
    results = list(batch.iter_results())
    assert [one.text for one in results] == ["yes"] * 3
    assert [one.cost_usd for one in results] == [0, Decimal("0.25"), 0]
    counts = batch.counts
    assert (counts.state, counts.succeeded, counts.cost_usd) == ("completed", 3, Decimal("0.25"))


def test_an_answer_is_passed_on_by_those_who_took_it(store: Database, made: Make) -> None:
    answer(store, made("first", "a"))
    answer(store, made("second", "a", reuse=True))
    assert fresh(made("third", "a", "a", reuse=True)) == []


def test_a_batch_all_of_whose_lines_are_known_is_complete_at_once(
    store: Database, made: Make
) -> None:
    answer(store, made("first", "a"))
    batch = made("second", "a", reuse=True)
    assert (batch.counts.is_done, batch.counts.state) == (True, "completed")


DIFFERENT: dict[str, dict[str, Any]] = {
    "content": {"text": "b"},
    "model": {"text": "a", "model": "another"},
    "provider": {"text": "a", "provider": "openai", "model": "mock"},
    "system prompt": {"text": "a", "system_prompt": "be brief"},
    "settings": {"text": "a", "settings": {"temperature": 0.5}},
    "user": {"text": "a", "user_id": "grace"},
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_a_line_that_differs_in_anything_is_asked(store: Database, made: Make, what: str) -> None:
    answer(store, made("first", "a"))
    assert fresh(made("second", DIFFERENT[what], reuse=True)) == [1]


def test_what_lines_leave_to_their_batch_counts_too(store: Database, made: Make) -> None:
    answer(store, made("first", "a", settings={"temperature": 0.5}))
    said = {"text": "a", "settings": {"temperature": 0.5}, "provider": "mock", "model": "mock"}
    assert fresh(made("second", said, reuse=True)) == []
    assert fresh(made("third", "a", reuse=True)) == [1]


def test_nothing_is_taken_from_another_owner(store: Database, made: Make) -> None:
    line = {"text": "a", "user_id": "shared"}
    answer(store, made("hers", line, user_id="ada"))
    assert fresh(made("his", line, user_id="grace", reuse=True)) == [1]
    assert fresh(made("nobodys", line, user_id=None, reuse=True)) == [1]
    with store.begin() as conn:
        keys = conn.scalars(select(batch_lines.c.key)).all()
    assert len(set(keys)) == len(keys) == 3


def test_nothing_is_taken_that_nobody_wants_to_reuse_or_that_has_failed_or_is_gone(
    store: Database, made: Make
) -> None:
    failed = made("failed", "a")
    (turn,) = (one.turn_id for one in failed.iter_results())
    assert turn is not None
    rows.run(store, turn, TurnState.FAILED, error_code="refused")
    gone = made("gone", "b")
    answer(store, gone)
    (session,) = (one.session_id for one in gone.iter_results())
    with store.begin() as conn:
        sessions.remove(conn, SessionId(session))  # type: ignore[arg-type]
    answer(store, made("kept", "c"))
    assert fresh(made("next", "a", "b", reuse=True)) == [1, 2]
    assert fresh(made("without", "c")) == [1]


def test_lines_of_a_session_that_goes_on_are_always_asked(store: Database, made: Make) -> None:
    rows.start(store, key="shared", user_id="ada")
    line = {"session": "shared", "text": "a"}
    answer(store, made("first", line))
    assert fresh(made("second", line, reuse=True)) == [1]
