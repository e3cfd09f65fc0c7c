"""Batches at vendors of many moods, seen to by workers that are killed: what is paid is booked.

Dice say what goes wrong, and when: lines end once; what the vendor has run, all of it and nothing
else, stands in the batch, on the bill and in the budgets, of which nothing is left reserved.
`TURNMILL_TEST_NATIVE_SEEDS=0-200` runs so many of them.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from multiprocessing.process import BaseProcess
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import func, select, text

from tests.doubles.batch_desk import Fate
from tests.doubles.moody_batches import Moody, MoodyAnthropic, MoodyOpenAI
from tests.native import MODELS, Stage, polling, provider_at, shard_states, states
from tests.native_crowd import begun, impatient, killed
from turnmill import Client, TurnmillError
from turnmill.domain.ids import BatchId
from turnmill.domain.states import UNFINISHED
from turnmill.store.database import Database
from turnmill.store.nouns.spending import spent
from turnmill.store.schema.batch_tables import batch_shards
from turnmill.store.schema.budget_tables import budgets, charges
from turnmill.store.schema.tables import attempts, turns
from turnmill.store.upkeep.invariants import violations
from turnmill_worker.native.taking import Prices
from turnmill_worker.providers.own_prices import Prices as Listed
from turnmill_worker.providers.port import Usage

pytestmark = [pytest.mark.anyio, pytest.mark.long, pytest.mark.timeout(180)]

_FIRST, _, _LAST = os.environ.get("TURNMILL_TEST_NATIVE_SEEDS", "0-2").partition("-")
SEEDS = range(int(_FIRST), int(_LAST) + 1)
DOUBLES: dict[str, type[Moody]] = {"openai": MoodyOpenAI, "anthropic": MoodyAnthropic}
SETTINGS = {"max_output_tokens": 100}
#: Of a batch that has ended: told at once, after a few looks, when nobody waits for it any more.
DELAYS = (0.0, 0.0, 0.0, 0.2, 1.2, 4.5)
_ENDS_WITHIN = 60.0


@dataclass
class Run:
    """One of them, as its dice fall."""

    stage: Stage
    dice: random.Random
    batches: list[BatchId] = field(default_factory=list)
    pollers: list[BaseProcess] = field(default_factory=list)
    did: list[str] = field(default_factory=list)

    @property
    def desk(self) -> Any:
        return self.stage.double.desk

    def submit(self) -> None:
        dice, desk = self.dice, self.desk
        desk.takes = dice.choice((0.0, 0.1, 0.5))
        desk.fates.extend(self._fate() for _ in range(5))
        given: dict[str, Any] = {"on_leftover": dice.choice(("next", "next", "live"))}
        if dice.random() < 0.2:
            given["deadline"] = timedelta(seconds=dice.uniform(0.3, 2.0))
        if dice.random() < 0.3:
            given["max_cost_usd"] = 5
        for n in range(dice.choice((1, 1, 2))):
            lines = dice.randint(1, 12)
            batch = self.stage.submit(lines, settings=SETTINGS, name=f"batch {n}", **given)
            self.batches.append(batch)
        self.did.append(f"{given} {desk.takes}")

    def _fate(self) -> Fate:
        dice = self.dice
        ends = dice.choice(("completed", "completed", "completed", "expired", "cancelled"))
        outcomes = ["", "", "", "server_error", "rate_limited", "bad_request"]
        if self.stage.name == "openai":
            outcomes += ["failed", "lost"]  # the other one's numbers add up to all lines, always
        if ends != "completed":
            outcomes += [{"expired": "expired", "cancelled": "canceled"}[ends]] * 4
        drawn = [dice.choice(outcomes) for _ in range(12)]
        if dice.random() < 0.3:
            drawn = [dice.choice((outcomes[0], outcomes[-1])) for _ in range(12)]
        return Fate(ends=ends, of_line=lambda n: drawn[n % 12], empty_names=dice.random() < 0.3)

    def poll(self) -> None:
        self.pollers.append(begun(self.stage.url, self.stage.name, self.stage.double.base_url))

    def kill(self) -> None:
        for one in self.pollers:
            killed(one)
        self.pollers.clear()
        time.sleep(0.1)  # what it has sent comes in: nobody else begins it within a minute
        due_now(self.stage.database)  # their leases are over

    def act(self) -> None:
        """Do something that people do, or that happens."""
        acts: dict[str, Callable[[Client], object]] = {
            "kill": lambda _: self.kill(),
            "kill again": lambda _: self.kill(),
            "another": lambda _: self.poll() if len(self.pollers) < 2 else None,
            "cancel": lambda client: client.batches.get(self._one()).cancel(),
            "cancel a turn": lambda client: self._turn(client).cancel(),
            "pause": lambda client: client.batches.get(self._one()).pause(),
            "resume": lambda client: client.batches.get(self._one()).resume(),
            "delete": lambda client: client.sessions.delete(self._turn(client).session_id),
            "erase": lambda client: client.users.erase(f"user-{self.dice.randrange(7)}"),
            "retry": lambda client: client.batches.get(self._one()).retry_failed(),
            "retry a turn": lambda client: self._turn(client).retry(),
            "tend": lambda _: [self.stage.tended(one) for one in self.batches],
        }
        what = self.dice.choice([*acts])
        self.did.append(what)
        try:
            with Client(database_url=self.stage.url) as client:
                acts[what](client)
        except TurnmillError as error:  # it cannot be done now
            self.did.append(error.code)
        if not self.pollers:
            self.poll()

    def _one(self) -> BatchId:
        return self.dice.choice(self.batches)

    def _turn(self, client: Client) -> Any:
        found = list(client.turns.list(batch=client.batches.get(self._one())))
        if not found:
            raise TurnmillError("there is none")
        return self.dice.choice(found)

    @property
    def bill(self) -> Decimal:
        """What the vendor is owed."""
        lines: int = sum(self.desk.paid.values())
        return lines * _price_of_a_line(self.stage.name)


def _price_of_a_line(name: str) -> Decimal:
    listed = Listed()
    usage = Usage(input_tokens=100, output_tokens=10, service_tier="batch")
    reply = SimpleNamespace(model=MODELS[name], usage=usage)
    claim = SimpleNamespace(provider=name, model=MODELS[name])
    prices = Prices(price=listed.price, source=listed.source)
    cost, _ = prices.of(cast("Any", claim), cast("Any", reply))
    assert cost is not None
    return cost


def due_now(database: Database, *, later: timedelta = timedelta(0)) -> None:
    """Let whatever is waited for come up now, `later` as it were."""
    with database.begin() as conn:
        conn.execute(
            text(
                "UPDATE turnmill.batch_shards SET due_at = now(), ended_at = ended_at - :later"
                " WHERE due_at IS NOT NULL"
            ),
            {"later": later},
        )


def _open_shards(database: Database) -> int:
    with database.single() as conn:
        query = select(func.count()).where(batch_shards.c.due_at.is_not(None))
        return conn.execute(query).scalar_one()


def _booked(run: Run) -> tuple[Decimal, Decimal, Decimal]:
    """Return what was spent by the budget of all, by the batches, and by the bill."""
    today = datetime.now(UTC).date()
    with Client(database_url=run.stage.url) as client:
        by_budget = client.budgets.get(period="total").spent_usd
        by_batches = sum(
            (client.batches.get(one).counts.cost_usd for one in run.batches), Decimal(0)
        )
    with run.stage.database.single() as conn:
        found = spent(conn, provider=run.stage.name, first=today - timedelta(days=1), last=today)
    return by_budget, by_batches, sum((one.cost_usd for one in found), Decimal(0))


def _of_unended(database: Database) -> Decimal:
    """Return what turns have cost that go on, call by call: a batch sums up what has ended."""
    cost = func.coalesce(func.sum(turns.c.cost_usd), 0)
    with database.single() as conn:
        query = select(cost).where(turns.c.state.in_(UNFINISHED))
        return Decimal(conn.execute(query).scalar_one())


async def _end(run: Run) -> None:
    """Let everything come to its end."""
    stage, double = run.stage, run.stage.double
    double.calm()
    with Client(database_url=stage.url) as client:
        for one in run.batches:
            if client.batches.get(one).record.state == "paused":
                client.batches.get(one).resume()
    due_now(stage.database)
    provider = provider_at(stage.name, double.base_url)
    async with asyncio.timeout(_ENDS_WITHIN):
        while _open_shards(stage.database) or not _all_ended(run):
            await polling(stage.database, provider).run(within=timedelta(seconds=0.5))
            for one in run.batches:
                stage.tended(one)
            if not double.told_by():
                # What the vendor knows is told: nobody need wait for what never comes.
                due_now(stage.database, later=timedelta(seconds=2))
    await provider.aclose()


def _all_ended(run: Run) -> bool:
    """Tell whether every line has become a turn, and none waits for a vendor's batch."""
    with Client(database_url=run.stage.url) as client:
        if any(client.batches.get(one).counts.staged for one in run.batches):
            return False
    waiting = turns.c.state.in_(("waiting", "running"))
    with run.stage.database.single() as conn:
        return conn.execute(select(turns.c.id).where(waiting).limit(1)).first() is None


