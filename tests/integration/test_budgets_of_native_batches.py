"""Lines in a vendor's batch are paid calls like others: budgets hold what they may cost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tests.doubles.anthropic_batches import AnthropicBatchesDouble
from tests.doubles.batch_desk import Fate
from tests.doubles.openai_batches import OpenAIBatchesDouble
from tests.native import Stage, shard_states, spent, states
from turnmill import Budget, Client
from turnmill.store.database import Database
from turnmill.store.line.charges import charge_orphans
from turnmill.store.schema.batch_tables import batch_shards
from turnmill.store.schema.budget_tables import charges
from turnmill.store.schema.tables import turns
from turnmill.store.upkeep.invariants import violations
from turnmill_worker.native.tending import Tending

pytestmark = pytest.mark.anyio

#: A few tokens: what a line may cost at the most is a bound of its input and of these.
SETTINGS = {"max_output_tokens": 100}
MOMENT = timedelta(seconds=0.6)
NOTHING = (Decimal(0), 0)
TOTAL: dict[str, Any] = {"period": "total"}


class Killed(Exception):
    """Nobody catches it."""


async def killed(*_: object) -> None:
    raise Killed


@asynccontextmanager
async def staged(kind: type[Any], database: Database, url: str) -> AsyncIterator[Stage]:
    async with kind(takes=3600.0) as double:
        name = "openai" if kind is OpenAIBatchesDouble else "anthropic"
        yield Stage(database, double, name, url)
    with database.single() as conn:
        assert violations(conn) == []


@pytest.fixture(
    params=[
        pytest.param(OpenAIBatchesDouble, id="openai"),
        pytest.param(AnthropicBatchesDouble, id="anthropic", marks=pytest.mark.long),
    ]
)
async def stage(
    request: pytest.FixtureRequest, database: Database, database_url: str
) -> AsyncIterator[Stage]:
    async with staged(request.param, database, database_url) as found:
        yield found


@pytest.fixture
async def openai(database: Database, database_url: str) -> AsyncIterator[Stage]:
    async with staged(OpenAIBatchesDouble, database, database_url) as found:
        yield found


def limit(stage: Stage, usd: Decimal | str | int, **whose: Any) -> None:
    with Client(database_url=stage.url) as client:
        client.budgets.set(limit_usd=usd, **TOTAL, **whose)


def budget(stage: Stage, **whose: Any) -> Budget:
    with Client(database_url=stage.url) as client:
        return client.budgets.get(**TOTAL, **whose)


async def most_of_a_line(stage: Stage) -> Decimal:
    """Return what a line may cost, as the vendor is about to be asked for one."""
    limit(stage, 1000, user_id="user-0")
    stage.submit(1, settings=SETTINGS)
    await stage.polled(within=MOMENT)
    return budget(stage, user_id="user-0").reserved_usd


def released(stage: Stage) -> None:
    """Let the vendor end what it has in hand."""
    stage.double.desk.takes = 0.0


def left_over(database: Database) -> tuple[Decimal, int]:
    """Return what is reserved for anybody, and how many lines hold anything."""
    c = charges.c
    with database.single() as conn:
        query = select(func.coalesce(func.sum(c.reserved_usd), 0), func.count(c.shard_id))
        row = conn.execute(query).one()
    return row[0], row[1]


async def test_lines_hold_what_they_may_cost_for_as_long_as_their_vendor_has_them(
    stage: Stage,
) -> None:
    limit(stage, 1000)
    batch = stage.submit(9, settings=SETTINGS)
    await stage.polled(within=MOMENT)
    held = budget(stage)
    assert held.spent_usd == 0 < held.reserved_usd
    released(stage)
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": 9}
    with Client(database_url=stage.url) as client:
        cost = client.batches.get(batch).counts.cost_usd
    assert budget(stage).spent_usd == cost > 0
    assert budget(stage).spent_usd < held.reserved_usd
    assert left_over(stage.database) == NOTHING


async def test_lines_that_failed_while_they_were_answered_are_charged_as_they_were_counted(
    openai: Stage,
) -> None:
    openai.double.desk.takes = 0.0
    openai.double.desk.fates.append(Fate(of_line=lambda n: "failed" if n % 3 == 0 else ""))
    limit(openai, 1000)
    batch = openai.submit(9, settings=SETTINGS, on_leftover="next")
    await openai.polled()
    assert states(openai.database, batch) == {"succeeded": 9}
    assert sum(openai.double.desk.paid.values()) == 12  # three of them were answered twice
    cost, priced = spent(openai.database, batch)
    assert priced == 12
    with Client(database_url=openai.url) as client:
        counts = client.batches.get(batch).counts
    assert (counts.cost_usd, counts.input_tokens) == (cost, 1200)
    assert budget(openai).spent_usd == cost > 0
    assert left_over(openai.database) == NOTHING


async def test_a_cancelled_line_that_failed_at_its_vendor_is_charged_all_the_same(
    openai: Stage,
) -> None:
    openai.double.desk.fates.append(Fate(of_line=lambda _: "failed"))
    limit(openai, 1000)
    batch = openai.submit(4, settings=SETTINGS)
    await openai.polled(within=MOMENT)
    with Client(database_url=openai.url) as client:
        client.batches.get(batch).cancel()
    released(openai)
    await openai.polled()
    assert states(openai.database, batch) == {"cancelled": 4}
    cost, priced = spent(openai.database, batch)
    assert priced == len(openai.double.desk.paid) > 0
    assert budget(openai).spent_usd == cost > 0
    assert left_over(openai.database) == NOTHING


async def test_lines_that_will_never_fit_fail_and_the_others_are_asked(stage: Stage) -> None:
    each = await most_of_a_line(stage)
    batch = stage.submit(9, settings=SETTINGS, name="more")
    limit(stage, each / 2, user_id="user-1")  # of whom there are two lines
    await stage.polled(within=MOMENT)
    assert states(stage.database, batch) == {"waiting": 7, "failed": 2}
    released(stage)
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": 7, "failed": 2}
    with stage.database.single() as conn:
        failed = conn.scalars(select(turns.c.error_code).where(turns.c.state == "failed")).all()
    assert set(failed) == {"budget_exceeded"}
    assert sum(one.total for one in stage.double.desk.batches.values()) == 1 + 7
    assert left_over(stage.database) == NOTHING


@pytest.mark.long
async def test_lines_that_would_fit_but_for_what_others_hold_wait_for_them(stage: Stage) -> None:
    each = await most_of_a_line(stage)
    batch = stage.submit(8, settings=SETTINGS, name="more")
    limit(stage, each * 5)
    await stage.polled(within=MOMENT)
    assert each * 4 < budget(stage).reserved_usd <= each * 5
    assert sum(one.total for one in stage.double.desk.batches.values()) == 1 + 5
    released(stage)
    await stage.polled()  # they have cost less than they might
    assert budget(stage).spent_usd < each * 5
    with stage.database.begin() as conn:
        conn.execute(update(turns).values(parked_until=None))  # a minute later
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": 8}
    assert left_over(stage.database) == NOTHING


@pytest.mark.long
async def test_lines_that_may_wait_go_into_a_later_shard_when_the_limit_is_raised(
    stage: Stage,
) -> None:
    each = await most_of_a_line(stage)
    limit(stage, each * 5, on_exceeded="wait")
    batch = stage.submit(8, settings=SETTINGS, name="more")
    await stage.polled(within=MOMENT)
    assert states(stage.database, batch) == {"waiting": 8}
    assert sum(one.total for one in stage.double.desk.batches.values()) == 1 + 5
    put_off = turns.c.parked_until.is_not(None)
    with stage.database.begin() as conn:
        (one, *others) = conn.scalars(select(turns.c.id).where(put_off)).all()
        later = {"parked_until": datetime.now(UTC) + timedelta(hours=1)}  # whatever we take
        conn.execute(update(turns).where(put_off).values(**later))
    assert len(others) == 2
    with Client(database_url=stage.url) as client:
        assert client.batches.get(batch).counts.waiting_for_budget == 3
        (reason,) = client.turns.get(one).why().reasons
    assert (reason.cause, reason.name) == ("budget", "all total")
    limit(stage, each * 100, on_exceeded="wait")
    with stage.database.begin() as conn:
        conn.execute(update(turns).values(parked_until=None))  # a minute later
    released(stage)
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": 8}
    assert set(stage.double.desk.paid.values()) == {1}
    assert left_over(stage.database) == NOTHING


async def test_who_goes_on_where_somebody_has_stopped_reserves_nothing_twice(
    openai: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(openai, 1000)
    batch = openai.submit(4, settings=SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(Tending, "_store", killed)  # as soon as it is reserved
        with pytest.raises(Killed):
            await openai.polled(within=MOMENT)
    held = budget(openai).reserved_usd
    assert held > 0
    assert not openai.double.calls
    with openai.database.begin() as conn:
        conn.execute(update(batch_shards).values(due_at=func.now()))  # its lease is over
    await openai.polled(within=MOMENT)
    assert openai.double.desk.batches
    assert budget(openai).reserved_usd == held
    released(openai)
    await openai.polled()
    assert states(openai.database, batch) == {"succeeded": 4}
    assert left_over(openai.database) == NOTHING


@pytest.mark.long
async def test_a_shard_of_which_nothing_fits_is_none(stage: Stage) -> None:
    limit(stage, "0.0000001", on_exceeded="wait")
    batch = stage.submit(4, settings=SETTINGS)
    await stage.polled(within=MOMENT)
    assert shard_states(stage.database, batch) == []
    assert not stage.double.desk.batches
    assert left_over(stage.database) == NOTHING


async def test_what_no_vendor_was_asked_for_is_given_back(openai: Stage) -> None:
    limit(openai, 1000)
    openai.double.desk.fates.append(Fate(errors=[("billing_hard_limit_reached", None)]))
    batch = openai.submit(4, settings=SETTINGS)
    await openai.polled(within=MOMENT)
    assert openai.double.desk.batches
    assert states(openai.database, batch) == {"waiting": 4}
    assert left_over(openai.database) == NOTHING


async def test_a_cancelled_line_holds_it_until_its_vendor_has_told(stage: Stage) -> None:
    limit(stage, 1000)
    batch = stage.submit(4, settings=SETTINGS)
    await stage.polled(within=MOMENT)
    before = budget(stage).reserved_usd
    with Client(database_url=stage.url) as client:
        for one in client.turns.list(batch=client.batches.get(batch))[:2]:
            assert one.cancel() == "cancelled"
    assert budget(stage).reserved_usd == before
    released(stage)
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": 2, "cancelled": 2}
    with Client(database_url=stage.url) as client:
        assert budget(stage).spent_usd == client.batches.get(batch).counts.cost_usd
    assert left_over(stage.database) == NOTHING


async def test_a_budget_that_was_set_since_is_charged_even_beyond_its_limit(stage: Stage) -> None:
    batch = stage.submit(4, settings=SETTINGS)
    await stage.polled(within=MOMENT)
    limit(stage, "0.0000001")
    released(stage)
    await stage.polled()
    with Client(database_url=stage.url) as client:
        cost = client.batches.get(batch).counts.cost_usd
    assert budget(stage).spent_usd == cost > budget(stage).limit_usd
    assert left_over(stage.database) == NOTHING


@pytest.mark.long
async def test_lines_whose_price_nobody_knows_run_by_themselves_and_say_so_there(
    openai: Stage,
) -> None:
    limit(openai, 1000, user_id="user-1")
    openai.double.models = frozenset({*openai.double.models, "unheard-of"})
    batch = openai.submit(4, settings=SETTINGS, model="unheard-of")
    await openai.polled(within=MOMENT)
    assert states(openai.database, batch) == {"waiting": 3, "queued": 1}
    assert left_over(openai.database) == NOTHING


@pytest.mark.long
async def test_upkeep_gives_back_what_a_worker_of_before_has_left(stage: Stage) -> None:
    limit(stage, 1000)
    stage.submit(3, settings=SETTINGS)
    await stage.polled(within=MOMENT)
    with stage.database.begin() as conn:
        assert charge_orphans(conn) == 0
        conn.execute(update(batch_shards).values(state="taken"))
        assert charge_orphans(conn) == 1
    assert left_over(stage.database) == NOTHING
    assert budget(stage).reserved_usd == 0
    with stage.database.begin() as conn:
        conn.execute(update(batch_shards).values(state="begun"))
