"""What belongs to an event loop: one of a kind for each, and closed where it was made."""

import asyncio
import threading

import pytest

from turnmill import per_loop
from turnmill.per_loop import PerLoop


class Thing:
    """Remembers how it came to its end."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.end = ""
        self.closed = asyncio.Event()

    async def close(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        self.end = "closed"
        self.closed.set()

    def drop(self) -> None:
        self.end = "dropped"


def things() -> PerLoop[Thing]:
    return PerLoop(Thing, close=Thing.close, drop=Thing.drop)


async def here(one_each: PerLoop[Thing]) -> Thing:
    assert one_each.here() is one_each.here()
    return one_each.here()


def test_each_loop_has_its_own_and_that_of_a_closed_one_is_dropped_when_the_next_one_comes() -> (
    None
):
    one_each = things()
    first = asyncio.run(here(one_each))
    assert first.end == ""
    second = asyncio.run(here(one_each))
    assert (first is second, first.end, second.end) == (False, "dropped", "")


def test_all_are_closed_each_on_its_own_loop_while_that_runs() -> None:
    one_each, made, over = things(), threading.Event(), threading.Event()
    found: list[Thing] = []

    async def stay() -> None:
        found.append(await here(one_each))
        made.set()
        await asyncio.to_thread(over.wait, 10)

    async def close() -> Thing:
        mine = await here(one_each)
        await one_each.close()
        return mine

    gone = asyncio.run(here(one_each))
    other = threading.Thread(target=lambda: asyncio.run(stay()))
    other.start()
    assert made.wait(10)
    mine = asyncio.run(close())
    over.set()
    other.join()
    assert (mine.end, found[0].end, gone.end) == ("closed", "closed", "dropped")


def test_a_loop_that_is_busy_holds_up_nobody_and_closes_its_own_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(per_loop, "_CLOSE_SECONDS", 0.1)
    one_each, made, over = things(), threading.Event(), threading.Event()
    found: list[Thing] = []

    async def hang() -> None:
        found.append(await here(one_each))
        made.set()
        over.wait(20)  # the loop itself is blocked
        await asyncio.wait_for(found[0].closed.wait(), 10)

    other = threading.Thread(target=lambda: asyncio.run(hang()))
    other.start()
    assert made.wait(10)
    asyncio.run(one_each.close())
    over.set()
    other.join()
    assert found[0].end == "closed"
