"""What a process takes that nobody told it of, and what it leaves alone."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.claims import a_claim
from tests.ledgers import FakeLedger
from turnmill.domain.states import Lane
from turnmill.store.records import Claim
from turnmill_worker.process.poller import Hints, Poller
from turnmill_worker.providers.port import Done, Provider, Request
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.slots import Slots

pytestmark = pytest.mark.anyio

LONG = timedelta(seconds=1)
JUST = timedelta(milliseconds=200)


@dataclass
class Ledger(FakeLedger):
    """Has any number of turns that are due in each lane."""

    waits: dict[Lane, timedelta] = field(default_factory=dict)
    due: Counter[Lane] = field(default_factory=Counter)
    questions: int = 0
    limits: list[int] = field(default_factory=list)  #: of the claims

    async def longest_waits(self) -> dict[Lane, timedelta]:
        self.questions += 1
        return self.waits

    async def claim_due(self, lane: Lane, *, limit: int) -> list[Claim]:
        self.limits.append(limit)
        count = min(limit, self.due[lane])
        self.due[lane] -= count
        return [a_claim(lane=lane) for _ in range(count)]


@dataclass
class World:
    """A poller and all that it asks, at a time that the test tells."""

    slots: int = 10
    lanes: tuple[Lane, ...] = tuple(Lane)
    draining: bool = False
    now: float = 100.0
    calls: int = 0
    visits: int = 0
    heard: Counter[Lane] = field(default_factory=Counter)
    ledger: Ledger = field(default_factory=Ledger)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.deps = Deps(
            ledger=self.ledger,
            in_hand=InHand(),
            slots=Slots(self.slots),
            provider=lambda _: cast(Provider, SimpleNamespace(send=self._send)),
            announce=lambda _: None,
            announce_at=lambda *_: None,
            price=lambda *_: None,
            accepting=lambda: not self.draining,
        )
        self.poller = Poller(
            self.deps,
            self.ledger,
            Hints(
                lanes=lambda: self.lanes,
                heard=lambda lane: self.heard[lane],
                connected=lambda: True,
            ),
            quarantine=self._visit,
            clock=lambda: self.now,
        )

    async def _send(self, request: Request) -> Done:
        self.calls += 1
        self.began.set()
        await self.ending.wait()
        return Done(text="hello")

    async def _visit(self) -> None:
        self.visits += 1

    async def look(self, *, after: float = 1.0) -> None:
        """Let time pass, look, and let what was started begin."""
        self.now += after
        await self.poller.look()
        for _ in range(20):
            await asyncio.sleep(0)

    def leave(self, lane: Lane, count: int, *, waited: timedelta = LONG) -> None:
        self.ledger.waits[lane] = waited
        self.ledger.due[lane] = count


async def test_what_has_been_left_lying_is_taken_when_no_hints_come() -> None:
    world = World(slots=40)
    for lane in (Lane.INTERACTIVE, Lane.BULK):
        world.leave(lane, 3)
    world.leave(Lane.QUARANTINE, 1, waited=2 * LONG)
    await world.look()
    assert world.calls == 6
    assert world.visits == 1
    world.ending.set()


async def test_where_hints_come_nothing_is_taken_and_nothing_asked() -> None:
    world = World(lanes=(Lane.INTERACTIVE,))
    world.leave(Lane.INTERACTIVE, 3)
    for _ in range(10):
        world.heard[Lane.INTERACTIVE] += 1
        await world.look(after=0.5)
    assert (world.calls, world.ledger.questions) == (0, 0)


async def test_what_became_due_a_moment_ago_is_left_to_its_hint() -> None:
    world = World()
    world.leave(Lane.INTERACTIVE, 3, waited=JUST)
    await world.look()
    assert world.calls == 0


async def test_once_it_is_clear_that_no_hints_come_nothing_waits_for_them() -> None:
    world = World(slots=40)
    world.leave(Lane.INTERACTIVE, 1)
    await world.look()
    world.leave(Lane.INTERACTIVE, 1, waited=JUST)
    await world.look(after=0.2)
    assert world.calls == 2
    world.heard[Lane.INTERACTIVE] += 1  # and then one does
    world.leave(Lane.INTERACTIVE, 1, waited=JUST)
    await world.look(after=0.2)
    assert world.calls == 2
    world.ending.set()


@pytest.mark.parametrize(
    "hinders",
    [
        lambda world: setattr(world, "draining", True),
        lambda world: setattr(world, "lanes", (Lane.BULK,)),
        lambda world: world.deps.slots.take(Lane.INTERACTIVE, most=10),
    ],
    ids=["a shutdown", "another lane's worker", "no free slot"],
)
async def test_nothing_is_taken_during(hinders: Callable[[World], Any]) -> None:
    world = World()
    world.leave(Lane.INTERACTIVE, 3)
    hinders(world)
    await world.look()
    assert (world.calls, world.ledger.limits) == (0, [])


async def test_half_of_the_room_is_left_to_the_next_look_and_to_other_workers() -> None:
    world = World(slots=10)
    world.leave(Lane.INTERACTIVE, 100)
    for _ in range(6):
        await world.look()
    assert world.ledger.limits == [5, 3, 1, 1]
    assert world.deps.slots.in_use == 10
    world.ending.set()


async def test_bulk_turns_leave_the_reserve_of_the_others_alone() -> None:
    world = World(slots=40)
    world.leave(Lane.BULK, 100)
    await world.look()
    await world.look()
    assert world.calls == world.deps.slots.in_use == 40 - world.deps.slots.reserve
    world.ending.set()


async def test_while_tasks_claim_bulk_turns_no_hint_is_missed() -> None:
    world = World(slots=40)
    world.leave(Lane.BULK, 3)
    with world.deps.slots.claiming():
        await world.look(after=10)
    await world.look(after=0.5)  # they have just ended: a hint may be on its way
    assert world.calls == 0
    await world.look(after=0.5)
    assert world.calls == 3
    world.ending.set()


async def test_a_wake_begins_a_look() -> None:
    world = World()
    world.leave(Lane.INTERACTIVE, 1)
    world.now += 1.0
    running = asyncio.create_task(world.poller.run())
    await asyncio.sleep(0)
    world.poller.wake()
    async with asyncio.timeout(5):
        await world.began.wait()
    running.cancel()
    world.ending.set()
