"""Two who retry all that has failed, at once: what both have found runs again once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from tests import rows
from tests.batch_clients import batches_of
from turnmill.domain.errors import MoveRefused
from turnmill.domain.states import TurnState
from turnmill.executor.thread import Executor
from turnmill.store.database import Database
from turnmill.store.line.head import lock_sessions
from turnmill.store.nouns import batch_moves
from turnmill.store.schema.tables import turns
from turnmill.sync.turns import Turns

D, S = TurnState.DEAD, TurnState.SUCCEEDED


def turns_of(store: Database) -> Turns:
    """Return what a client of this store would have."""
    executor: Executor = batches_of(store)._executor
    return Turns(executor)


def copies_of(store: Database, turn: Any) -> int:
    with store.begin() as conn:
        query = select(func.count()).where(turns.c.retry_of == turn)
        return int(conn.scalar(query) or 0)


def test_a_turn_that_two_have_seen_dead_is_copied_once(store: Database) -> None:
    session = rows.start(store)
    dead = rows.send(store, session)
    rows.run(store, dead, D)
    rows.run(store, rows.send(store, session), S)
    mine, theirs = (turns_of(store).get(dead) for _ in range(2))
    theirs.retry(once=True)
    with pytest.raises(MoveRefused, match="meanwhile"):
        mine.retry(once=True)
    with pytest.raises(MoveRefused, match="meanwhile"):
        mine.refresh().retry(once=True)
    assert copies_of(store, dead) == 1
    mine.retry()  # whoever names it means it
    assert copies_of(store, dead) == 2


def test_a_turn_that_died_again_meanwhile_is_left_to_whoever_sees_that(store: Database) -> None:
    dead = rows.send(store, rows.start(store))
    rows.run(store, dead, D)
    mine, theirs = (turns_of(store).get(dead) for _ in range(2))
    theirs.retry(once=True)
    with pytest.raises(MoveRefused, match="queued"):
        mine.retry(once=True)
    rows.run(store, dead, D)
    with pytest.raises(MoveRefused, match="meanwhile"):
        mine.retry(once=True)
    assert mine.refresh().retry(once=True).id == dead


def test_two_who_run_a_batchs_failed_lines_again_copy_none_of_them_twice(
    store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not store.is_postgres:
        pytest.skip("a file has one writer, from the first look on")
    rows.start(store, key="ada:shared")
    path = tmp_path / "jobs.jsonl"
    said = [{"session": "ada:shared", "text": f"{n}"} for n in range(2)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in said))
    batch = batches_of(store).create(path)
    with store.begin() as conn:
        first, second = conn.scalars(select(turns.c.id).order_by(turns.c.batch_line))
    rows.run(store, first, D)
    rows.run(store, second, S)

    others = iter([lambda: batches_of(store).get(batch.id).retry_failed()])

    def somebody_else_comes_first(*given: Any) -> Any:
        nothing: Callable[[], int] = int
        next(others, nothing)()
        return lock_sessions(*given)

    locks = f"{batch_moves.__name__}.lock_sessions"
    monkeypatch.setattr(locks, somebody_else_comes_first)
    batch.retry_failed()

    assert copies_of(store, first) == 1
    assert batch.counts.states == {S: 1, TurnState.QUEUED: 1}
