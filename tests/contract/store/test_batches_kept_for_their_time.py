"""Batches whose time is over: their results go as a whole, and later what is left of them."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tests import rows
from tests.batch_clients import batches_of
from turnmill import BatchPurged
from turnmill.domain.batches import BatchState, ShardState
from turnmill.domain.errors import BatchNotFound
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.nouns import batch_feeding, batch_tending, deletions, holds, sessions
from turnmill.store.schema.batch_tables import batch_lines, batch_shards
from turnmill.store.schema.tables import batches, turns
from turnmill.store.types import db_asof_after, db_now
from turnmill.store.upkeep.batch_retention import forget_batches, purge_lines
from turnmill.store.upkeep.invariants import violations
from turnmill.sync.batches import Batch
from turnmill_worker.process.feeding_batches import make_turns

MONTH = timedelta(days=30)


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.jsonl"
    lines = [{"custom_id": f"{n}", "user_id": "ada", "text": f"say {n}"} for n in range(3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def ended(store: Database, jobs: Path) -> Batch:
    """Return a batch of three lines that ended two months ago."""
    batch = batches_of(store).create(jobs, name="monday")
    for one in list(batch.iter_results()):
        assert one.turn_id is not None
        rows.run(store, one.turn_id)
    with store.begin() as conn:
        batch_tending.tend(conn, batch.id)
    set_row(store, batch, ended_at=db_asof_after(-60 * 86_400.0))
    return batch


def set_row(store: Database, batch: Batch, **values: Any) -> None:
    with store.begin() as conn:
        conn.execute(update(batches).where(batches.c.id == batch.id).values(**values))


def lines_of(store: Database) -> int:
    with store.begin() as conn:
        return conn.scalar(select(func.count()).select_from(batch_lines)) or 0


def purge(store: Database, older_than: timedelta = MONTH, limit: int = 100) -> int:
    with store.begin() as conn:
        return purge_lines(conn, older_than=older_than, limit=limit)


def test_results_go_after_their_time_as_a_whole_and_counts_stay(
    store: Database, ended: Batch
) -> None:
    before = ended.counts
    assert purge(store, timedelta(days=61)) == 0
    assert len(list(ended.iter_results())) == 3
    assert purge(store, limit=2) == 2
    assert lines_of(store) == 1
    with pytest.raises(BatchPurged) as gone:
        next(ended.iter_results())
    assert gone.value.code == "batch_purged"
    assert purge(store) == 1
    assert purge(store) == 0
    assert ended.counts == before
    assert before.state is BatchState.COMPLETED
    with store.begin() as conn:
        assert violations(conn) == []


def test_lines_of_a_user_on_hold_stay_with_all_of_their_batch(
    store: Database, ended: Batch
) -> None:
    with store.begin() as conn:
        holds.hold(conn, "ada", "case 7")
    assert purge(store) == 0
    assert len(list(ended.iter_results())) == 3
    with store.begin() as conn:
        holds.release(conn, "ada")
    assert purge(store) == 3


def test_what_was_said_stays_in_the_sessions_of_its_turns(store: Database, ended: Batch) -> None:
    with store.begin() as conn:
        found = conn.scalars(select(turns.c.session_id).where(turns.c.batch_id == ended.id)).all()
    assert found
    purge(store)
    with store.begin() as conn:
        for one in found:
            assert [said.role for said in sessions.history(conn, one)] == ["user", "assistant"]


def test_a_batch_that_is_purged_writes_no_file_and_runs_nothing_again(
    store: Database, ended: Batch, jobs: Path, tmp_path: Path
) -> None:
    purge(store)
    with pytest.raises(BatchPurged):
        ended.results(tmp_path / "results.jsonl")
    assert not (tmp_path / "results.jsonl").exists()
    with pytest.raises(BatchPurged):
        ended.retry_failed()
    again = batches_of(store).create(jobs, name="monday")  # it stands, and is paid for
    assert again.id == ended.id
    assert again.record.purged_at is not None
    assert lines_of(store) == 0


def test_a_batch_that_goes_on_or_of_which_a_vendor_keeps_something_is_left_alone(
    store: Database, ended: Batch
) -> None:
    set_row(store, ended, ended_at=None)
    assert purge(store) == 0
    set_row(store, ended, ended_at=db_asof_after(-60 * 86_400.0))
    shard = {"id": new_id(), "batch_id": ended.id, "n": 1, "provider": "openai", "model": "m"}
    with store.begin() as conn:
        new = batch_shards.insert().values(**shard, state=ShardState.TAKEN, due_at=db_now())
        conn.execute(new)
    assert purge(store) == 0
    with store.begin() as conn:
        conn.execute(update(batch_shards).values(due_at=None))
    assert purge(store) == 3


def test_what_is_left_of_a_batch_goes_when_its_turns_have_gone(
    store: Database, ended: Batch
) -> None:
    def forget() -> int:
        with store.begin() as conn:
            return forget_batches(conn, older_than=MONTH)

    assert forget() == 0  # it has its lines
    purge(store)
    assert forget() == 0  # they went just now
    set_row(store, ended, purged_at=db_asof_after(-31 * 86_400.0))
    assert forget() == 0  # its turns are there
    with store.begin() as conn:
        for one in set(conn.scalars(select(turns.c.session_id))):
            sessions.remove(conn, one)
    assert forget() == 1
    with pytest.raises(BatchNotFound):
        batches_of(store).get("monday")


def test_lines_that_wait_for_a_session_go_with_it_and_their_batch_comes_to_its_end(
    store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the batch is paused: nobody may make turns of them for long."""
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})
    talk, other = rows.start(store), rows.start(store)
    path = tmp_path / "waiting.jsonl"
    lines = [
        {"session": str(one), "text": f"CANARY {n}"} for n, one in enumerate([other, talk, talk])
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    batch = batches_of(store).create(path)
    batch.pause()
    with store.begin() as conn:
        sessions.remove(conn, talk)
        report = deletions.report_of(conn, talk)
        assert conn.scalars(select(batch_lines.c.line)).all() == [1]
    assert report.rows["batch_lines"] == 2
    assert (batch.counts.gone, batch.counts.staged) == (2, 0)
    batch.resume()
    (first,) = batch.iter_results()
    assert first.turn_id is not None
    rows.run(store, first.turn_id)
    make_turns(store)
    with store.begin() as conn:
        batch_tending.tend(conn, batch.id)
        assert violations(conn) == []
    assert batches_of(store).get(batch.id).record.state is BatchState.COMPLETED
