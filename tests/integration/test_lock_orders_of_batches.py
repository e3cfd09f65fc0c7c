"""Who sees to a vendor's batch takes locks in the order in which others take them.

Sessions, turns, what is held for these, budgets: each kind in the order of its keys. Somebody has
the first lock of two, as those have who settle, reserve or end a shard; who waits for it there has
not the second one, or Postgres would break one of the two off.
"""

import io
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, literal_column, select, update

from tests import steps
from tests.crowd import DEADLINE, until_blocked
from tests.doubles.openai_batches import OpenAIBatchesDouble
from tests.integration.test_budgets_of_native_batches import MOMENT, SETTINGS, limit, staged
from tests.native import MODELS, Stage
from turnmill import Client
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.store.database import Database
from turnmill.store.line.late import book_lines
from turnmill.store.nouns import batch_feeding, batch_moves, sessions
from turnmill.store.nouns.shard_late import book_late
from turnmill.store.nouns.shard_moves import settle_out_of
from turnmill.store.nouns.shards import Shard, of_batch
from turnmill.store.postgres import batching, charging
from turnmill.store.records import Claim, Settlement
from turnmill.store.schema import tables
from turnmill.store.schema.budget_tables import budgets, charges
from turnmill.store.schema.tables import turns
from turnmill_worker.native.taking import _claim_of_gone

pytestmark = pytest.mark.anyio

COST = Decimal("0.001")


@dataclass(frozen=True, slots=True)
class Lines:
    """Turns that stand in a shard, in the order of their ids, each of another user."""

    batch: BatchId
    shard: Shard
    ids: list[TurnId]


@pytest.fixture
async def stage(database: Database, database_url: str) -> AsyncIterator[Stage]:
    async with staged(OpenAIBatchesDouble, database, database_url) as found:
        yield found


async def at_vendor(stage: Stage, n: int) -> Lines:
    batch = stage.submit(n, settings=SETTINGS)
    await stage.polled(within=MOMENT)
    with stage.database.single() as conn:
        (shard,) = of_batch(conn, batch)
        ids = conn.scalars(select(turns.c.id).order_by(turns.c.id)).all()
    return Lines(batch, shard, [TurnId(one) for one in ids])


def crossed(store: Database, first: Any, second: Any, deed: Callable[[Connection], Any]) -> None:
    """Lock a row, and then another, while a deed waits for the first: none is broken off."""

    def do() -> None:
        with store.begin() as conn:
            # A plan has an order of its own: this one that in which rows were written last.
            for way, allowed in (("seq", "on"), ("index", "off"), ("bitmap", "off")):
                conn.exec_driver_sql(f"SET LOCAL enable_{way}scan = {allowed}")
            deed(conn)

    with ThreadPoolExecutor(1) as threads:
        with store.begin() as conn:
            conn.execute(first.with_for_update(key_share=True))
            done = threads.submit(do)
            until_blocked(store)
            conn.execute(second.with_for_update(key_share=True))
        done.result(timeout=DEADLINE)


def let_stand_behind(conn: Connection, first: Any, second: Any, column: Any) -> None:
    """Write the first row again and again until a scan of its table finds the second before it."""
    place: Any = literal_column("ctid")
    behind = select(
        first.with_only_columns(place).scalar_subquery()
        > second.with_only_columns(place).scalar_subquery()
    )
    again = update(column.table).where(first.whereclause).values({column: column})
    for _ in range(2000):  # a page that has room is filled first
        conn.execute(again)
        if conn.scalar(behind):
            return
    raise AssertionError("it is always found first")


def row_of_turn(turn_id: TurnId) -> Any:
    return select(turns.c.id).where(turns.c.id == turn_id)


def held_for(turn_id: TurnId) -> Any:
    return select(charges.c.turn_id).where(charges.c.turn_id == turn_id)


def budget_of(user_id: str) -> Any:
    return select(budgets.c.id).where(budgets.c.scope == "user", budgets.c.name == user_id)


def paid(claim: Claim) -> Settlement:
    return steps.verdict(
        claim, TurnState.FAILED, error_code="x", cost_usd=COST, budgeted=claim.budgeted
    )


def settled(conn: Connection, lines: Lines) -> None:
    settle_out_of(conn, lines.shard, lines.ids, paid, owner="here", tags=())


