"""Lines of a batch before they are turns: staged as they are read, sealed, and fed in bounds."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, text, update

from tests import rows, steps
from tests.batch_clients import batches_of
from tests.batch_files import Write, hello, writing
from tests.budgeting import bound
from tests.store_errors import PASSING, raising
from turnmill.domain.errors import (
    Conflict,
    InvalidBatchFile,
    MoveRefused,
)
from turnmill.domain.ids import SessionId
from turnmill.domain.states import TurnState
from turnmill.store.database import Database
from turnmill.store.message_records import MessageRecord
from turnmill.store.nouns import batch_feeding, batch_staging, sessions
from turnmill.store.nouns import turns as turn_store
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.tables import batches as batch_rows
from turnmill.store.turn_records import TurnRecord
from turnmill.store.types import db_after
from turnmill.sync.batches import Batches
from turnmill.verbs import submitting
from turnmill.verbs.submitting import Submission
from turnmill_worker.process import feeding_batches
from turnmill_worker.process.feeding_batches import make_turns


class Crash(Exception):
    """The submitter was killed here."""


@pytest.fixture
def batches(store: Database) -> Batches:
    return batches_of(store, max_text_bytes=1000)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writing(tmp_path)


def stage_until(monkeypatch: pytest.MonkeyPatch, chunks: int, then: Callable[[], None]) -> None:
    """Do this in the place of writing the chunk of lines after so many."""
    real, left = batch_staging.stage, iter([False] * chunks + [True])

    def stage(conn: Connection, *given: Any, **named: Any) -> None:
        if next(left, False):
            then()
        real(conn, *given, **named)

    for name in ("CHUNK", "CHUNK_OF_SQLITE"):
        monkeypatch.setattr(f"turnmill.verbs.submitting.{name}", 4)
    monkeypatch.setattr(batch_staging, "stage", stage)


def die() -> None:
    raise Crash


def test_a_submitter_that_was_killed_goes_on_where_it_stopped(
    store: Database, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_until(monkeypatch, 2, die)
    path = write(*(hello(n) for n in range(10)), {"session": "shared", "text": "last"})
    rows.start(store, key="shared")
    with pytest.raises(Crash):
        batches_of(store).create(path)
    half = batches_of(store).list()[0]
    assert half.record.last_line == 8
    assert (half.counts.staged, half.counts.total, half.counts.closed) == (8, None, False)

    whole = batches_of(store).create(path)
    assert whole.id == half.id
    assert whole.counts.total == whole.counts.accepted == 11
    assert [result.line for result in whole.iter_results()] == list(range(1, 12))


def test_nothing_of_a_batch_runs_before_every_line_stands(
    store: Database, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_until(monkeypatch, 1, die)
    with pytest.raises(Crash):
        batches_of(store).create(write(*(hello(n) for n in range(5))))
    assert make_turns(store) == []
    with store.begin() as conn:
        assert sessions.find(conn) == []
    assert [one.state for one in batches_of(store).list()[0].iter_results()] == [None] * 4


def test_a_bad_line_of_the_part_that_a_killed_submitter_has_read_is_found_by_the_next(
    store: Database, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_until(monkeypatch, 2, die)
    path = write(hello(0), "null", *(hello(n) for n in range(1, 9)))
    with pytest.raises(Crash):
        batches_of(store).create(path)
    with pytest.raises(InvalidBatchFile) as caught:
        batches_of(store).create(path)
    assert [line for line, _, _ in caught.value.problems] == [2]
    assert batches_of(store).list() == []


def test_a_submission_that_nobody_goes_on_with_is_removed_after_a_day(
    store: Database, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = batches_of(store).create(write(hello(0), name="whole.jsonl"))
    stage_until(monkeypatch, 1, die)
    with pytest.raises(Crash):
        batches_of(store).create(write(*(hello(n) for n in range(5))))
    day = timedelta(days=1)
    with store.begin() as conn:
        assert batch_staging.forget_unfinished(conn, older_than=day) == 0
        conn.execute(update(batch_rows).values(created_at=db_after(-2 * day.total_seconds())))
        while batch_staging.forget_unfinished(conn, older_than=day):
            pass
        lines = conn.scalars(select(batch_lines.c.batch_id)).all()
    assert [one.id for one in batches_of(store).list()] == [whole.id] == lines


def test_a_file_changed_while_it_is_submitted_leaves_nothing(
    store: Database, batches: Batches, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(hello(0), hello(1))
    stage_until(monkeypatch, 0, lambda: None)
    identify = Submission.identify

    def identify_then_change(self: Submission) -> None:
        identify(self)
        write(hello(0), hello(1, text="other"))

    monkeypatch.setattr(Submission, "identify", identify_then_change)
    with pytest.raises(Conflict, match="changed while"):
        batches.create(path)
    assert batches.list() == []


def test_a_cancelled_batch_takes_no_more_lines(
    store: Database, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = batches_of(store)
    stage_until(monkeypatch, 1, lambda: None)
    path = write(*(hello(n) for n in range(9)))
    real = submitting.Submission.stage

    def cancel_then_stage(self: Submission, batch_id: Any, checked: Any) -> Any:
        if checked.last > 4:
            other.get(batch_id).cancel()
        return real(self, batch_id, checked)

    monkeypatch.setattr(Submission, "stage", cancel_then_stage)
    with pytest.raises(MoveRefused, match="cancelled"):
        batches_of(store).create(path)
    with pytest.raises(MoveRefused, match="cancelled"):
        other.create(path)


def test_lines_of_a_cancelled_batch_that_are_no_turns_yet_come_to_nothing(
    store: Database, batches: Batches, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 2, "window": 2})
    batch = batches.create(write(*(hello(n) for n in range(5))))
    before = batch.counts
    assert (before.accepted, before.staged, before.is_done) == (5, 3, False)
    assert batch.cancel() == 2
    after = batch.counts
    assert (after.states, after.is_done) == ({TurnState.CANCELLED: 5}, True)
    results = list(batch.iter_results())
    assert [one.state for one in results] == ["cancelled"] * 5
    with store.begin() as conn:
        assert conn.scalars(select(batch_lines.c.content)).all() == [None] * 5
        keyed = select(batch_lines.c.line).where(batch_lines.c.key.is_not(None))
        assert conn.scalars(keyed.order_by(batch_lines.c.line)).all() == [1, 2]  # as long as turns


def test_whoever_finds_a_batch_being_fed_makes_nothing_and_does_not_wait(
    store: Database, batches: Batches, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not store.is_postgres:
        pytest.skip("one writer at a time")
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})
    batch = batches.create(write(hello(0), hello(1)))
    with store.begin() as other, store.begin() as conn:
        other.execute(select(batch_rows.c.id).with_for_update(key_share=True))
        conn.execute(text("SET LOCAL lock_timeout = '5s'"))
        assert batch_feeding.feed(conn, batch.id, limit=9, window=9).lines == 0
    with store.begin() as conn:
        assert batch_feeding.feed(conn, batch.id, limit=9, window=9).lines == 1


def test_so_many_turns_are_made_as_there_is_room_for_and_the_rest_in_order(
    store: Database, batches: Batches, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 2, "window": 3})
    session = rows.start(store, key="shared")
    batch = batches.create(write(*({"session": "shared", "text": f"{n}"} for n in range(8))))
    for done in range(8):
        assert batch.counts.accepted - batch.counts.staged == min(done + 3, 8)
        (head,) = [one for one in turns_of_session(store, session) if one.state == "queued"][:1]
        rows.run(store, head.id)
        make_turns(store)
    assert batch.counts.is_done
    said = [int(one.text) for one in history_of(store, session) if one.role == "user"]
    assert said == list(range(8))


def test_turns_that_wait_for_a_budget_take_no_room_of_later_lines_but_so_many_wait(
    store: Database, batches: Batches, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 9, "window": 2})
    monkeypatch.setattr(batch_feeding, "PUT_OFF", 1)
    batch = batches.create(write(*(hello(n) for n in range(9))))

    def put_off(fed: int) -> None:
        """Let all that was fed wait for a budget."""
        assert batch.counts.accepted - batch.counts.staged == fed
        open_ones = [one.turn_id for one in batch.iter_results() if one.state == "queued"]
        for claim in [claim for one in open_ones if one for claim in steps.take(store, one)]:
            wait = {"waits_for": "budget", "delay": timedelta(minutes=1)}
            steps.end(store, claim, TurnState.QUEUED, **wait)
        make_turns(store)

    put_off(2)
    assert batch.counts.staged == 7  # nobody has one
    bound(store, "1")
    make_turns(store)
    put_off(4)
    assert (batch.counts.staged, batch.counts.waiting_for_budget) == (5, 4)


def test_a_line_whose_session_is_gone_by_its_time_is_dropped_and_says_why(
    store: Database, batches: Batches, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})
    session = rows.start(store, key="shared")
    batch = batches.create(write(hello(0), {"session": "shared", "text": "hi"}, hello(2)))
    with store.begin() as conn:
        sessions.archive(conn, session)
    for _ in range(2):
        for turn in [one for one in batch.iter_results() if one.state == "queued"]:
            assert turn.turn_id is not None
            rows.run(store, turn.turn_id)
        make_turns(store)
    for turn in [one for one in batch.iter_results() if one.state == "queued"]:
        assert turn.turn_id is not None
        rows.run(store, turn.turn_id)
    found = [(one.state, one.error_code) for one in batch.iter_results()]
    assert found == [
        ("succeeded", None),
        ("failed", "session_not_found"),
        ("succeeded", None),
    ]
    counts = batch.counts
    assert (counts.is_done, counts.accepted, counts.dropped) == (True, 3, 1)


def turns_of_session(store: Database, session: SessionId) -> list[TurnRecord]:
    with store.begin() as conn:
        found = turn_store.find(conn, session_id=session)
    return sorted(found, key=lambda turn: turn.seq)


def history_of(store: Database, session: SessionId) -> list[MessageRecord]:
    with store.begin() as conn:
        return list(sessions.history(conn, session))


def test_a_line_of_which_no_turn_can_be_made_is_passed_over(
    store: Database, batches: Batches, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})
    monkeypatch.setattr(feeding_batches, "_WITHIN_SECONDS", 60.0)  # one look is enough
    batch = batches.create(write(*(hello(n) for n in range(3))))
    with store.begin() as conn:
        broken = batch_lines.c.line == 2
        conn.execute(update(batch_lines).where(broken).values(content={"said": [7]}))
    for turn in batch.iter_results():
        if turn.turn_id is not None:
            rows.run(store, turn.turn_id)
    make_turns(store)
    found = [(one.state, one.error_code) for one in batch.iter_results()]
    assert found == [("succeeded", None), ("failed", "unstorable"), ("queued", None)]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_ails_the_store_or_the_machine_costs_no_line(
    store: Database,
    batches: Batches,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})
        batch = batches.create(write(*map(hello, range(3))))
    with monkeypatch.context() as patch:
        patch.setattr(batch_feeding, "start_many", raising(error))
        assert make_turns(store) == []
    assert (batch.counts.staged, batch.counts.dropped) == (2, 0)
    make_turns(store)
    assert batch.counts.states == {TurnState.QUEUED: 3}
