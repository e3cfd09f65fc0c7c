"""Panels: whoever asks gets what is new, or in time what is old, and one reading runs at once."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from tests.waiting import async_until
from turnmill.domain.errors import StoreUnavailable
from turnmill_worker.flower import panels
from turnmill_worker.flower.panels import MOST_AT_ONCE, MOST_KEPT, Panel, Panels, Pool

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 26, tzinfo=UTC)


class Source:
    """Counts readings, and holds them up while it is told to."""

    def __init__(self) -> None:
        self.read = 0
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.fails = False

    def __call__(self) -> tuple[int, datetime]:
        self.read += 1
        number = self.read
        assert self.goes_on.wait(10)
        if self.fails:
            raise StoreUnavailable("away")
        return number, NOW


@pytest.fixture
def source() -> Source:
    return Source()


async def test_whoever_asks_gets_what_was_read_after_he_asked(source: Source) -> None:
    with ThreadPoolExecutor(2) as threads:
        panel = Panel(source, Pool(threads))
        source.goes_on.clear()
        first = asyncio.create_task(panel.look(5))
        await async_until(lambda: source.read == 1)
        later = [asyncio.create_task(panel.look(5)) for _ in range(20)]
        await asyncio.sleep(0)
        source.goes_on.set()
        assert (await first).value == 1
        assert {(await one).value for one in later} == {2}  # one reading for all of them
        assert source.read == 2


async def test_a_slow_store_shows_what_was_read_last_and_from_when(source: Source) -> None:
    with ThreadPoolExecutor(2) as threads:
        panel = Panel(source, Pool(threads))
        assert (await panel.look(5)).is_fresh
        source.goes_on.clear()
        for _ in range(3):
            seen = await panel.look(0.02)
            assert (seen.value, seen.as_of, seen.is_fresh, seen.error) == (1, NOW, False, "")
        assert source.read == 2
        source.goes_on.set()
        assert (await panel.look(5)).value == 3


async def test_a_store_that_is_away_is_said_so_and_found_again(source: Source) -> None:
    with ThreadPoolExecutor(2) as threads:
        panel = Panel(source, Pool(threads))
        await panel.look(5)
        source.fails = True
        seen = await panel.look(5)
        assert (seen.value, seen.is_fresh, seen.error) == (1, False, StoreUnavailable.code)
        source.fails = False
        assert ((seen := await panel.look(5)).is_fresh, seen.error) == (True, "")


async def test_what_takes_long_is_read_seldom_and_not_waited_for(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panels, "_LONG", 0.0)
    monkeypatch.setattr(panels, "_SELDOM", 1e6)
    with ThreadPoolExecutor(2) as threads:
        panel = Panel(source, Pool(threads))
        assert (await panel.look(5)).is_fresh
        seen = [await panel.look(5) for _ in range(9)]
    assert {(one.value, one.as_of, one.is_fresh) for one in seen} == {(1, NOW, False)}
    assert source.read == 1


async def test_who_does_not_wait_has_it_read_for_those_who_come_later(source: Source) -> None:
    with ThreadPoolExecutor(2) as threads:
        panel = Panel(source, Pool(threads), every=60)
        assert (await panel.look(0)).value is None
        await async_until(lambda: panel.last().value == 1)
        assert (await panel.look(0)).is_fresh
    assert source.read == 1


async def test_what_hangs_is_bounded_and_so_is_what_is_kept(source: Source) -> None:
    with ThreadPoolExecutor(2) as threads:
        pool = Pool(threads)
        source.goes_on.clear()
        many = [Panel(source, pool) for _ in range(MOST_AT_ONCE + 5)]
        seen = await asyncio.gather(*(one.look(0.05) for one in many))
        assert [one.error for one in seen].count("busy") == 5
        source.goes_on.set()
        kept = Panels(pool)
        first = kept.of(0, source)
        for number in range(1, MOST_KEPT + 1):
            kept.of(number, source)
        assert kept.of(0, source) is not first