def booked_late(conn: Connection, lines: Lines) -> None:
    assert book_late(conn, lines.shard, lines.ids, paid, owner="here", tags=())


def booked_of_nobody(conn: Connection, lines: Lines) -> None:
    def judge(row: Any) -> Settlement:
        return paid(_claim_of_gone(row))

    assert book_lines(conn, lines.shard.id, lines.ids, judge)


def cancelled(store: Database, lines: Lines) -> None:
    for one in lines.ids:
        steps.cancel(store, one)


def deleted(store: Database, lines: Lines) -> None:
    query = select(turns.c.session_id).where(turns.c.id.in_(lines.ids))
    with store.begin() as conn:
        for one in conn.scalars(query).all():
            sessions.remove(conn, SessionId(one))


@pytest.mark.parametrize(
    ("ends", "deed"),
    [(cancelled, booked_late), (deleted, booked_of_nobody)],
    ids=["cancelled", "deleted"],
)
async def test_late_lines_are_charged_to_budgets_in_one_order(
    stage: Stage, ends: Callable[..., None], deed: Callable[..., None]
) -> None:
    limit(stage, 1000, user_id="user-1")
    limit(stage, 1000, user_id="user-0")
    lines = await at_vendor(stage, 9)
    ends(stage.database, lines)
    first, second = budget_of("user-1"), budget_of("user-0")
    crossed(stage.database, first, second, lambda conn: deed(conn, lines))
    with Client(database_url=stage.url) as client:
        assert client.budgets.get(user_id="user-0", period="total").spent_usd == 2 * COST


async def test_lines_are_charged_in_one_order_to_budgets_that_bound_them_and_do(
    stage: Stage,
) -> None:
    limit(stage, 1000)
    lines = await at_vendor(stage, 2)
    with Client(database_url=stage.url) as client:
        client.budgets.remove(period="total")
    limit(stage, 1000, user_id="user-0")
    removed = select(budgets.c.id).where(budgets.c.scope == "gone")
    crossed(stage.database, removed, budget_of("user-0"), lambda conn: settled(conn, lines))


def put_off(conn: Connection, lines: Lines) -> None:
    batching.put_off(conn, lines.ids, shard=str(lines.shard.id), wait=timedelta(0))


def parked_again(conn: Connection, lines: Lines) -> None:
    batching.assign(conn, lines.ids, shard="", was=str(lines.shard.id))


def cancelled_there(conn: Connection, lines: Lines) -> None:
    batch_moves.cancel_page(conn, lines.batch)


@pytest.mark.parametrize("deed", [settled, put_off, parked_again, cancelled_there])
async def test_turns_of_a_shard_are_moved_in_the_order_of_their_ids(
    stage: Stage, deed: Callable[..., None]
) -> None:
    lines = await at_vendor(stage, 2)
    first, second = map(row_of_turn, lines.ids)
    with stage.database.begin() as conn:
        if deed is cancelled_there:  # what stands at a vendor is not
            parked_again(conn, lines)
        let_stand_behind(conn, first, second, turns.c.custom_id)
    crossed(stage.database, first, second, lambda conn: deed(conn, lines))


def given_back(conn: Connection, lines: Lines) -> None:
    charging.give_back(conn, lines.shard.id)


@pytest.mark.parametrize("deed", [settled, given_back])
async def test_what_is_held_for_lines_is_settled_in_one_order(
    stage: Stage, deed: Callable[..., None]
) -> None:
    limit(stage, 1000)
    lines = await at_vendor(stage, 2)
    first, second = map(held_for, lines.ids)
    with stage.database.begin() as conn:
        let_stand_behind(conn, first, second, charges.c.period)
    crossed(stage.database, first, second, lambda conn: deed(conn, lines))


async def test_lines_for_a_session_become_turns_of_it_before_their_money_is_given_back(
    stage: Stage,
) -> None:
    limit(stage, 1000)
    with Client(database_url=stage.url) as client:
        session = client.sessions.create(user_id="ada", provider="openai", model=MODELS["openai"])
        line = json.dumps({"session": str(session.id), "text": "hi"}).encode()
        batch = client.batches.create(io.BytesIO(line), name="b", mode="native").id
    crossed(
        stage.database,
        select(tables.sessions.c.id),
        select(budgets.c.id),
        lambda conn: batch_feeding.park_next(conn, batch),
    )
