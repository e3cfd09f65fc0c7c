"""Thousands of calls begin at once: their connections are opened in line."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from turnmill_worker.http1.connection import Connection
from turnmill_worker.http1.failures import ConnectTimeout
from turnmill_worker.http1.opening import Opener, Origin
from turnmill_worker.http1.pool import Pool
from turnmill_worker.http1.reading import Bounds

pytestmark = pytest.mark.anyio

_MINUTE = timedelta(minutes=1)
_CONNECT = timedelta(seconds=0.2)
_CALLS = 1000


class Slow:
    """Takes as long as it is told, of which nobody has more than the time to connect."""

    def __init__(self, seconds: float) -> None:
        self.at_once = self.most = 0
        self._seconds = seconds

    async def open(self, make: Callable[[], Connection]) -> Connection:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self.at_once -= 1
        connection = make()
        connection.connection_made(asyncio.Transport())
        return connection


class Busy:
    """A loop that is busy with others: each of its rounds takes as long as one has to connect."""

    def __init__(self, seconds: float) -> None:
        self.rounds = 0
        self._seconds = seconds
        self._handle = asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        self.rounds += 1
        time.sleep(self._seconds)
        self._handle = asyncio.get_running_loop().call_soon(self._round)

    def end(self) -> None:
        self._handle.cancel()


class Shaking:
    """Opens in a few rounds of the loop, as a handshake does."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds

    async def open(self, make: Callable[[], Connection]) -> Connection:
        for _ in range(self._rounds):
            await asyncio.sleep(0)
        connection = make()
        connection.connection_made(asyncio.Transport())
        return connection


@pytest.fixture
async def pool() -> Pool:
    return Pool(
        Origin("127.0.0.1", 9, None),
        base="",
        headers={"Host": "x"},
        most=2 * _CALLS,
        keep_alive=_MINUTE,
        connect_within=_CONNECT,
    )


async def test_all_get_through_though_together_they_take_longer_than_one_may(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = Slow(_CONNECT.total_seconds() / 5)
    monkeypatch.setattr(pool, "_opener", opener)
    monkeypatch.setattr(Connection, "is_open", True)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _MINUTE.total_seconds()
    began = loop.time()
    await asyncio.gather(*(pool._opened(_MINUTE, deadline) for _ in range(_CALLS)))
    assert loop.time() - began > _CONNECT.total_seconds()
    assert opener.most <= 100


async def test_where_nobody_gets_through_all_are_told_so_in_time(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_opener", Slow(3600))
    bounds = Bounds(body=1, refusal=1, large=1)
    calls = [pool.request("GET", "/", None, within=_MINUTE, bounds=bounds) for _ in range(_CALLS)]
    async with asyncio.timeout(30):
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(one) for one in found} == {ConnectTimeout}


async def test_nobody_stands_in_line_beyond_his_own_time(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_opener", Slow(3600))
    loop = asyncio.get_running_loop()
    with pytest.raises(ConnectTimeout):
        await pool._opened(_MINUTE, loop.time())


async def test_time_in_which_our_own_loop_does_not_listen_is_not_the_servers(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_opener", Shaking(3))
    monkeypatch.setattr(pool, "_openings", asyncio.Semaphore(1))  # so that one stands in line
    monkeypatch.setattr(pool, "_connect_within", timedelta(seconds=0.04))
    monkeypatch.setattr(Connection, "is_open", True)
    deadline = asyncio.get_running_loop().time() + _MINUTE.total_seconds()
    busy = Busy(0.05)
    try:
        await asyncio.gather(*(pool._opened(_MINUTE, deadline) for _ in range(2)))
    finally:
        busy.end()
    assert busy.rounds >= 6


async def test_a_connection_that_came_about_too_late_for_a_call_is_kept_for_the_next(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_opener", Slow(0.05))
    monkeypatch.setattr(Connection, "is_open", True)
    with pytest.raises(ConnectTimeout):
        await pool._opened(_MINUTE, asyncio.get_running_loop().time() + 0.01)
    assert pool._idle_one() is not None


async def test_whoever_gives_up_a_look_up_leaves_it_to_those_who_come_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    found: list[asyncio.Future[list[object]]] = []

    def look_up(*_: object, **__: object) -> asyncio.Future[list[object]]:
        found.append(loop.create_future())
        return found[-1]

    monkeypatch.setattr(loop, "getaddrinfo", look_up)
    opener = Opener(Origin("vendor.example", 443, None), loop)

    async def given_up(seconds: float = 0.001) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await opener.open(no_connection)

    await asyncio.gather(*(given_up() for _ in range(20)))
    await given_up()
    assert len(found) == 1
    found[0].set_exception(OSError("nobody knows"))
    await asyncio.sleep(0.001)
    asks_again = asyncio.create_task(opener.open(no_connection))
    await asyncio.sleep(0.001)
    found[1].set_exception(OSError("nobody knows"))
    with pytest.raises(OSError, match="nobody knows"):
        await asks_again


def no_connection() -> Connection:
    raise AssertionError
