"""A batch that has ended and tells nothing may have run: it is asked again, and all is booked."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal

import pytest
from aiohttp import web
from sqlalchemy import func, select, text

from tests.doubles.batch_desk import Fate
from tests.doubles.hostile_batches import Hostile, HostileAnthropic, HostileOpenAI
from tests.integration.test_budgets_of_native_batches import NOTHING, budget, left_over, limit
from tests.native import Stage, shard_states, spent, states
from turnmill import Client
from turnmill.domain.ids import BatchId
from turnmill.store.database import Database
from turnmill.store.line.charges import charge_orphans
from turnmill.store.schema.batch_tables import batch_shards
from turnmill.store.schema.rollup_tables import calls_gone
from turnmill.store.upkeep.invariants import violations

pytestmark = pytest.mark.anyio

LINES = 6
SETTINGS = {"max_output_tokens": 100}
MOMENT = timedelta(seconds=0.6)
#: As long as results are asked for again, at the pace of these tests.
PATIENCE = timedelta(seconds=3)
_DOUBLES: dict[str, type[Hostile]] = {"openai": HostileOpenAI, "anthropic": HostileAnthropic}


@pytest.fixture(params=_DOUBLES)
async def stage(
    request: pytest.FixtureRequest, database: Database, database_url: str
) -> AsyncIterator[Stage]:
    async with _DOUBLES[request.param]() as double:
        found = Stage(database, double, request.param, database_url)
        limit(found, 1000)
        yield found
    with database.single() as conn:
        assert violations(conn) == []
    assert left_over(database) == NOTHING


def says_nothing(stage: Stage, looks: int) -> None:
    """Let it tell of no line, and of no place where results are, for so many looks."""
    stage.double.unnamed = stage.double.uncounted = looks


def cost_of(stage: Stage, batch: BatchId) -> Decimal:
    with Client(database_url=stage.url) as client:
        return client.batches.get(batch).counts.cost_usd


def each(stage: Stage, batch: BatchId) -> Decimal:
    """Return what a line costs, of lines that all cost the same."""
    cost, priced = spent(stage.database, batch)
    return cost / priced


def at_once(stage: Stage, *, later: timedelta = timedelta(0)) -> None:
    """Let whatever is waited for come up now, and be so much older."""
    with stage.database.begin() as conn:
        conn.execute(
            text(
                "UPDATE turnmill.batch_shards SET due_at = now(), ended_at = ended_at - :later"
                " WHERE due_at IS NOT NULL"
            ),
            {"later": later},
        )


async def given_up(stage: Stage) -> None:
    """Let a worker ask for results until he asks no more."""
    await stage.polled(within=MOMENT)
    at_once(stage, later=PATIENCE)
    await stage.polled(within=MOMENT)


@pytest.mark.parametrize("ends", ["cancelled", "expired"])
async def test_a_batch_that_was_cut_short_and_counts_nothing_yet_is_looked_at_again(
    stage: Stage, ends: str
) -> None:
    stage.double.desk.fates.append(Fate(ends=ends))
    says_nothing(stage, 3)
    batch = stage.submit(LINES, settings=SETTINGS)
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": LINES}
    assert set(stage.double.desk.paid.values()) == {1}
    assert budget(stage).spent_usd == cost_of(stage, batch) == LINES * each(stage, batch)


async def test_what_was_run_of_a_batch_that_somebody_cancels_is_booked_though_it_is_told_late(
    stage: Stage,
) -> None:
    stage.double.desk.takes = 3600.0
    batch = stage.submit(LINES, settings=SETTINGS)
    await stage.polled(within=MOMENT)
    with Client(database_url=stage.url) as client:
        client.batches.get(batch).cancel()
    says_nothing(stage, 3)
    await stage.polled()
    assert states(stage.database, batch) == {"cancelled": LINES // 2, "succeeded": LINES // 2}
    assert sum(stage.double.desk.paid.values()) == LINES // 2
    assert spent(stage.database, batch)[1] == LINES // 2
    assert budget(stage).spent_usd == cost_of(stage, batch) > 0


async def test_a_batch_that_names_one_of_two_files_and_counts_nothing_is_looked_at_again(
    database: Database, database_url: str
) -> None:
    class HalfNamed(HostileOpenAI):
        def _told_of(self, response: web.Response) -> web.Response:
            found = super()._told_of(response)
            assert isinstance(found.body, bytes)
            told = json.loads(found.body)
            if "data" not in told and looks and looks.pop():
                none = dict.fromkeys(told["request_counts"], 0)
                told |= {"output_file_id": None, "request_counts": none}
            return web.json_response(told)

    looks = [1, 1, 1]
    async with HalfNamed() as double:
        stage = Stage(database, double, "openai", database_url)
        fate = Fate(of_line=lambda n: "bad_request" if n == 0 else "")
        double.desk.fates.append(fate)
        batch = stage.submit(LINES)
        await stage.polled()
        assert states(database, batch) == {"succeeded": LINES - 1, "failed": 1}
        assert sum(double.desk.paid.values()) == LINES - 1
        assert spent(database, batch)[1] == LINES - 1


async def test_results_that_come_when_their_lines_have_gone_on_are_booked_and_deleted(
    stage: Stage,
) -> None:
    says_nothing(stage, 10_000)
    batch = stage.submit(LINES, settings=SETTINGS, on_leftover="next")
    stage.double.desk.fates.extend([Fate(), Fate()])
    await given_up(stage)
    assert ("taken", "unread", None) in shard_states(stage.database, batch)
    says_nothing(stage, 0)
    await stage.polled()
    at_once(stage)
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": LINES}
    assert set(stage.double.desk.paid.values()) == {2}
    assert spent(stage.database, batch)[1] == LINES  # the others are nobody's
    assert budget(stage).spent_usd == cost_of(stage, batch) == 2 * LINES * each(stage, batch)
    assert {one[0] for one in shard_states(stage.database, batch)} == {"done"}
    with stage.database.single() as conn:
        assert conn.scalar(select(func.count()).select_from(calls_gone)) == 0


async def test_a_batch_that_never_tells_is_left_alone_after_a_day(stage: Stage) -> None:
    stage.double.unknown = 10_000
    batch = stage.submit(LINES, settings=SETTINGS)
    await given_up(stage)
    assert [one[0] for one in shard_states(stage.database, batch)] == ["taken"]
    at_once(stage)
    await stage.polled(within=MOMENT)
    assert [one[0] for one in shard_states(stage.database, batch)] == ["taken"]
    at_once(stage, later=timedelta(days=1))
    await stage.polled(within=MOMENT)
    assert [one[0] for one in shard_states(stage.database, batch)] == ["done"]
    assert budget(stage).spent_usd == 0


async def test_results_that_cannot_be_read_at_this_moment_are_read_later_though_a_day_has_passed(
    stage: Stage,
) -> None:
    stage.double.desk.takes = 3600.0
    batch = stage.submit(LINES, settings=SETTINGS)
    await stage.polled(within=MOMENT)
    with Client(database_url=stage.url) as client:
        client.batches.get(batch).cancel()
    says_nothing(stage, 10_000)
    await given_up(stage)
    assert [one[:2] for one in shard_states(stage.database, batch)] == [("taken", "unread")]
    says_nothing(stage, 0)
    stage.double.busy = 2
    at_once(stage, later=timedelta(days=2))
    await stage.polled()
    assert stage.double.busy == 0
    assert budget(stage).spent_usd == cost_of(stage, batch) > 0
    assert [one[0] for one in shard_states(stage.database, batch)] == ["done"]


async def test_a_batch_that_is_known_again_when_its_lines_have_gone_on_runs_no_further(
    stage: Stage,
) -> None:
    stage.double.desk.takes = 3600.0
    stage.double.unknown = 10_000
    batch = stage.submit(LINES, settings=SETTINGS, on_leftover="next")
    await given_up(stage)
    assert ("taken", "unread", None) in shard_states(stage.database, batch)
    stage.double.unknown = 0
    at_once(stage)
    await stage.polled(within=MOMENT)
    first = next(iter(stage.double.desk.batches.values()))
    assert first.cancelled
    stage.double.desk.takes = 0.0
    await stage.polled()
    at_once(stage)
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": LINES}
    assert sum(stage.double.desk.paid.values()) == LINES // 2 + LINES
    cost = (LINES // 2 + LINES) * each(stage, batch)
    assert budget(stage).spent_usd == cost_of(stage, batch) == cost
    assert {one[0] for one in shard_states(stage.database, batch)} == {"done"}


async def test_a_batch_that_was_begun_unheard_is_known_by_lines_that_were_cancelled_since(
    stage: Stage,
) -> None:
    begun = asyncio.Event()

    def unheard() -> web.Response:
        begun.set()
        return web.json_response({"error": {"message": "Oops."}}, status=500)

    stage.double.answers_begin = unheard
    stage.double.desk.takes = 1.0
    stage.double.desk.lists_after = 60.0
    batch = stage.submit(LINES, settings=SETTINGS)
    polling = asyncio.ensure_future(stage.polled())
    await begun.wait()
    polling.cancel()
    await asyncio.wait([polling])
    with stage.database.single() as conn:
        assert conn.scalars(select(batch_shards.c.state)).all() == ["beginning"]
    with Client(database_url=stage.url) as client:
        for one in client.turns.list(batch=client.batches.get(batch)):
            one.cancel()
    stage.double.desk.lists_after = 0.0
    await stage.polled()
    assert states(stage.database, batch) == {"cancelled": LINES}
    assert len(stage.double.desk.batches) == 1
    paid = sum(stage.double.desk.paid.values())
    assert spent(stage.database, batch)[1] == paid > 0
    assert budget(stage).spent_usd == cost_of(stage, batch) > 0


async def test_what_is_held_for_lines_of_somebody_erased_comes_back_with_the_last_of_the_others(
    stage: Stage,
) -> None:
    batch = stage.submit(LINES, settings=SETTINGS)
    other = stage.submit(1, settings=SETTINGS, name="nobody's")
    assert budget(stage).reserved_usd > 0
    with Client(database_url=stage.url) as client:
        client.users.erase("user-0")
        client.users.erase("user-1")
    await stage.polled()
    assert states(stage.database, batch) == {"succeeded": LINES - 2}
    assert stage.tended(other) in ("completed", "failed")
    assert budget(stage).reserved_usd == 0


async def test_upkeep_gives_back_what_a_batch_of_before_has_left_reserved(stage: Stage) -> None:
    batch = stage.submit(1, settings=SETTINGS)
    held = budget(stage).reserved_usd
    assert held > 0
    with stage.database.begin() as conn:
        assert charge_orphans(conn) == 0
        conn.execute(text("UPDATE turnmill.batches SET ended_at = now()"))
        assert charge_orphans(conn) == 1
    assert budget(stage).reserved_usd == 0
    assert states(stage.database, batch) == {}
    with stage.database.begin() as conn:
        conn.execute(text("UPDATE turnmill.batches SET ended_at = NULL"))