@asynccontextmanager
async def _run(name: str, seed: int, database: Database, url: str) -> AsyncIterator[Run]:
    dice = random.Random(f"{name} {seed}")
    async with DOUBLES[name]() as double:
        double.dice = random.Random(dice.random())
        double.delays = DELAYS
        double.faulty = dice.choice((0.0, 0.1, 0.3))
        run = Run(Stage(database, double, name, url), dice)
        with Client(database_url=url) as client:
            client.budgets.set(limit_usd=1000, period="total")
        try:
            yield run
        finally:
            run.kill()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", DOUBLES)
async def test_whatever_goes_wrong_what_is_paid_is_booked_and_nothing_stays_reserved(
    database: Database,
    database_url: str,
    name: str,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    impatient(patch=monkeypatch.setattr)
    async with _run(name, seed, database, database_url) as run:
        await asyncio.to_thread(run.submit)
        run.poll()
        for _ in range(run.dice.randint(2, 8)):
            await asyncio.sleep(run.dice.uniform(0.0, 0.6))  # whenever it falls
            await asyncio.to_thread(run.act)
        await asyncio.to_thread(run.kill)
        await _end(run)
        told = f"{run.did}\n{[shard_states(database, one) for one in run.batches]}"
        told += f"\n{[states(database, one) for one in run.batches]} {run.desk.told()}"
        by_budget, by_batches, by_bill = _booked(run)
        assert (by_budget, by_bill) == (run.bill, run.bill), told
        if not {"delete", "erase"} & {*run.did}:  # or else lines of batches are gone
            assert by_batches + _of_unended(database) == run.bill, told
        _check_ended(run, told)


def _check_ended(run: Run, told: str) -> None:
    """Fail unless each line was answered once at the most, and nothing is held for any."""
    a, c = attempts.c, charges.c
    with run.stage.database.single() as conn:
        assert violations(conn) == [], told
        reserved = func.coalesce(func.sum(c.reserved_usd), 0)
        left = conn.execute(select(reserved, func.count(c.shard_id))).one()
        assert (*left,) == (0, 0), told
        answered = conn.execute(
            select(a.turn_id)
            .where(a.outcome == "succeeded")
            .group_by(a.turn_id)
            .having(func.count() > 1)
        ).all()
        assert answered == [], told
        held = select(func.sum(budgets.c.reserved_usd))
        assert conn.execute(held).scalar_one() == 0, told
