"""One `AsyncClient` on event loops that come and go, and on several at once."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from tests import steps
from turnmill import AsyncClient, AsyncTurn
from turnmill.store.database import Database
from turnmill_worker.stack.process import wait_until

WAIT = 15
SOON = timedelta(seconds=10)

_MINE = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'turnmill' AND pid <> pg_backend_pid()"
)


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=1, overflow=0)
    yield database
    database.close()


@pytest.fixture
def client(database_url: str, broker_url: str) -> AsyncClient:
    return AsyncClient(database_url=database_url, broker_url=broker_url)


def connections(store: Database) -> int:
    """Return how many connections there are besides this one."""
    with store.single() as conn:
        return int(conn.exec_driver_sql(_MINE).scalar_one())


async def converse(client: AsyncClient, store: Database, text: str) -> str:
    """Send, wait for what a worker answers meanwhile, and read it all."""
    session = await client.sessions.create(user_id="ada")
    turn = await client.send(session, text)
    async with asyncio.timeout(WAIT):
        waiting = asyncio.create_task(turn.result())
        await asyncio.to_thread(steps.answer, store, turn.id)
        reply = await waiting
    texts = [message.text async for message in client.sessions.history(session)]
    assert texts == [text, reply.text]
    return reply.text


def test_one_event_loop_after_another_uses_the_same_client(
    client: AsyncClient, store: Database
) -> None:
    for number in range(3):
        assert asyncio.run(converse(client, store, str(number))) == f"answer to {number}"
    asyncio.run(client.close())


def test_a_turn_is_waited_for_on_another_loop_than_it_was_sent_on(
    client: AsyncClient, store: Database
) -> None:
    async def send() -> AsyncTurn:
        return await client.send(await client.sessions.create(user_id="ada"), "hello")

    turn = asyncio.run(send())
    steps.answer(store, turn.id)
    assert asyncio.run(turn.result(timeout=WAIT)).text == "answer to hello"
    asyncio.run(client.close())


def test_two_loops_use_one_client_at_the_same_time(client: AsyncClient, store: Database) -> None:
    together = threading.Barrier(2)

    def on_a_loop(name: str) -> list[str]:
        async def run() -> list[str]:
            await asyncio.to_thread(together.wait, WAIT)
            return [await converse(client, store, f"{name} {number}") for number in range(5)]

        return asyncio.run(run())

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(on_a_loop, ("one", "two")))
    assert found == [[f"answer to {name} {n}" for n in range(5)] for name in ("one", "two")]
    asyncio.run(client.close())


def test_what_was_opened_on_loops_that_are_gone_is_closed_when_the_next_one_comes(
    client: AsyncClient, store: Database
) -> None:
    for number in range(4):
        asyncio.run(converse(client, store, str(number)))
        # The server takes a moment to notice that a connection was closed.
        assert wait_until(lambda: connections(store) <= 1, timeout=SOON)
    asyncio.run(client.close())
    assert wait_until(lambda: connections(store) == 0, timeout=SOON)


def test_closing_on_one_loop_closes_what_a_loop_of_another_thread_has_opened(
    client: AsyncClient, store: Database
) -> None:
    used, over = threading.Event(), threading.Event()

    async def use_and_stay() -> None:
        await converse(client, store, "hello")
        used.set()
        await asyncio.to_thread(over.wait, WAIT)

    other = threading.Thread(target=lambda: asyncio.run(use_and_stay()))
    other.start()
    assert used.wait(WAIT)
    assert connections(store) > 0
    asyncio.run(client.close())
    assert wait_until(lambda: connections(store) == 0, timeout=SOON)
    over.set()
    other.join()


def test_loops_that_are_left_standing_do_not_keep_ever_more_connections(
    client: AsyncClient, store: Database
) -> None:
    loops = [asyncio.new_event_loop() for _ in range(24)]
    for loop in loops:
        loop.run_until_complete(client.sessions.list())
    assert wait_until(lambda: connections(store) <= 17, timeout=SOON)
    assert loops[0].run_until_complete(client.sessions.list()) == []
    loops[0].run_until_complete(client.close())
    for loop in loops:
        loop.close()
    assert wait_until(lambda: connections(store) == 0, timeout=SOON)


@pytest.mark.parametrize("name", ["file.db", ""])
def test_a_store_without_a_server_follows_the_loop_too(tmp_path: Path, name: str) -> None:
    client = AsyncClient(database_url=f"sqlite:///{tmp_path / name}" if name else "sqlite://")

    async def ask() -> str:
        session = await client.sessions.create(user_id="ada", key="ada:notes")
        turn = await client.send(session, "hello")
        return (await turn.result(timeout=WAIT)).text

    assert ["[0 before]" in asyncio.run(ask()), "[2 before]" in asyncio.run(ask())] == [True, True]
    asyncio.run(client.close())
