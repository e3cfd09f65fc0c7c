"""Batches at vendors, from parked turns to settled ones, on a real Postgres and stand-ins."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from aiohttp import web
from sqlalchemy import select, update

from tests.doubles.anthropic_batches import AnthropicBatchesDouble
from tests.doubles.batch_desk import Fate
from tests.doubles.openai_batches import OpenAIBatchesDouble
from tests.doubles.openai_server import OpenAIDouble
from tests.native import Stage, polling, provider_at, shard_states, spent, states
from turnmill import Client
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.nouns import batch_feeding, shards
from turnmill.store.schema.tables import attempts, batches, messages, sessions, turns
from turnmill.store.upkeep.invariants import violations
from turnmill.wire import POLL_BATCHES
from turnmill_worker.native.saying import Saying
from turnmill_worker.upkeep.jobs import Upkeep

pytestmark = pytest.mark.anyio

_WITHIN = timedelta(seconds=20)


@pytest.fixture(params=["openai", pytest.param("anthropic", marks=pytest.mark.long)])
async def stage(
    request: pytest.FixtureRequest, database: Database, database_url: str
) -> AsyncIterator[Stage]:
    kind = OpenAIBatchesDouble if request.param == "openai" else AnthropicBatchesDouble
    async with kind() as double:
        yield Stage(database, double, request.param, database_url)


async def test_each_line_of_a_batch_at_a_vendor_has_its_reply_and_its_price_once(
    stage: Stage,
) -> None:
    batch = stage.submit(30)
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": 30}
    assert set(stage.double.desk.paid.values()) == {1}
    with stage.database.single() as conn:
        said = conn.execute(
            select(turns.c.batch_line, messages.c.content, attempts.c.kind, attempts.c.service_tier)
            .join(messages, (messages.c.turn_id == turns.c.id) & messages.c.final)
            .join(attempts, attempts.c.turn_id == turns.c.id)
            .where(turns.c.batch_id == batch)
            .order_by(turns.c.batch_line)
        ).all()
        heads = conn.scalars(select(sessions.c.unfinished)).all()
    assert [row.content[0]["text"] for row in said] == [f"echo: say {n} of 0" for n in range(30)]
    assert {(row.kind, row.service_tier) for row in said} == {("batch", "batch")}
    assert set(heads) == {0}
    cost, priced = spent(stage.database, batch)
    each = {"openai": "0.000028", "anthropic": "0.000225"}[stage.name]
    assert (cost, priced) == (30 * Decimal(each), 30)


@pytest.mark.long
async def test_what_waits_for_a_batch_is_run_by_no_worker(stage: Stage) -> None:
    stage.double.desk.takes = 3600.0
    batch = stage.submit(3)
    await stage.polled(within=timedelta(seconds=1))
    with stage.database.single() as conn:
        due = conn.scalars(select(sessions.c.head_due_at)).all()
    assert states(stage.database, batch) == {"waiting": 3}
    assert due == [None] * 3


async def test_two_pollers_that_read_the_same_results_settle_each_turn_once(stage: Stage) -> None:
    batch = stage.submit(60)
    await asyncio.gather(*(stage.polled(2) for _ in range(2)))
    assert states(stage.database, batch) == {"succeeded": 60}
    assert spent(stage.database, batch)[1] == 60
    assert set(stage.double.desk.paid.values()) == {1}


async def test_whoever_keeps_a_shard_a_moment_too_long_does_not_make_it_due_again(
    stage: Stage,
) -> None:
    batch = stage.submit(1)
    await stage.polled()
    with stage.database.begin() as conn:
        (shard,) = shards.of_batch(conn, batch)
        assert not shards.holds(conn, shard, lease=timedelta(0))
        assert shards.next_due(conn) is None


async def test_a_completed_batch_of_which_every_line_failed_has_failed(stage: Stage) -> None:
    fate = Fate(of_line=lambda _: "bad_request", empty_names=True)
    stage.double.desk.fates.append(fate)
    batch = stage.submit(9)
    await stage.polled()
    assert states(stage.database, batch) == {"failed": 9}
    assert spent(stage.database, batch) == (Decimal(0), 0)
    assert stage.tended(batch) == "failed"


async def test_what_an_expired_batch_has_finished_is_kept_and_the_rest_runs_by_itself(
    stage: Stage,
) -> None:
    fate = Fate(ends="expired", of_line=lambda n: "" if n == 3 else "expired", empty_names=True)
    stage.double.desk.fates.append(fate)
    batch = stage.submit(10)
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": 1, "retrying": 9}
    with stage.database.single() as conn:
        rows = conn.execute(
            select(turns.c.attempt, turns.c.waits_for, turns.c.error_code, sessions.c.head_due_at)
            .join(sessions, sessions.c.id == turns.c.session_id)
            .where(turns.c.state == "retrying")
        ).all()
    assert {(row.attempt, row.waits_for, row.error_code) for row in rows} == {
        (0, None, "batch_expired")
    }
    assert all(row.head_due_at is not None for row in rows)


@pytest.mark.long
async def test_lines_that_a_vendor_lost_refused_or_broke_go_into_the_next_shard(
    stage: Stage,
) -> None:
    outcomes = ["", "lost", "server_error", "rate_limited", "expired"]
    stage.double.desk.fates.append(Fate(of_line=lambda n: outcomes[n % 5]))
    batch = stage.submit(25, on_leftover="next")
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": 25}
    assert len(shard_states(stage.database, batch)) == 2
    assert set(stage.double.desk.paid.values()) == {1}


@pytest.mark.long
async def test_a_line_that_breaks_each_time_is_dead_after_its_attempts(stage: Stage) -> None:
    stage.double.desk.fates.extend(Fate(of_line=lambda _: "server_error") for _ in range(9))
    batch = stage.submit(2, on_leftover="next")
    await stage.polled()
    assert states(stage.database, batch) == {"dead": 2}


async def test_a_batch_that_a_vendor_has_begun_unheard_is_not_begun_again(stage: Stage) -> None:
    batch = stage.submit(5)
    stage.double.meet(*(["ok", "drop"] if stage.name == "openai" else ["drop"]))
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": 5}
    assert len(stage.double.desk.batches) == 1
    assert set(stage.double.desk.paid.values()) == {1}


@pytest.mark.long
async def test_user_turns_of_one_line_are_asked_one_after_the_other_each_on_the_last_reply(
    stage: Stage,
) -> None:
    batch = stage.submit(4, turns_each=3)
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": 12}
    assert len(shard_states(stage.database, batch)) == 3
    assert stage.double.desk.heard == [{1}, {3}, {5}]  # its own history, and nobody else's


async def test_cancelling_keeps_what_the_vendor_has_finished(stage: Stage) -> None:
    stage.double.desk.takes = 3600.0
    batch = stage.submit(10)
    await stage.polled(within=timedelta(seconds=1))
    assert states(stage.database, batch) == {"waiting": 10}
    with Client(database_url=stage.url) as client:
        client.batches.get(batch).cancel()
        await stage.polled()
        assert client.batches.get(batch).counts.states == {"succeeded": 5, "cancelled": 5}


async def test_what_is_answered_of_a_turn_that_was_cancelled_meanwhile_is_paid_for_once(
    stage: Stage,
) -> None:
    stage.double.desk.takes = 3600.0
    with Client(database_url=stage.url) as client:
        client.budgets.set(limit_usd=500, period="month")
        client.budgets.set(limit_usd=500, user_id="user-0")
        batch = stage.submit(3)
        await stage.polled(within=timedelta(seconds=0.5))
        turn = client.turns.list(batch=client.batches.get(batch), user_id="user-0")[0]
        assert turn.cancel() == "cancelled"
        assert turn.attempts() == []
        stage.double.desk.takes = 0.0
        await asyncio.gather(*(stage.polled(2) for _ in range(2)))
        assert states(stage.database, batch) == {"succeeded": 2, "cancelled": 1}
        (attempt,) = turn.attempts()
        each = {"openai": Decimal("0.000028"), "anthropic": Decimal("0.000225")}[stage.name]
        assert (attempt.kind, attempt.outcome, attempt.cost_usd) == ("batch", "cancelled", each)
        assert turn.refresh().record.cost_usd == each
        assert [one.role for one in turn.messages()] == ["user"]
        assert client.sessions.get(turn.session_id).cost_usd == each
        spent_of = {one.user_id: one.spent_usd for one in client.budgets.list()}
        assert spent_of == {None: 3 * each, "user-0": each}
        counts = client.batches.get(batch).counts
        assert (counts.cost_usd, counts.unpriced) == (3 * each, 0)
        assert counts.states == {"succeeded": 2, "cancelled": 1}
    with stage.database.single() as conn:
        assert violations(conn) == []


@pytest.mark.long
async def test_nothing_is_left_at_the_vendor(stage: Stage) -> None:
    batch = stage.submit(4)
    await stage.polled()
    assert {one[0] for one in shard_states(stage.database, batch)} == {"done"}
    if stage.name == "openai":
        assert not stage.double.inputs
        assert not stage.double.outputs
    else:
        assert stage.double.deleted


@pytest.mark.long
async def test_settings_of_calls_alone_let_turns_run_by_themselves(stage: Stage) -> None:
    batch = stage.submit(3, settings={"tools": ["a_tool"]})
    await stage.polled()
    assert states(stage.database, batch) == {"queued": 3}
    assert not stage.double.desk.batches


@pytest.mark.long
async def test_a_vendor_that_refuses_pauses_the_batch_and_loses_nothing(stage: Stage) -> None:
    batch = stage.submit(3)
    stage.double.meet("quota")
    await stage.polled()
    with stage.database.single() as conn:
        row = conn.execute(select(batches.c.state, batches.c.paused_because)).one()
    with Client(database_url=stage.url) as client:
        assert client.accounts.open(provider=stage.name) == 1  # it is closed for turns, too
        client.batches.get(batch).resume()
    assert row.state == "paused"
    assert "quota" in row.paused_because or "spend" in row.paused_because
    assert states(stage.database, batch) == {"waiting": 3}
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": 3}


@pytest.mark.long
async def test_shards_wait_for_the_window_of_their_vendor(
    database: Database, database_url: str
) -> None:
    async with OpenAIBatchesDouble(takes=0.1, window=20_000) as double:
        stage = Stage(database, double, "openai", database_url)
        provider = provider_at("openai", double.base_url)
        provider.batches.bounds = replace(provider.batches.bounds, window=20_000)
        batch = stage.submit(1000)
        await polling(database, provider).run(within=timedelta(seconds=60))
        await provider.aclose()
        assert states(database, batch) == {"succeeded": 1000}
        assert double.desk.refused_for_window == 0
        assert len(double.desk.batches) > 3
        assert set(double.desk.paid.values()) == {1}


@pytest.mark.long
async def test_a_window_that_is_smaller_than_was_said_is_found_out(
    database: Database, database_url: str
) -> None:
    async with OpenAIBatchesDouble(takes=0.05, window=5_000) as double:
        stage = Stage(database, double, "openai", database_url)
        batch = stage.submit(400)
        await stage.polled(within=timedelta(seconds=60))
        assert states(database, batch) == {"succeeded": 400}
        assert double.desk.refused_for_window > 0
        assert set(double.desk.paid.values()) == {1}


@pytest.mark.long
async def test_lines_that_a_vendor_finds_wrong_fail_and_the_others_go_on(
    database: Database, database_url: str
) -> None:
    async with OpenAIBatchesDouble() as double:
        stage = Stage(database, double, "openai", database_url)
        double.desk.fates.append(Fate(ends="failed", errors=[("invalid_json_line", 2)]))
        batch = stage.submit(5)
        await stage.polled()
        assert states(database, batch) == {"succeeded": 4, "failed": 1}


@pytest.mark.long
async def test_a_server_that_knows_no_batches_lets_turns_run_by_themselves(
    database: Database, database_url: str
) -> None:
    class Compatible(OpenAIDouble):
        """A server that speaks the API of calls alone."""

        def routes(self) -> list[web.RouteDef]:
            return [one for one in super().routes() if not one.path.startswith("/v1/files")]

    async with Compatible() as double:
        stage = Stage(database, double, "openai", database_url)
        batch = stage.submit(3)
        await stage.polled()
        assert states(database, batch) == {"queued": 3}
        with Client(database_url=database_url) as client:
            record = client.batches.get(batch).record
        assert (record.mode, record.mode_because) == ("live", "openai takes no batches here")


async def test_nothing_that_is_promised_is_broken_by_a_batch_at_its_vendor(stage: Stage) -> None:
    outcomes = ["", "bad_request", "expired"]
    stage.double.desk.fates.append(Fate(of_line=lambda n: outcomes[n % 3]))
    stage.double.desk.takes = 0.4
    stage.submit(9, turns_each=2, on_leftover="next")
    for _ in range(3):
        await stage.polled(within=timedelta(seconds=0.3))
        with stage.database.single() as conn:
            assert violations(conn) == []
    await stage.polled()
    with stage.database.single() as conn:
        assert violations(conn) == []


@pytest.mark.long
async def test_a_budget_is_told_what_a_batch_has_spent(stage: Stage) -> None:
    with Client(database_url=stage.url) as client:
        client.budgets.set(limit_usd=500, period="month")
        stage.submit(4)
        await stage.polled()
        (budget,) = client.budgets.list()
    each = {"openai": "0.000028", "anthropic": "0.000225"}[stage.name]
    assert budget.spent_usd == 4 * Decimal(each)
    assert budget.reserved_usd == 0


@pytest.mark.long
async def test_a_batch_is_stopped_before_it_may_cost_more_than_its_limit(stage: Stage) -> None:
    batch = stage.submit(20, settings={"max_output_tokens": 16})
    with stage.database.begin() as conn:
        limit = {"openai": "0.0002", "anthropic": "0.002"}[stage.name]
        conn.execute(update(batches).values(max_cost_usd=Decimal(limit)))
    await stage.polled()
    with stage.database.single() as conn:
        row = conn.execute(select(batches.c.state, batches.c.paused_because)).one()
    found = states(stage.database, batch)
    assert row == ("paused", "max_cost_usd")
    assert 0 < found["succeeded"] < 20
    assert found["waiting"] == 20 - found["succeeded"]


@pytest.mark.long
async def test_the_job_of_beat_brings_a_batch_to_its_end(stage: Stage) -> None:
    batch = stage.submit(5)
    provider = provider_at(stage.name, stage.double.base_url)
    jobs = Upkeep(stage.database, lambda _: provider, settings=Settings(database_url=stage.url))
    slot = datetime.now(UTC).replace(second=0, microsecond=0)
    counts = await jobs.job(POLL_BATCHES)(slot)
    await provider.aclose()
    assert states(stage.database, batch) == {"succeeded": 5}
    assert counts is not None
    assert counts["shards_made"] == 1
    assert stage.tended(batch) == "completed"


@pytest.mark.long
async def test_layers_of_the_operator_let_a_batch_run_call_by_call(stage: Stage) -> None:
    batch = stage.submit(3)
    await stage.polled(saying=Saying(lambda _: pytest.fail("nobody is asked"), layered=True))
    with Client(database_url=stage.url) as client:
        record = client.batches.get(batch).record
    assert record.mode == "live"
    assert "layers" in (record.mode_because or "")
    assert not stage.double.desk.batches


@pytest.mark.long
async def test_a_turn_that_nobody_can_read_is_let_go_and_the_others_are_asked(stage: Stage) -> None:
    batch = stage.submit(4)
    with stage.database.begin() as conn:
        parked = batch_feeding.park_next(conn, batch)
        odd = select(messages.c.id).order_by(messages.c.turn_id).limit(1).scalar_subquery()
        conn.execute(update(messages).where(messages.c.id == odd).values(content=[{"type": 7}]))
    await stage.polled()
    assert parked == 4
    assert states(stage.database, batch) == {"succeeded": 3, "queued": 1}
