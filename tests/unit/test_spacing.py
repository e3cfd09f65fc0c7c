"""Turns of the bulk lane begin one after the other while somebody talks, and at once otherwise."""

import asyncio

import pytest

from turnmill.domain.states import Lane
from turnmill_worker.turn.slots import Slots
from turnmill_worker.turn.spacing import Spacing

pytestmark = pytest.mark.anyio


class Time:
    """A clock that stands still but where somebody waits, and what was computed by then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.computed = 1000.0
        monkeypatch.setattr("turnmill_worker.turn.spacing.asyncio.sleep", self.pass_by)

    async def pass_by(self, seconds: float) -> None:
        self.now += seconds

    def spacing(self) -> Spacing:
        return Spacing(clock=lambda: self.now, computed=lambda: self.computed)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


async def begun_in(found: Spacing, time: Time, *, turns: int, cost: float) -> float:
    """Begin so many, each of which costs that much and ends; return how long that took.

    Now and then somebody says something, which costs twice as much.
    """
    began = says_at = time.now
    while turns > 0:
        if time.now >= says_at:
            found.talked()
            time.computed += 2 * cost
            says_at += 0.2
        some = await found.some(turns)
        turns -= some
        await time.pass_by(0.005)  # the loop is late each time
        for _ in range(some):
            time.computed += cost
            found.ended()
    return time.now - began


async def test_where_nobody_talks_nobody_waits(time: Time) -> None:
    found = time.spacing()
    assert [await found.some(100), await found.some(3)] == [20, 3]
    assert time.now == 1000.0


@pytest.mark.parametrize("cost", [0.0005, 0.002])
async def test_while_somebody_talks_some_of_what_can_be_computed_is_left_free(
    time: Time, cost: float
) -> None:
    found = time.spacing()
    await begun_in(found, time, turns=5_000, cost=cost)  # until it knows what one costs
    took = await begun_in(found, time, turns=5_000, cost=cost)
    assert 5_000 * cost / took == pytest.approx(0.6, rel=0.02)


async def test_a_claim_that_takes_long_is_not_made_up_for_by_a_burst(time: Time) -> None:
    found = time.spacing()
    await begun_in(found, time, turns=1_000, cost=0.001)
    await time.pass_by(1.0)  # for a claim
    began, counts = time.now, []
    while time.now == began:
        found.talked()
        counts.append(await found.some(100))
    assert max(counts) <= 20
    assert sum(counts) <= 25  # not what could have begun in that second


async def test_tasks_share_the_spacing(time: Time) -> None:
    found = time.spacing()
    found.talked()
    began = time.now
    for _ in range(50):
        await asyncio.gather(found.some(100), found.some(100))
    assert time.now - began >= 98 * 4 * found.every - 0.02


async def test_who_has_said_nothing_for_two_seconds_is_waited_for_no_more(time: Time) -> None:
    found = time.spacing()
    found.talked()
    assert [await found.some(100), await found.some(100)] == [20, 4]
    await time.pass_by(2.1)
    assert await found.some(100) == 20


async def test_whoever_gets_an_interactive_slot_talks() -> None:
    slots = Slots(100)
    slots.take(Lane.BULK, most=1)
    assert await slots.spacing.some(100) == 20
    await slots.take_one()
    assert min(await slots.spacing.some(100), await slots.spacing.some(100)) < 20
