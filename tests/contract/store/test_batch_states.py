"""Where a batch stands: it ends, stops itself, is stopped, goes on, and passes its deadline."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from tests import rows, steps
from tests.batch_clients import batches_of
from tests.budgeting import ask, bound
from turnmill.domain.batches import BatchState
from turnmill.domain.errors import InvalidBatchFile, InvalidInput, MoveRefused
from turnmill.domain.states import FOR_BATCH, FOR_BUDGET, EventKind, Lane, TurnState
from turnmill.store.budget_records import Found
from turnmill.store.database import Database
from turnmill.store.nouns import batch_tending, subscribing
from turnmill.store.nouns.batch_ends import tell_ends
from turnmill.store.nouns.batch_pauses import IN_A_ROW
from turnmill.store.rules import wanted
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.tables import batches, turns
from turnmill.sync.batches import Batch
from turnmill_worker.process.tending import tend_batches
from turnmill_worker.turn.batched import stop_failing

Make = Callable[[int], Batch]

pytestmark = pytest.mark.usefixtures("sound")


@pytest.fixture
def made(store: Database, tmp_path: Path) -> Make:
    def make(lines: int) -> Batch:
        path = tmp_path / "jobs.jsonl"
        said = [{"text": f"{n}", "user_id": f"user-{n}"} for n in range(lines)]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in said))
        return batches_of(store).create(path)

    return make


def ids(store: Database, batch: Batch) -> Sequence[Any]:
    with store.begin() as conn:
        query = select(turns.c.id).where(turns.c.batch_id == batch.id)
        return conn.scalars(query.order_by(turns.c.batch_line)).all()


def end(store: Database, turn: Any, state: TurnState, code: str | None = None) -> None:
    claim = steps.take_one(store, turn)
    steps.end(store, claim, state, error_code=code)


def row(store: Database, batch: Batch) -> Any:
    with store.begin() as conn:
        return conn.execute(select(batches).where(batches.c.id == batch.id)).one()


def told(store: Database, batch: Batch) -> list[str]:
    with store.begin() as conn:
        tell_ends(conn)
        query = select(events.c.kind).where(events.c.session_id == batch.id).order_by(events.c.n)
        return list(conn.scalars(query))


@pytest.fixture
def heard(store: Database) -> None:
    kinds = [kind for kind in EventKind if kind.startswith("batch.")]
    with store.begin() as conn:
        subscribing.subscribe(conn, "reader", kinds)
    wanted.forget()


S, F, D = TurnState.SUCCEEDED, TurnState.FAILED, TurnState.DEAD


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(
    ("ends", "becomes"),
    [
        ((S, S), BatchState.COMPLETED),
        ((S, F), BatchState.COMPLETED_WITH_ERRORS),
        ((D, F), BatchState.FAILED),
    ],
)
def test_a_batch_comes_to_what_its_lines_came_to(
    store: Database, made: Make, ends: tuple[TurnState, ...], becomes: BatchState
) -> None:
    batch = made(2)
    first, second = ids(store, batch)
    end(store, first, ends[0], None if ends[0] is S else "broken")
    tend_batches(store)
    assert (row(store, batch).state, batch.counts.state) == ("running", BatchState.RUNNING)
    end(store, second, ends[1], None if ends[1] is S else "broken")
    assert (batch.counts.state, batch.counts.is_done) == (becomes, True)
    tend_batches(store)
    assert (row(store, batch).state, row(store, batch).ended_at is None) == (becomes, False)
    assert told(store, batch) == ["batch.finished"] == told(store, batch)


@pytest.mark.usefixtures("heard")
def test_failed_turns_that_run_again_bring_the_batch_to_another_end(
    store: Database, made: Make
) -> None:
    batch = made(2)
    for turn in ids(store, batch):
        end(store, turn, F, "broken")
    tend_batches(store)
    assert (batch.retry_failed(), batch.counts.state) == (2, BatchState.RUNNING)
    assert row(store, batch).ended_at is None
    for turn in ids(store, batch):
        rows.run(store, turn)
    tend_batches(store)
    assert row(store, batch).state == BatchState.COMPLETED
    assert told(store, batch)[-1] == "batch.finished"


@pytest.mark.usefixtures("heard")
def test_the_same_permanent_code_again_and_again_stops_a_batch_and_resume_goes_on(
    store: Database, made: Make
) -> None:
    batch = made(IN_A_ROW + 5)
    found = ids(store, batch)
    for turn in found[: IN_A_ROW - 1]:
        end(store, turn, F, "model_not_found")
        stop_failing(store, [turn])
    assert batch.counts.state is BatchState.RUNNING
    end(store, found[IN_A_ROW - 1], F, "model_not_found")
    stop_failing(store, [found[IN_A_ROW - 1]])
    counts = batch.counts
    assert (counts.state, counts.paused_because) == (BatchState.PAUSED, "model_not_found")
    assert told(store, batch) == ["batch.paused"]
    assert steps.take_due(store) == []
    batch.resume()
    for turn in found[IN_A_ROW:]:
        end(store, turn, F, "model_not_found")
        stop_failing(store, [turn])
    tend_batches(store)
    assert batch.counts.codes == {"model_not_found": IN_A_ROW + 5}
    assert row(store, batch).state == BatchState.FAILED


@pytest.mark.parametrize("between", [S, D])
def test_a_reply_or_another_code_between_begins_the_count_anew(
    store: Database, made: Make, between: TurnState
) -> None:
    batch = made(IN_A_ROW + 2)
    found = ids(store, batch)
    for n, turn in enumerate(found[: IN_A_ROW + 1]):
        end(store, turn, between if n == IN_A_ROW // 2 else F, "odd" if n != IN_A_ROW // 2 else "x")
        stop_failing(store, [turn])
    tend_batches(store)
    assert batch.counts.state is BatchState.RUNNING


def test_a_paused_batch_begins_nothing_and_goes_on_where_it_was(
    store: Database, made: Make
) -> None:
    batch = made(4)
    first, second, *others = ids(store, batch)
    claim = steps.take_one(store, first)
    batch.pause()
    assert {steps.turn(store, one).waits_for for one in (second, *others)} == {FOR_BATCH}
    assert steps.take_due(store) == []
    steps.end(store, claim, TurnState.RETRYING, error_code="overloaded")
    tend_batches(store)
    steps.due_now(store)
    assert steps.take_due(store) == []
    batch.resume()
    assert {one.turn_id for one in steps.take_due(store, Lane.BULK)} == {first, second, *others}


def test_what_was_half_paused_or_resumed_is_finished_by_whoever_looks(
    store: Database, made: Make
) -> None:
    batch = made(3)
    with store.begin() as conn:
        conn.execute(update(batches).values(state=BatchState.PAUSED))
    tend_batches(store)
    assert steps.take_due(store) == []
    with store.begin() as conn:
        values = {"state": BatchState.RUNNING, "resumed_at": datetime.now(UTC)}
        conn.execute(update(batches).values(**values))
    assert {head.turn_id for head in tend_batches(store)} == set(ids(store, batch))


@pytest.mark.usefixtures("heard")
def test_a_batch_whose_deadline_passes_expires_and_keeps_what_has_ended(
    store: Database, made: Make
) -> None:
    batch = made(3)
    done, running, waiting = ids(store, batch)
    rows.run(store, done)
    claim = steps.take_one(store, running)
    with store.begin() as conn:
        conn.execute(update(batches).values(deadline=datetime.now(UTC) - timedelta(seconds=1)))
    tend_batches(store)
    assert row(store, batch).state == BatchState.EXPIRED
    assert [steps.state(store, one) for one in (done, running, waiting)] == [
        "succeeded", "running", "expired",
    ]  # fmt: skip
    assert (batch.counts.state, batch.counts.is_done) == (BatchState.EXPIRED, False)
    assert told(store, batch) == []
    steps.end(store, claim, S)
    tend_batches(store)
    assert batch.counts.states == {S: 2, TurnState.EXPIRED: 1}
    assert told(store, batch) == ["batch.expired"]
    with pytest.raises(MoveRefused):
        batch.retry_failed()


def test_a_cancel_that_was_killed_half_way_is_finished_by_whoever_looks(
    store: Database, made: Make
) -> None:
    batch = made(3)
    with store.begin() as conn:
        conn.execute(update(batches).values(state="cancelled", cancelled_at=datetime.now(UTC)))
    tend_batches(store)
    assert batch.counts.states == {TurnState.CANCELLED: 3}
    assert batch.counts.is_done and row(store, batch).ended_at is not None


def test_a_batch_that_has_ended_stays_so_when_it_is_cancelled(store: Database, made: Make) -> None:
    batch = made(1)
    rows.run(store, ids(store, batch)[0])
    tend_batches(store)
    assert batch.cancel() == 0
    assert batch.counts.state is BatchState.COMPLETED


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_what_has_ended_is_neither_paused_nor_resumed(
    store: Database, made: Make, verb: str
) -> None:
    batch = made(1)
    rows.run(store, ids(store, batch)[0])
    tend_batches(store)
    with pytest.raises(MoveRefused):
        getattr(batch, verb)()


def test_what_workers_of_before_have_ended_is_counted_when_nothing_is_left(
    store: Database, made: Make
) -> None:
    batch = made(2)
    for turn in ids(store, batch):
        rows.run(store, turn, batched=False)
    tend_batches(store)
    assert batch.counts.states == {S: 2}
    assert row(store, batch).state == BatchState.COMPLETED


def test_only_what_has_begun_and_not_ended_is_looked_at(store: Database, made: Make) -> None:
    batch = made(1)
    with store.begin() as conn:
        assert batch_tending.due(conn) == [batch.id]
    rows.run(store, ids(store, batch)[0])
    tend_batches(store)
    with store.begin() as conn:
        assert batch_tending.due(conn) == []


def test_a_batch_stops_before_it_costs_more_than_it_may_and_goes_on_with_a_higher_limit(
    store: Database, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text("".join(f'{{"text": "{n}", "user_id": "u{n}"}}\n' for n in range(3)))
    whom: dict[str, Any] = {"provider": "openai", "model": "gpt-4.1-mini", "mode": "live"}
    batch = batches_of(store).create(path, max_cost_usd="1.00", **whom)
    first, *others = [steps.take_one(store, turn) for turn in ids(store, batch)]
    assert first.budgeted
    assert ask(store, first, "0.6").found is Found.RESERVED
    for claim in others:
        assert ask(store, claim, "0.6").found is Found.LATER
        steps.end(store, claim, TurnState.QUEUED, waits_for=FOR_BUDGET)
    tend_batches(store)
    assert batch.counts.state is BatchState.RUNNING  # what runs may cost less than was reserved
    steps.end(store, first, S, cost_usd=Decimal("0.5"), budgeted=True)
    tend_batches(store)
    counts = batch.counts
    assert (counts.state, counts.paused_because) == (BatchState.PAUSED, "max_cost_usd")
    assert counts.cost_usd == Decimal("0.5")
    batch.resume(max_cost_usd=3)
    for claim in steps.take_due(store):
        assert ask(store, claim, "0.6").found is Found.RESERVED
        steps.end(store, claim, S, cost_usd=Decimal("0.6"), budgeted=True)
    tend_batches(store)
    assert (batch.counts.state, batch.counts.cost_usd) == (BatchState.COMPLETED, Decimal("1.7"))


def test_lines_without_a_price_are_refused_where_the_batch_has_a_limit(
    store: Database, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"text": "0", "model": "gpt-4.1-mini"}\n{"text": "1", "model": "x"}\n')
    with pytest.raises(InvalidBatchFile) as caught:
        batches_of(store).create(path, max_cost_usd=1, provider="openai", user_id="ada")
    assert [one[:2] for one in caught.value.problems] == [(2, "price_unknown")]
    assert batches_of(store).list() == []


def test_the_first_turn_that_fails_for_want_of_a_price_stops_a_batch_with_a_limit(
    store: Database, made: Make
) -> None:
    batch = made(3)
    with store.begin() as conn:
        conn.execute(update(batches).values(max_cost_usd=1))
    rows.run(store, ids(store, batch)[0], F, error_code="price_unknown")
    tend_batches(store)
    assert batch.counts.paused_because == "price_unknown"
    batch.resume()
    tend_batches(store)
    assert batch.counts.state is BatchState.RUNNING


def test_a_batch_whose_turns_wait_for_somebody_elses_budget_is_not_stopped_for_its_own(
    store: Database, tmp_path: Path
) -> None:
    bound(store, "0.5", wait=True)
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"text": "one", "user_id": "ada", "model": "gpt-4.1-mini"}\n')
    batch = batches_of(store).create(path, max_cost_usd=5, provider="openai")
    (claim,) = [steps.take_one(store, turn) for turn in ids(store, batch)]
    assert ask(store, claim, "0.6").found is Found.LATER
    steps.end(store, claim, TurnState.QUEUED, waits_for=FOR_BUDGET)
    tend_batches(store)
    assert (batch.counts.state, batch.counts.paused_because) == (BatchState.RUNNING, None)


def test_a_paused_batch_of_which_nothing_is_left_has_ended(store: Database, made: Make) -> None:
    batch = made(2)
    claims = [steps.take_one(store, turn) for turn in ids(store, batch)]
    batch.pause()
    for claim in claims:
        steps.end(store, claim, S)
    assert (batch.counts.state, batch.counts.is_done) == (BatchState.COMPLETED, True)
    tend_batches(store)
    assert row(store, batch).state == BatchState.COMPLETED


def test_however_many_look_a_batch_is_looked_at_once_in_a_while(
    store: Database, made: Make
) -> None:
    batch = made(1)
    with store.begin() as conn:
        assert batch_tending.due(conn, every=timedelta(minutes=1)) == [batch.id]
    tend_batches(store, every=timedelta(minutes=1))
    with store.begin() as conn:
        assert batch_tending.due(conn, every=timedelta(minutes=1)) == []
        assert batch_tending.due(conn) == [batch.id]


def test_a_batch_that_was_cancelled_is_not_submitted_again(made: Make) -> None:
    made(2).cancel()
    with pytest.raises(MoveRefused, match="cancelled"):
        made(2)


@pytest.mark.parametrize("days", [-999_999_999, -1, 999_999_999])
def test_a_deadline_that_no_clock_will_show_is_refused(
    store: Database, tmp_path: Path, days: int
) -> None:
    with pytest.raises(InvalidInput, match="deadline"):
        batches_of(store).create(tmp_path / "jobs.jsonl", deadline=timedelta(days=days))
