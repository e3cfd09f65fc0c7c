"""Many who reserve at once, on a server: nobody is let through who does not fit, nor refused."""

import asyncio
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal

import pytest
from sqlalchemy import select

from tests import rows, steps
from tests.budgeting import ADA, ALL, ask, ask_all, bound, budget, end, one, over
from turnmill.domain.budgets import Period
from turnmill.domain.errors import SessionBusy
from turnmill.domain.states import TurnState
from turnmill.store.budget_records import Ask, Found
from turnmill.store.database import Database
from turnmill.store.line.reserving import begin_periods
from turnmill.store.records import Claim
from turnmill.store.schema.budget_tables import budgets
from turnmill_worker.turn.ledger import GroupedLedger

AT_ONCE = 6


def in_threads(work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(work, n) for n in range(AT_ONCE)]:
            done.result(timeout=60)


def claimed(store: Database, many: int) -> list[Claim]:
    ids = [steps.send(store, rows.start(store, user_id="ada")).turn_id for _ in range(many)]
    return steps.take(store, *ids)


def test_many_at_once_take_the_limit_exactly(database_url: str) -> None:
    store = Database(database_url)
    bound(store, "1", ALL)
    bound(store, "0.5", ADA)
    claims = claimed(store, 60)
    found: list[Found] = []

    def work(n: int) -> None:
        mine = claims[n::AT_ONCE]
        left = [(claim, "0.01") for claim in mine]
        while left:
            told = ask_all(store, left)
            found.extend(one.found for one in told if one.found is not Found.AGAIN)
            left = [pair for pair, one in zip(left, told, strict=True) if one.found is Found.AGAIN]

    in_threads(work)
    assert found.count(Found.RESERVED) == 50
    assert found.count(Found.LATER) == 10
    assert budget(store).reserved_usd == budget(store, ALL).reserved_usd == Decimal("0.5")
    steps.assert_sound(store)
    store.close()


def until_told(store: Database, claim: Claim, amount: str) -> Found:
    while (told := ask(store, claim, amount).found) is Found.AGAIN:
        pass
    return told


def over_limit(store: Database) -> Decimal:
    found = [budget(store, holder) for holder in (ALL, ADA)]
    return max(one.spent_usd + one.reserved_usd - one.limit_usd for one in found)


@pytest.mark.long
def test_readers_never_see_more_than_the_limit_and_the_sums_are_right(database_url: str) -> None:
    store = Database(database_url)
    bound(store, "0.50", ALL)
    bound(store, "0.40", ADA, period=Period.DAY)
    claims = claimed(store, 120)
    seen: list[Decimal] = []

    def work(n: int) -> None:
        chance = random.Random(n)
        for claim in claims[n::AT_ONCE]:
            if until_told(store, claim, "0.02") is Found.RESERVED:
                seen.append(over_limit(store))
                settle(store, claim, chance)

    in_threads(work)
    assert len(seen) > 20 and max(seen) <= 0
    steps.assert_sound(store)
    assert budget(store, ALL).reserved_usd == 0
    assert budget(store, ALL).spent_usd == budget(store).spent_usd
    store.close()


def settle(store: Database, claim: Claim, chance: random.Random) -> None:
    """End the call, or lose it with its worker."""
    if chance.random() < 0.2:
        steps.lose(store, claim.turn_id)
    else:
        end(store, claim, cost_usd=Decimal(chance.randrange(3)) / 1000)


def test_midnight_passes_once_however_many_look(database_url: str) -> None:
    store = Database(database_url)
    bound(store, "1", ADA, period=Period.DAY)
    claims = claimed(store, 30)
    over(store)

    def work(n: int) -> None:
        for claim in claims[n::AT_ONCE]:
            while (told := ask(store, claim, "0.1")).found is Found.AGAIN:
                with store.begin() as conn:
                    begin_periods(conn, told.over)

    in_threads(work)
    assert budget(store).reserved_usd == 1
    steps.assert_sound(store)
    store.close()


@pytest.mark.long
def test_who_reserves_and_who_takes_what_is_lost_agree(database_url: str) -> None:
    """A reservation that a lost claim made at the last moment is found by who takes the turn."""
    store = Database(database_url)
    bound(store, "100", ADA)
    for _ in range(15):
        claim = one(store)
        began = threading.Barrier(2)

        def reserve(claim: Claim = claim, began: threading.Barrier = began) -> None:
            began.wait()
            ask(store, claim, "1")

        def lose(claim: Claim = claim, began: threading.Barrier = began) -> None:
            began.wait()
            with suppress(SessionBusy):
                steps.lose(store, claim.turn_id)

        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(reserve), pool.submit(lose)]:
                done.result(timeout=60)
        steps.look_for_lost(store)
        steps.assert_sound(store)
        assert steps.state(store, claim.turn_id) is not TurnState.RUNNING
    assert budget(store).reserved_usd == 0
    store.close()


@pytest.mark.anyio
async def test_who_holds_a_budget_for_long_holds_up_nobody_who_has_none(database_url: str) -> None:
    store = Database(database_url)
    bound(store, "1", ADA)
    mine = one(store, user_id="ada")
    of_bob = steps.send(store, rows.start(store, user_id="bob")).turn_id
    ledger = GroupedLedger(store, owner="one", lease=steps.LEASE)
    wanted = Ask(turn_id=mine.turn_id, fence=mine.fence, amount_usd=Decimal("0.1"))
    with store.begin() as conn:
        conn.execute(select(budgets).with_for_update())
        asked = asyncio.ensure_future(ledger.reserve(wanted))
        await asyncio.sleep(0)  # it is handed over before the hint
        async with asyncio.timeout(3):  # other locks are waited for five seconds
            taken = await ledger.claim(of_bob)
        assert taken is not None
        assert not asked.done()
    assert (await asked).found is Found.RESERVED
    await asyncio.to_thread(ledger.stop)
    store.close()
