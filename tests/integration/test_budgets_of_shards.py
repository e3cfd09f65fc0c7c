"""What lines of a vendor's batch hold, where more than one thing happens to them."""

import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text, update

from tests import budgeting
from tests.doubles.openai_batches import OpenAIBatchesDouble
from tests.integration.test_budgets_of_native_batches import (
    MOMENT,
    NOTHING,
    SETTINGS,
    Killed,
    budget,
    killed,
    left_over,
    limit,
    released,
    staged,
)
from tests.native import MODELS, Stage, provider_at, shard_states, states
from tests.trying import had, trials_of
from turnmill import Client
from turnmill.domain.budgets import Scope
from turnmill.domain.errors import Rejected
from turnmill.domain.ids import BatchId, TurnId
from turnmill.store.budget_records import Found, Holder, Reserved
from turnmill.store.database import Database
from turnmill.store.nouns import shards
from turnmill.store.nouns.accounts import ACCOUNT, AccountKey, close, read_closed
from turnmill.store.postgres import charging
from turnmill.store.schema.batch_tables import batch_shards
from turnmill.store.schema.budget_tables import budgets
from turnmill.store.schema.tables import turns
from turnmill_worker.native.pace import Pace
from turnmill_worker.native.reserving import Reserving
from turnmill_worker.native.tending import Tending
from turnmill_worker.providers.openai.provider import OpenAIProvider

pytestmark = pytest.mark.anyio

NO_TAKING: Any = None


@pytest.fixture
async def stage(database: Database, database_url: str) -> AsyncIterator[Stage]:
    async with staged(OpenAIBatchesDouble, database, database_url) as found:
        yield found


