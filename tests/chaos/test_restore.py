"""A store that was lost and is restored from a dump, made while turns ran, goes on from there."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.chaos.books import Books
from tests.chaos.system import Servers, System, until
from turnmill import Client, TurnNotFound, TurnState
from turnmill_worker.stack.binaries import find_postgres


def _postgres_tool(name: str, *arguments: str) -> None:
    """Run a program of the Postgres that the servers are of: an older one reads no newer store."""
    argv = [str(find_postgres().path.with_name(name)), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def dump(servers: Servers) -> Path:
    return servers.home.folder("dumps") / "turnmill.dump"


@pytest.fixture
def restored(servers: Servers) -> Iterator[System]:
    with System(servers) as system:
        yield system


def _await_state(client: Client, turn_id: object, state: TurnState) -> None:
    until(lambda: client.turns.get(str(turn_id)).state is state)


def test_a_dump_made_under_load_is_a_store_in_which_every_turn_comes_to_its_end(
    servers: Servers, restored: System, dump: Path
) -> None:
    with System(servers) as lost, lost.client() as client:
        session = client.sessions.create(user_id="ada", key="ada")
        lost.start_worker()
        answered = client.send("ada", "one", idempotency_key="1")
        answered.result(timeout=20)
        slow = {"mock": {"latency": 3}}
        running = client.send("ada", "two", metadata=slow)
        queued = client.send("ada", "three")
        _await_state(client, running.id, TurnState.RUNNING)
        _postgres_tool(
            "pg_dump", "--format=custom", "--schema=turnmill", f"--file={dump}", lost.database_url
        )
        later = client.send("ada", "four", idempotency_key="4")
        later.result(timeout=20)

    with psycopg.connect(restored.database_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA turnmill CASCADE")
    _postgres_tool("pg_restore", "--exit-on-error", f"--dbname={restored.database_url}", str(dump))

    with restored.client() as client:
        assert client.turns.get(running.id).state is TurnState.RUNNING
        with pytest.raises(TurnNotFound):
            client.turns.get(later.id)
        again = client.send("ada", "four", idempotency_key="4")
        assert client.send("ada", "one", idempotency_key="1").id == answered.id
        restored.start_worker()
        for turn in (running, queued, again):
            client.turns.get(turn.id).result(timeout=30)
        said = [one.text for one in client.sessions.history(session.id) if one.role == "user"]
        assert said == ["one", "two", "three", "four"]
        events = client.events.read(session=session.id)
        assert [event.n for event in events] == [1, 2, 3, 4]
    assert Books.of(restored).complaints() == []
