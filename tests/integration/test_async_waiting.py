"""Waiting for turns on an event loop, against real Postgres."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import psycopg
import pytest

from tests import rows, steps
from tests.crowd import DEADLINE
from turnmill.listening.task import AsyncWaiter
from turnmill.listening.thread import listen
from turnmill.listening.watchlist import Deadline
from turnmill.store.async_database import AsyncDatabase
from turnmill.store.database import Database
from turnmill.wire import SETTLED_CHANNEL
from turnmill_worker.stack.process import wait_until

pytestmark = pytest.mark.anyio

_LISTENERS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
)


def listeners(store: Database) -> list[int]:
    """Return the processes of the server that listen for somebody."""
    with store.single() as conn:
        return list(conn.exec_driver_sql(_LISTENERS).scalars())


async def test_one_wait_after_another_listens_on_one_connection(database_url: str) -> None:
    database, store = AsyncDatabase(database_url), Database(database_url)
    waiter = AsyncWaiter(database)
    seen = []
    try:
        for _ in range(3):
            turn_id = steps.send(store, rows.start(store)).turn_id
            async with waiter.expecting(turn_id, Deadline(None)) as ended:
                seen.append(listeners(store))
                await asyncio.to_thread(steps.answer, store, turn_id)
                await asyncio.wait_for(ended.wait(), timeout=DEADLINE)
    finally:
        await waiter.close()
        await database.close()
    assert seen == [seen[0]] * 3
    assert len(seen[0]) == 1
    # The server takes a moment to notice that a connection was closed.
    assert wait_until(lambda: listeners(store) == [], timeout=timedelta(seconds=DEADLINE))
    store.close()


@pytest.mark.parametrize("kind", ["thread", "task"])
async def test_who_listens_is_not_ended_by_a_server_that_ends_what_stands_idle(
    database_url: str, kind: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        name = conn.info.dbname
        conn.execute(f"ALTER DATABASE \"{name}\" SET idle_session_timeout = '300ms'")
    store = Database(database_url)
    turn_id = steps.send(store, rows.start(store)).turn_id
    async with AsyncExitStack() as stack:
        stack.callback(store.close)
        if kind == "thread":
            stack.enter_context(listen(store, [SETTLED_CHANNEL]))
        else:
            database = AsyncDatabase(database_url)
            stack.push_async_callback(database.close)
            waiter = AsyncWaiter(database)
            stack.push_async_callback(waiter.close)
            await stack.enter_async_context(waiter.expecting(turn_id, Deadline(None)))
        listening = _listening(database_url)
        with pytest.raises(psycopg.OperationalError):  # one that is idle from now on is ended
            await asyncio.to_thread(_stand_idle, database_url)
        assert len(listening) == 1
        assert _listening(database_url) == listening


def _listening(url: str) -> list[int]:
    with psycopg.connect(url) as conn:
        return [pid for (pid,) in conn.execute(_LISTENERS.replace("%%", "%"))]


def _stand_idle(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        list(conn.notifies(timeout=DEADLINE))