async def reserved_only(
    stage: Stage, n: int, monkeypatch: pytest.MonkeyPatch, step: str = "_store"
) -> BatchId:
    """Submit a batch whose worker is killed when its lines are reserved, before that step."""
    batch = stage.submit(n, settings=SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(Tending, step, killed)
        with pytest.raises(Killed):
            await stage.polled(within=MOMENT)
    with stage.database.begin() as conn:
        conn.execute(update(batch_shards).values(due_at=func.now()))  # its lease is over
    return batch


async def test_a_closed_account_stays_so_where_nothing_was_asked(stage: Stage) -> None:
    limit(stage, "0.0000001", on_exceeded="wait")
    provider = provider_at("openai", stage.double.base_url)
    key = AccountKey(kind=ACCOUNT, provider="openai", account=provider.account, model="")
    await provider.aclose()
    with stage.database.begin() as conn:
        close(conn, key, wait=lambda _: timedelta(0), code="x", permanent=False, turn_id=None)
    stage.submit(2, settings=SETTINGS)
    await stage.polled(within=MOMENT)
    with stage.database.single() as conn:
        assert [one.key for one in read_closed(conn)] == [key]


async def test_what_no_provider_would_take_has_no_bound_and_stops_no_other(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(stage, 1000)

    def refused(*_: Any) -> Any:
        raise Rejected("too_odd")

    monkeypatch.setattr(OpenAIProvider, "most", refused)
    batch = stage.submit(2, settings=SETTINGS)
    await stage.polled(within=MOMENT)
    assert states(stage.database, batch) == {"queued": 2}
    assert left_over(stage.database) == NOTHING


async def test_prices_of_many_places_leave_nothing_behind(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = Decimal("0.000000033333333")
    prices = SimpleNamespace(
        price=lambda *said: said[-1].output_tokens * third, source=lambda *_: "mine"
    )
    monkeypatch.setattr("tests.native.Listed", lambda: prices)
    limit(stage, 1000)
    batch = stage.submit(9, settings=SETTINGS)
    await stage.polled(within=MOMENT)
    assert budget(stage).reserved_usd == left_over(stage.database)[0] > 0
    released(stage)
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": 9}
    assert budget(stage).reserved_usd == 0


async def test_who_dissolves_a_shard_holds_no_budget_while_he_waits_for_its_turns(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(stage, 1000)
    batch = await reserved_only(stage, 2, monkeypatch)
    with stage.database.begin() as conn:
        shard = shards.take_due(conn, lease=MOMENT)
    assert shard is not None

    def dissolve() -> None:
        with stage.database.begin() as conn:
            assert shards.dissolve(conn, shard, error_code=None)

    work = threading.Thread(target=dissolve)
    with stage.database.begin() as conn:
        conn.execute(select(turns.c.id).with_for_update())
        work.start()
        work.join(0.5)
        assert work.is_alive()
        conn.execute(text("SET LOCAL lock_timeout = '1s'"))
        conn.execute(select(budgets.c.id).with_for_update())
    work.join()
    assert shard_states(stage.database, batch) == [("done", "", None)]
    assert left_over(stage.database) == NOTHING


async def test_who_was_too_slow_takes_no_line_out_of_a_shard(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(stage, "0.0000001", on_exceeded="wait")
    hold = Reserving._hold

    def outrun(self: Reserving, *asked: Any) -> Any:
        told = hold(self, *asked)
        with stage.database.begin() as conn:
            conn.execute(update(batch_shards).values(fence=batch_shards.c.fence + 1))
        return told

    with monkeypatch.context() as patch:
        patch.setattr(Reserving, "_hold", outrun)
        stage.submit(2, settings=SETTINGS)
        await stage.polled(within=MOMENT)
    with stage.database.single() as conn:
        assert "" not in conn.scalars(select(turns.c.native_ref)).all()


async def test_a_batch_goes_on_whose_money_others_of_its_turns_hold_only(stage: Stage) -> None:
    batch = stage.submit(2, settings=SETTINGS, max_cost_usd=1)
    of_batch = budgets.c.scope == "batch"
    with stage.database.begin() as conn:
        conn.execute(update(budgets).where(of_batch).values(reserved_usd=1))
    await stage.polled(within=MOMENT)
    with stage.database.begin() as conn:
        conn.execute(update(budgets).where(of_batch).values(reserved_usd=0))
    assert stage.tended(batch) == "running"


@pytest.mark.parametrize("step", ["_store", "_still_ours"])
async def test_what_a_paused_batch_was_not_asked_for_is_given_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    limit(stage, 1000)
    batch = await reserved_only(stage, 2, monkeypatch, step)
    if step == "_still_ours":  # its lines are stored, and nothing is begun
        with stage.database.begin() as conn:
            conn.execute(update(batch_shards).values(state="stored"))
    assert left_over(stage.database) != NOTHING
    with Client(database_url=stage.url) as client:
        client.batches.get(batch).pause()
    await stage.polled(within=MOMENT)
    assert left_over(stage.database) == NOTHING
    with Client(database_url=stage.url) as client:
        client.batches.get(batch).resume()
    released(stage)
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": 2}
    assert budget(stage).spent_usd > Decimal(0)
    assert not stage.double.inputs  # however often they were stored
    assert left_over(stage.database) == NOTHING


@pytest.mark.parametrize("goes", [False, True], ids=["cancelled", "deleted"])
async def test_what_a_trial_has_cost_is_on_no_budget_of_a_user_however_its_line_ends(
    stage: Stage, *, goes: bool
) -> None:
    had(stage.database, "hello", user_id="ada")
    limit(stage, 1000)
    limit(stage, 1000, user_id="ada")
    target = f"openai/{MODELS['openai']}"
    trial = trials_of(stage.database).start(target, mode="native", judge="exact", name="one")
    await stage.polled(within=MOMENT)
    with Client(database_url=stage.url) as client:
        (one,) = client.turns.list(batch=client.batches.get(trial.batch_id))
        if goes:
            client.sessions.delete(one.session_id)
        else:
            one.cancel()
    released(stage)
    await stage.polled()
    assert budget(stage).spent_usd > 0
    assert budget(stage, user_id="ada").spent_usd == 0
    assert left_over(stage.database) == NOTHING


async def test_results_are_charged_by_the_keys_of_their_turns_however_much_a_shard_holds(
    database: Database,
) -> None:
    row = "md5(n::text)::uuid, {fence}, md5('b')::uuid, 1, 1, {shard}"
    fill = (
        "INSERT INTO turnmill.charges (turn_id, fence, budget_id, period, reserved_usd, shard_id)"
    )
    with database.single() as conn:
        old = row.format(fence=1, shard="NULL")
        conn.exec_driver_sql(f"{fill} SELECT {old} FROM generate_series(1, 2000) AS n")
        conn.exec_driver_sql("VACUUM ANALYZE turnmill.charges")  # before there is a shard
        held = row.format(fence=-1, shard="md5('s')::uuid")
        conn.exec_driver_sql(f"{fill} SELECT {held} FROM generate_series(1, 4000) AS n")
        names = {"turn_ids": "$1", "fences": "$2", "shard": "$3"}
        asked = charging._BRING
        for name, place in names.items():
            asked = asked.replace(f"%({name})s", place)
        plan = "\n".join(conn.exec_driver_sql(f"EXPLAIN (GENERIC_PLAN) {asked}").scalars())
    assert "pk_charges" in plan
    assert "ix_charges_shard_id" not in plan


def test_very_many_lines_that_wait_are_looked_at_more_rarely(database: Database) -> None:
    pace = Pace.of(timedelta(seconds=60))
    reserving = Reserving(database, NO_TAKING, tags=(), pace=pace)
    for n, minutes in ((1, 1), (4_000, 1), (40_000, 19)):
        ids = [TurnId(UUID(int=one)) for one in range(n)]
        told = {one: Reserved(Found.LATER, wait=timedelta(seconds=1)) for one in ids}
        assert reserving._wait(told, ids) == timedelta(minutes=minutes)


@pytest.mark.parametrize("goes", [False, True], ids=["cancelled", "deleted"])
async def test_a_tag_that_is_a_number_bounds_a_line_however_it_ends(
    stage: Stage, *, goes: bool
) -> None:
    stage.submit(1, settings=SETTINGS)
    await stage.polled(within=MOMENT, tags=("team",))
    with stage.database.begin() as conn:
        conn.execute(update(turns).values(metadata={"team": 7}))
    team = Holder(Scope.TAG, "team", "7")
    budgeting.bound(stage.database, "1000", team)
    with Client(database_url=stage.url) as client:
        (turn,) = client.turns.list()
        if goes:
            client.sessions.delete(turn.session_id)
        else:
            turn.cancel()
    released(stage)
    await stage.polled(tags=("team",))
    assert budgeting.budget(stage.database, team).spent_usd > 0


async def test_lines_that_wait_for_a_budget_keep_no_later_line_of_others_from_its_vendor(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("turnmill_worker.native.polling._PARKED", 2)
    monkeypatch.setattr("turnmill_worker.native.polling._PUT_OFF", 8)
    for n in range(6):  # the first line of the seventh user stands behind theirs
        limit(stage, "0.0000001", user_id=f"user-{n}", on_exceeded="wait")
    batch = stage.submit(21, settings=SETTINGS)
    for _ in range(20):
        await stage.polled(within=MOMENT)
        if "9 lines of batch" in caplog.text:  # two were made turns of at a time
            break
    with Client(database_url=stage.url) as client:
        counts = client.batches.get(batch).counts
        listed = client.batches.list()
    assert (counts.waiting_for_budget, counts.states, counts.staged) == (9, {"waiting": 10}, 11)
    assert [one.record.waiting_for_budget for one in listed] == [9]
    assert sum(one.total for one in stage.double.desk.batches.values()) == 1
