"""What a vendor has begun twice runs once for us, and is paid for as often as it ran."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tests.doubles.openai_batches import OpenAIBatchesDouble
from tests.integration.test_budgets_of_native_batches import (
    MOMENT,
    NOTHING,
    SETTINGS,
    Killed,
    budget,
    left_over,
    limit,
    released,
    staged,
)
from tests.native import Stage, shard_states, spent, states
from turnmill import Client
from turnmill.domain.errors import MaybeSent
from turnmill.domain.ids import BatchId
from turnmill.store.schema.batch_tables import batch_shards
from turnmill.store.schema.rollup_tables import spent_gone
from turnmill_worker.providers.openai.batches import OpenAIBatches

pytestmark = pytest.mark.anyio

#: Of a batch that is cancelled, its vendor has run one half.
LINES, RAN = 8, 4


@pytest.fixture
async def stage(
    database: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    begin = OpenAIBatches.begin

    async def twice(self: OpenAIBatches, mark: str, **said: Any) -> Any:
        """Begin it for a worker that had slept, too; nobody hears of either."""
        for _ in range(2):
            await begin(self, mark, **said)
        raise MaybeSent("connection_lost")

    monkeypatch.setattr(OpenAIBatches, "begin", twice)
    async with staged(OpenAIBatchesDouble, database, database_url) as found:
        yield found


def cost_of(stage: Stage, batch: BatchId) -> Decimal:
    with Client(database_url=stage.url) as client:
        return client.batches.get(batch).counts.cost_usd


def booked_for_nobody(stage: Stage) -> int:
    with stage.database.single() as conn:
        return conn.scalar(select(func.coalesce(func.sum(spent_gone.c.calls), 0))) or 0


async def released_when_cancelled(stage: Stage) -> None:
    """Let the vendor end what it has in hand, when it has been told to end the twin."""
    for _ in range(20):
        await stage.polled(within=MOMENT)
        if stage.double.desk.paid:
            break
    released(stage)


async def booked_once(stage: Stage, batch: BatchId) -> None:
    await released_when_cancelled(stage)
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": LINES}
    assert sum(stage.double.desk.paid.values()) == LINES + RAN
    assert booked_for_nobody(stage) == RAN
    assert spent(stage.database, batch)[0] < cost_of(stage, batch) == budget(stage).spent_usd
    assert {code for _, _, code in shard_states(stage.database, batch)} == {None, "begun_twice"}
    assert left_over(stage.database) == NOTHING


async def test_what_a_twin_had_run_before_it_was_cancelled_is_a_cost_of_its_batch(
    stage: Stage,
) -> None:
    limit(stage, 1000)
    batch = stage.submit(LINES, settings=SETTINGS)
    await booked_once(stage, batch)


async def test_a_worker_that_is_killed_before_it_cancels_a_twin_leaves_that_to_the_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: Any) -> None:
        raise Killed

    limit(stage, 1000)
    batch = stage.submit(LINES, settings=SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(OpenAIBatches, "cancel", killed)
        with pytest.raises(Killed):
            await stage.polled()
    with stage.database.begin() as conn:
        open_ones = batch_shards.c.due_at.is_not(None)
        conn.execute(update(batch_shards).where(open_ones).values(due_at=func.now()))
    await booked_once(stage, batch)


async def test_what_a_twin_has_run_of_lines_that_nobody_wants_any_more_is_booked_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(stage, 1000)
    batch = stage.submit(LINES, settings=SETTINGS)
    begin = OpenAIBatches.begin

    def give_up_some() -> None:
        with Client(database_url=stage.url) as client:
            first, second = [*client.turns.list(batch=client.batches.get(batch))][-2:]
            first.cancel()
            second.cancel()
            client.users.erase("user-2")

    async def begun(self: OpenAIBatches, mark: str, **said: Any) -> Any:
        try:
            return await begin(self, mark, **said)
        finally:  # before anybody has seen that there are two
            await asyncio.to_thread(give_up_some)

    monkeypatch.setattr(OpenAIBatches, "begin", begun)
    await released_when_cancelled(stage)
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": LINES - 3, "cancelled": 2}
    cost, calls = spent(stage.database, batch)
    assert calls == LINES - 1
    assert sum(stage.double.desk.paid.values()) == LINES + RAN
    assert budget(stage).spent_usd == cost / calls * (LINES + RAN)
    assert left_over(stage.database) == NOTHING
