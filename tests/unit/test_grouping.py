"""Grouped work: a lone item at once, many together, and an end at which nobody is left waiting."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise

import pytest

from turnmill.grouping import Grouped, Stopped
from turnmill_worker.providers.calls import finished

pytestmark = pytest.mark.anyio

Work = Grouped[int, int]


class Desk:
    """Doubles numbers, a group at a time, and not before it is let."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.open = threading.Event()
        self.busy = threading.Event()

    def handle(self, numbers: Sequence[int]) -> list[int]:
        self.busy.set()
        self.open.wait(10)
        self.groups.append(list(numbers))
        return [2 * number for number in numbers]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def work(desk: Desk) -> AsyncIterator[Work]:
    work: Work = Grouped("doubling", desk.handle, most=3)
    yield work
    desk.open.set()
    await asyncio.to_thread(work.stop)


async def submit(work: Work, *numbers: int) -> "list[asyncio.Task[int]]":
    tasks = [asyncio.create_task(work.submit(number)) for number in numbers]
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # what was submitted in a round is handed over in the next one
    return tasks


async def test_what_piled_up_meanwhile_is_handled_together_up_to_a_bound(
    work: Work, desk: Desk
) -> None:
    first = await submit(work, 1)
    await asyncio.to_thread(desk.busy.wait, 10)
    rest = await submit(work, 2, 3, 4, 5)
    desk.open.set()
    assert await asyncio.gather(*first, *rest) == [2, 4, 6, 8, 10]
    assert desk.groups == [[1], [2, 3, 4], [5]]


async def test_what_is_submitted_in_one_round_of_the_loop_is_handled_together(
    work: Work, desk: Desk
) -> None:
    desk.open.set()  # and the thread is idle: it would take the first of them by itself
    assert await asyncio.gather(*map(work.submit, (1, 2, 3))) == [2, 4, 6]
    assert desk.groups == [[1, 2, 3]]


async def test_what_the_end_comes_upon_in_the_middle_of_a_round_is_handled_or_told(
    work: Work, desk: Desk
) -> None:
    desk.open.set()
    assert await work.submit(1) == 2
    early = asyncio.create_task(work.submit(2))
    late = asyncio.create_task(asyncio.sleep(0))
    late.add_done_callback(lambda _: work.stop())  # within the round, before it is handed over
    with suppress(Stopped):
        assert await asyncio.wait_for(early, timeout=10) == 4
    assert desk.groups in ([[1]], [[1], [2]])


async def test_a_loop_that_ends_leaves_nothing_behind(work: Work, desk: Desk) -> None:
    desk.open.set()
    assert await asyncio.to_thread(lambda: asyncio.run(work.submit(1))) == 2
    assert not work._gathered


async def test_a_group_takes_no_more_once_it_is_heavy(desk: Desk) -> None:
    work: Work = Grouped("weighing", desk.handle, most=100, weigh=lambda one: one, heaviest=10)
    first = await submit(work, 1)
    await asyncio.to_thread(desk.busy.wait, 10)
    rest = await submit(work, 4, 5, 6, 50, 1, 2)
    desk.open.set()
    await asyncio.gather(*first, *rest)
    await asyncio.to_thread(work.stop)
    assert desk.groups == [[1], [4, 5, 6], [50], [1, 2]]


async def test_the_end_waits_for_what_was_given_before_it(work: Work, desk: Desk) -> None:
    given = await submit(work, 1, 2, 3, 4, 5)
    ending = asyncio.create_task(asyncio.to_thread(work.stop))
    desk.open.set()
    await ending
    assert await asyncio.gather(*given) == [2, 4, 6, 8, 10]


async def test_who_comes_after_the_end_is_told_and_does_not_wait_for_ever(
    work: Work, desk: Desk
) -> None:
    desk.open.set()
    await asyncio.to_thread(work.stop)
    with pytest.raises(Stopped):
        await asyncio.wait_for(work.submit(1), timeout=10)


async def test_an_error_is_that_of_everybody_in_the_group_and_of_nobody_after() -> None:
    def handle(numbers: Sequence[int]) -> list[int]:
        if 0 in numbers:
            raise ZeroDivisionError
        return list(numbers)

    work: Work = Grouped("dividing", handle, most=3)
    with pytest.raises(ZeroDivisionError):
        await work.submit(0)
    assert await work.submit(1) == 1
    await asyncio.to_thread(work.stop)


async def test_what_is_given_is_handled_with_the_others_and_nobody_waits_for_it(
    work: Work, desk: Desk
) -> None:
    work.give(1)
    await asyncio.to_thread(desk.busy.wait, 10)
    work.give(2)
    (waits,) = await submit(work, 3)
    desk.open.set()
    assert await waits == 6
    assert desk.groups == [[1], [2, 3]]
    await asyncio.to_thread(work.stop)
    work.give(4)  # dropped, and nothing is raised
    assert desk.groups == [[1], [2, 3]]


async def test_what_is_ready_comes_between_the_results_of_a_large_group() -> None:
    busy, may_go_on = threading.Event(), threading.Event()

    def handle(numbers: Sequence[int]) -> Sequence[int]:
        busy.set()
        may_go_on.wait(10)
        return numbers

    work: Work = Grouped("many", handle, most=200)
    first = await submit(work, 0)
    await asyncio.to_thread(busy.wait, 10)
    rest = await submit(work, *range(1, 101))
    may_go_on.set()
    found: list[int] = []
    while not all(one.done() for one in (*first, *rest)):
        await asyncio.sleep(0)
        found.append(sum(one.done() for one in rest))
    assert max(after - before for before, after in pairwise([0, *found])) < 100
    await asyncio.to_thread(work.stop)


async def test_where_many_come_in_a_group_piles_up_for_a_while_and_not_at_the_end(
    desk: Desk,
) -> None:
    desk.open.set()
    work: Work = Grouped("gathering", desk.handle, most=100, gathers=timedelta(minutes=5))
    assert await work.submit(1) == 2  # alone: at once
    assert len(await asyncio.gather(*map(work.submit, range(40)))) == 40  # after a while: at once
    few = await submit(work, 1)
    few += await submit(work, 2)
    assert not any(one.done() for one in few)
    await asyncio.to_thread(work.stop)
    assert await asyncio.gather(*few) == [2, 4]
    assert [len(group) for group in desk.groups] == [1, 40, 2]


async def test_what_is_begun_has_its_result_though_whoever_waits_is_cancelled(
    work: Work, desk: Desk
) -> None:
    begun = work.begin(1)
    waits = asyncio.create_task(finished(begun))
    await asyncio.to_thread(desk.busy.wait, 10)
    waits.cancel()
    await asyncio.sleep(0)
    desk.open.set()
    assert await waits == 2
    waits.cancel()
    assert begun.result() == 2
