"""Batches: a file of turns, all of it or nothing, submitted once however often."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import rows
from tests.batch_clients import batches_of
from tests.batch_files import Write, hello, writing
from turnmill.domain.errors import (
    BatchNotFound,
    BatchTimeout,
    Conflict,
    InvalidBatchFile,
    InvalidInput,
)
from turnmill.domain.states import Lane, TurnState
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.line.claim import claim
from turnmill.store.nouns import sessions
from turnmill.store.nouns import turns as turn_store
from turnmill.store.records import Head
from turnmill.store.turn_records import TurnRecord
from turnmill.sync.batches import Batch, Batches


class Crash(Exception):
    """The submitter was killed here."""


@pytest.fixture
def published() -> list[Head]:
    return []


@pytest.fixture
def batches(store: Database, published: list[Head]) -> Batches:
    return batches_of(store, published.extend, max_text_bytes=1000)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writing(tmp_path)


def turns_of(store: Database, batch: Batch) -> list[TurnRecord]:
    """Return the turns of a batch in the order of their lines."""
    ids = [result.turn_id for result in batch.iter_results() if result.turn_id is not None]
    with store.begin() as conn:
        return [turn_store.get(conn, one) for one in ids]


def run_all(store: Database, batch: Batch, states: Sequence[TurnState]) -> None:
    for turn, state in zip(turns_of(store, batch), states, strict=True):
        rows.run(store, turn.id, state, error_code=None if state == "succeeded" else "broken")


def test_every_line_becomes_a_turn_of_the_bulk_lane(
    store: Database, batches: Batches, write: Write, published: list[Head]
) -> None:
    batch = batches.create(write(*(hello(n) for n in range(3))))
    found = turns_of(store, batch)
    assert [turn.custom_id for turn in found] == ["line-0", "line-1", "line-2"]
    assert {turn.lane for turn in found} == {Lane.BULK}
    assert {head.turn_id for head in published} == {turn.id for turn in found}
    assert (batch.counts.total, batch.counts.states) == (3, {TurnState.QUEUED: 3})


def test_a_line_with_a_user_gets_a_session_of_its_own(
    store: Database, batches: Batches, write: Write
) -> None:
    line = hello(0, provider="p", model="m", system_prompt="be kind", metadata={"a": 1})
    batch = batches.create(write(line, hello(1)))
    first, second = turns_of(store, batch)
    assert first.metadata == {"a": 1}
    assert first.session_id != second.session_id
    with store.begin() as conn:
        session = sessions.get(conn, first.session_id)
    assert (session.user_id, session.provider, session.model) == ("user-0", "p", "m")
    assert session.system_prompt == "be kind"


def test_lines_of_a_session_are_appended_to_it_in_order(
    store: Database, batches: Batches, write: Write
) -> None:
    session = rows.start(store, key="ada:support")
    rows.send(store, session, "before")
    lines = [{"session": ref, "text": ref} for ref in ("ada:support", str(session))]
    batches.create(write(*lines))
    with store.begin() as conn:
        said = [message.text for message in sessions.history(conn, session)]
    assert said == ["before", "ada:support", str(session)]


def test_lines_may_leave_provider_and_model_to_the_call(
    store: Database, batches: Batches, write: Write
) -> None:
    path = write(hello(0), hello(1, model="own"))
    batch = batches.create(path, provider="openai", model="default")
    turns = turns_of(store, batch)
    with store.begin() as conn:
        found = [sessions.get(conn, turn.session_id) for turn in turns]
    assert [(one.provider, one.model) for one in found] == [
        ("openai", "default"),
        ("openai", "own"),
    ]


def test_a_bad_line_is_named_and_nothing_is_written(
    store: Database, batches: Batches, write: Write
) -> None:
    with pytest.raises(InvalidBatchFile, match="line 2: no session of this id or key") as caught:
        batches.create(write(hello(1), {"session": "nobody", "text": "hi"}, hello(3)))
    assert [number for number, _, _ in caught.value.problems] == [2]
    assert batches.list() == []
    with store.begin() as conn:
        assert sessions.find(conn) == []


def test_an_archived_session_is_a_bad_line(store: Database, batches: Batches, write: Write) -> None:
    session = rows.start(store)
    with store.begin() as conn:
        sessions.archive(conn, session)
    with pytest.raises(InvalidBatchFile):
        batches.create(write({"session": str(session), "text": "hi"}))


def test_submitting_the_same_file_again_is_the_same_batch(
    batches: Batches, write: Write, published: list[Head]
) -> None:
    path = write(*(hello(n) for n in range(3)))
    first = batches.create(path)
    told = len(published)
    again = batches.create(path)
    assert again.id == first.id
    assert again.counts.accepted == 3
    assert len(published) == told


def test_other_content_under_the_same_name_is_a_conflict(batches: Batches, write: Write) -> None:
    batches.create(write(hello(0)), name="nightly")
    with pytest.raises(Conflict):
        batches.create(write(hello(1)), name="nightly")
    with pytest.raises(Conflict):
        batches.create(write(hello(0)), name="nightly", provider="p", model="m")


def test_a_batch_is_found_by_id_and_by_name(batches: Batches, write: Write) -> None:
    batch = batches.create(write(hello(0)), name="nightly")
    assert batches.get("nightly").id == batches.get(str(batch.id)).id == batch.id
    assert batches.get(batch.id).name == "nightly"
    for missing in ("weekly", new_id()):
        with pytest.raises(BatchNotFound):
            batches.get(missing)


def test_an_unknown_mode_is_refused(batches: Batches, write: Write) -> None:
    with pytest.raises(InvalidInput):
        batches.create(write(hello(0)), mode="fast")


def test_results_stand_in_the_order_of_the_file_with_text_usage_and_error(
    store: Database, batches: Batches, write: Write, tmp_path: Path
) -> None:
    batch = batches.create(write(*(hello(n) for n in range(3))))
    run_all(store, batch, [TurnState.SUCCEEDED, TurnState.FAILED, TurnState.SUCCEEDED])
    out = tmp_path / "out.jsonl"
    assert batch.results(out) == 3
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["custom_id"] for line in lines] == ["line-0", "line-1", "line-2"]
    assert [line["text"] for line in lines] == ["yes", None, "yes"]
    assert [line["error"] for line in lines] == [None, {"code": "broken"}, None]
    assert lines[0]["usage"] == {
        "input_tokens": 10,
        "output_tokens": 5,
        "cached_tokens": 2,
        "cost_usd": lines[0]["usage"]["cost_usd"],
    }
    assert float(lines[0]["usage"]["cost_usd"]) == 0.25
    assert set(lines[0]) == {
        "custom_id", "turn_id", "session_id", "state", "text", "usage", "error",
        "answered_by", "answered_because", "status_code", "attempts", "finish_reason", "reused",
    }  # fmt: skip
    assert [line["answered_by"] for line in lines] == ["mock/mock", None, "mock/mock"]


def test_a_results_file_is_whole_or_as_it_was(
    batches: Batches, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batches.create(write(hello(0), hello(1)))
    out = tmp_path / "out.jsonl"
    out.write_text("before")
    result = next(batch.iter_results())

    def broken(self: Batch) -> Any:
        yield [result]
        raise Crash

    monkeypatch.setattr(Batch, "_pages", broken)
    with pytest.raises(Crash):
        batch.results(out)
    assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == ["out.jsonl"]


def test_waiting_ends_when_every_turn_is_final(
    store: Database, batches: Batches, write: Write
) -> None:
    batch = batches.create(write(*(hello(n) for n in range(2))))
    seen: list[int] = []

    def settle_one(counts: Any) -> None:
        seen.append(counts.finished)
        waiting = [turn for turn in turns_of(store, batch) if turn.state is TurnState.QUEUED]
        if waiting:
            rows.run(store, waiting[0].id)

    counts = batch.wait(progress=settle_one, timeout=30)
    assert seen == [0, 1, 2]
    assert counts.is_done
    assert counts.succeeded == 2


def test_waiting_gives_up_in_time_and_leaves_the_batch_running(
    batches: Batches, write: Write
) -> None:
    batch = batches.create(write(hello(0)))
    with pytest.raises(BatchTimeout, match="1 turns"):
        batch.wait(timeout=0.01)
    assert batch.counts.states == {TurnState.QUEUED: 1}


def test_cancelling_ends_what_waits_and_asks_what_runs_to_stop(
    store: Database, batches: Batches, write: Write
) -> None:
    batch = batches.create(write(*(hello(n) for n in range(3))))
    done, running, queued = turns_of(store, batch)
    rows.run(store, done.id)
    with store.begin() as conn:
        claim(conn, [running.id], owner="w", lease=rows.LEASE)
    assert batch.cancel() == 2
    after = turns_of(store, batch)
    assert [turn.state for turn in after] == ["succeeded", "running", "cancelled"]
    assert after[1].cancel_requested
    assert not batch.counts.is_done
    with store.begin() as conn:
        assert sessions.get(conn, queued.session_id).unfinished == 0


def test_cancelling_lets_later_turns_of_the_session_run(
    store: Database, batches: Batches, write: Write, published: list[Head]
) -> None:
    session = rows.start(store, key="shared")
    batch = batches.create(write(*({"session": "shared", "text": f"{n}"} for n in range(3))))
    later = rows.send(store, session, "later")
    published.clear()
    batch.cancel()
    assert [head.turn_id for head in published] == [later]
    rows.run(store, later)
