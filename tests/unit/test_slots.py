"""Slots: who gets the next one, and what a change of their number does to those who wait."""

import asyncio
from contextlib import ExitStack

import pytest

from turnmill.domain.states import Lane
from turnmill_worker.turn.slots import Slots

pytestmark = pytest.mark.anyio


class Visitor:
    """Somebody who takes one slot and keeps it until told to leave."""

    def __init__(self, slots: Slots) -> None:
        self.inside = False
        self._leave = asyncio.Event()
        self.task = asyncio.ensure_future(self._visit(slots))

    async def _visit(self, slots: Slots) -> None:
        await slots.take_one()
        try:
            self.inside = True
            await self._leave.wait()
        finally:
            slots.give_back()
        self.inside = False

    async def leave(self) -> None:
        self._leave.set()
        await self.task


async def arrive(slots: Slots, count: int) -> list[Visitor]:
    visitors = [Visitor(slots) for _ in range(count)]
    await settle()
    return visitors


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def inside(visitors: list[Visitor]) -> list[bool]:
    return [one.inside for one in visitors]


async def test_who_came_first_gets_the_slot_that_becomes_free() -> None:
    visitors = await arrive(Slots(1), 3)
    assert inside(visitors) == [True, False, False]
    await visitors[0].leave()
    await settle()
    assert inside(visitors) == [False, True, False]


async def test_more_slots_let_those_in_who_wait() -> None:
    slots = Slots(1)
    visitors = await arrive(slots, 4)
    slots.resize(3)
    await settle()
    assert inside(visitors) == [True, True, True, False]
    assert slots.in_use == 3


async def test_fewer_slots_send_nobody_out_and_let_nobody_in_until_there_is_room() -> None:
    slots = Slots(3)
    visitors = await arrive(slots, 4)
    slots.resize(1)
    await visitors[0].leave()
    await visitors[1].leave()
    await settle()
    assert inside(visitors) == [False, False, True, False]
    await visitors[2].leave()
    await settle()
    assert inside(visitors) == [False, False, False, True]


async def test_who_is_cancelled_while_waiting_or_on_the_way_in_keeps_no_slot() -> None:
    slots = Slots(1)
    first, waiting, last = await arrive(slots, 3)
    waiting.task.cancel()
    await settle()
    await first.leave()
    last.task.cancel()  # the slot is already his, and he does not know yet
    await settle()
    assert slots.in_use == 0


async def full_of_bulk(total: int) -> Slots:
    slots = Slots(total)
    assert await slots.take_some(Lane.BULK, most=10_000) == total - slots.reserve
    return slots


async def test_bulk_waits_for_what_is_worth_a_claim_and_leaves_a_reserve() -> None:
    slots = await full_of_bulk(100)
    patient = asyncio.ensure_future(slots.take_some(Lane.BULK, most=50))
    await settle()
    slots.give_back(3)
    await settle()
    assert not patient.done()
    slots.resize(200)
    await settle()
    assert patient.done()
    assert await patient == 50


async def test_bulk_takes_less_than_that_when_it_has_waited_for_a_while() -> None:
    slots = await full_of_bulk(100)
    patient = asyncio.ensure_future(slots.take_some(Lane.BULK, most=50))
    await settle()
    slots.give_back(3)
    assert await asyncio.wait_for(patient, timeout=10) == 3


@pytest.mark.parametrize("total", [1, 2, 3, 20, 1000])
async def test_tasks_of_many_turns_never_fill_the_pool(total: int) -> None:
    slots = Slots(total)
    with ExitStack() as tasks:
        while slots.bulk_places():
            tasks.enter_context(slots.bulk_task())  # their last turns are still running
        assert slots._tasks == total - slots.reserve
    assert slots.bulk_places()


async def test_two_tasks_claim_and_more_are_of_no_use_until_one_of_them_has_claimed_enough() -> (
    None
):
    slots = Slots(1000)
    with slots.bulk_task(), slots.claiming(), slots.bulk_task():
        with slots.claiming():
            assert slots.bulk_places() == 0
        assert slots.bulk_places() == 1


async def test_who_is_cancelled_after_the_call_passes_it_on() -> None:
    slots = await full_of_bulk(200)
    first, second = (asyncio.ensure_future(slots.take_some(Lane.BULK, most=9)) for _ in range(2))
    await settle()
    slots.give_back(9)  # calls the first, who does not know yet
    first.cancel()
    await settle()
    assert second.done()
    assert await second == 9


@pytest.mark.parametrize("total", range(1, 30))
async def test_every_lane_has_at_least_one_slot_of_however_few(total: int) -> None:
    slots = Slots(total)
    assert all(slots.free(lane) > 0 for lane in Lane)


async def test_bulk_gets_its_share_though_interactive_turns_wait_for_every_slot() -> None:
    slots = Slots(20)
    visitors = await arrive(slots, 40)
    bulk = asyncio.ensure_future(slots.take_some(Lane.BULK, most=50))
    for number in range(4):
        await visitors[number].leave()
    await settle()
    assert await asyncio.wait_for(bulk, timeout=10) in (1, 2)
    assert slots.in_use == 20
    assert sum(inside(visitors)) >= 18  # the others go on: bulk has no more than its share


async def test_where_bulk_waits_for_nothing_interactive_turns_have_every_slot() -> None:
    visitors = await arrive(Slots(20), 40)
    assert sum(inside(visitors)) == 20


async def test_a_single_slot_goes_from_lane_to_lane() -> None:
    slots = Slots(1)
    visitors = await arrive(slots, 3)
    bulk = asyncio.ensure_future(slots.take_some(Lane.BULK, most=50))
    await settle()
    await visitors[0].leave()
    assert await asyncio.wait_for(bulk, timeout=10) == 1
    again = asyncio.ensure_future(slots.take_some(Lane.BULK, most=50))
    await settle()
    slots.give_back(lane=Lane.BULK)
    await settle()
    assert inside(visitors) == [False, True, False]
    again.cancel()


async def test_who_came_to_the_end_of_the_line_before_is_the_next_one() -> None:
    slots = Slots(1)
    visitors = await arrive(slots, 2)
    again = asyncio.ensure_future(slots.take_one(again=True))
    await settle()
    await visitors[0].leave()
    await settle()
    assert again.done()
    assert inside(visitors) == [False, False]
    slots.give_back()
    await settle()
    assert inside(visitors) == [False, True]
