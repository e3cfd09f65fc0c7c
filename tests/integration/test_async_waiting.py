"""Waiting for turns on an event loop, against real Postgres."""

import asyncio
from datetime import timedelta

import pytest

from tests import rows, steps
from tests.crowd import DEADLINE
from turnmill.listening.task import AsyncWaiter
from turnmill.listening.watchlist import Deadline
from turnmill.store.async_database import AsyncDatabase
from turnmill.store.database import Database
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
