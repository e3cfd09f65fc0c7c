"""What has to work by every way to a database: messages, waiting, cancelling, a batch."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

import pytest

from tests import steps
from tests.chaos.system import Servers, System, until
from turnmill import AsyncClient, Client, TurnCancelled, TurnState
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.schema import migrate

WAIT = 60


@dataclass
class Way(System):
    """A system whose clients and workers go to the database by a way of their own."""

    way: Callable[[str], str] = str
    listen_way: Callable[[str], str] | None = None

    def __enter__(self) -> Self:
        """Make a database, and its tables by the way that is tried."""
        self.servers.administer(f'CREATE DATABASE "{self.database}"')
        self.servers.administer(f"ALTER DATABASE \"{self.database}\" SET search_path = ''")
        with self.servers.redis() as connection:
            connection.flushall()
        migrate.upgrade(self.url)
        return self

    @property
    def url(self) -> str:
        """The database, by the way that is tried."""
        return self.way(self.database_url)

    @property
    def listen_url(self) -> str:
        return self.listen_way(self.database_url) if self.listen_way else ""

    @property
    def variables(self) -> dict[str, str]:
        listening = {"TURNMILL_LISTEN_URL": self.listen_url} if self.listen_way else {}
        return super().variables | {"TURNMILL_DATABASE_URL": self.url} | listening

    @property
    def settings(self) -> Settings:
        return Settings(
            database_url=self.url, broker_url=self.broker_url, listen_url=self.listen_url
        )


def make(servers: Servers, folder: Path, **ways: Callable[[str], str] | None) -> None:
    """Go the whole way, with a worker process of its own."""
    with Way(servers, lease=timedelta(seconds=2), **ways) as system:  # type: ignore[arg-type]
        system.start_worker(concurrency=20)
        with Client(settings=system.settings) as client:
            talk(client)
            cancel(client)
            answer_a_batch(client, folder)
        asyncio.run(talk_on_a_loop(system.settings))
        store = Database(system.database_url)
        steps.assert_sound(store, drained=True)
        store.close()
        for line in system.logs().splitlines():
            assert "trying again" not in line and "Traceback" not in line, line


def talk(client: Client) -> None:
    """Send to a few sessions, more often than a driver needs to prepare a statement."""
    lines = [client.sessions.create(user_id="ada") for _ in range(4)]
    turns = [client.send(line, f"{n}") for n in range(8) for line in lines]
    assert all(turn.result(timeout=WAIT).text for turn in turns)


def cancel(client: Client) -> None:
    """Cut a turn short that runs."""
    slow = client.send(
        client.sessions.create(user_id="ada"), "long", metadata={"mock": {"latency": 60}}
    )
    until(lambda: slow.refresh().state is TurnState.RUNNING)
    slow.cancel()
    with pytest.raises(TurnCancelled):
        slow.result(timeout=WAIT)


def answer_a_batch(client: Client, folder: Path) -> None:
    lines = [{"custom_id": f"job-{n}", "user_id": f"u{n}", "text": f"{n}"} for n in range(50)]
    (folder / "jobs.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    counts = client.batches.create(folder / "jobs.jsonl").wait(timeout=WAIT)
    assert (counts.total, counts.succeeded) == (50, 50)


async def talk_on_a_loop(settings: Settings) -> None:
    async with AsyncClient(settings=settings) as client:
        session = await client.sessions.create(user_id="ada")
        turns = [await client.send(session, f"{n}") for n in range(8)]
        for turn in turns:
            assert (await turn.result(timeout=WAIT)).text
