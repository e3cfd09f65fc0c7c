"""A store that was lost and is restored from a dump, made while turns ran, goes on from there."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.chaos.books import Books
from tests.chaos.system import Servers, System, until
from turnmill import Client, TurnNotFound, TurnState
from turnmill.sync.turns import Turn
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


@dataclass(frozen=True)
class Sent:
    """Turns of one session, by how far they had come when the dump was made."""

    session: str
    answered: Turn
    running: Turn
    queued: Turn
    later: Turn


def _live_and_dump(lost: System, client: Client, dump: Path) -> Sent:
    """Send four messages, and dump the store between the third and the fourth."""
    session = str(client.sessions.create(user_id="ada", key="ada").id)
    lost.start_worker()
    answered = client.send(session, "one", idempotency_key="1")
    answered.result(timeout=20)
    running = client.send(session, "two", metadata={"mock": {"latency": 3}})
    queued = client.send(session, "three")
    until(lambda: running.refresh().state is TurnState.RUNNING)
    options = ("--format=custom", "--schema=turnmill", f"--file={dump}")
    _postgres_tool("pg_dump", *options, lost.database_url)
    later = client.send(session, "four", idempotency_key="4")
    later.result(timeout=20)
    return Sent(session, answered, running, queued, later)


def _restore(dump: Path, system: System) -> None:
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA turnmill CASCADE")
    _postgres_tool("pg_restore", "--exit-on-error", f"--dbname={system.database_url}", str(dump))


@pytest.mark.long
def test_a_dump_made_under_load_is_a_store_in_which_every_turn_comes_to_its_end(
    servers: Servers, restored: System, dump: Path
) -> None:
    with System(servers) as lost, lost.client() as client:
        sent = _live_and_dump(lost, client, dump)
    _restore(dump, restored)
    with restored.client() as client:
        assert client.turns.get(sent.running.id).state is TurnState.RUNNING
        with pytest.raises(TurnNotFound):
            client.turns.get(sent.later.id)
        again = client.send(sent.session, "four", idempotency_key="4")
        assert client.send(sent.session, "one", idempotency_key="1").id == sent.answered.id
        restored.start_worker()
        for turn in (sent.running, sent.queued, again):
            client.turns.get(turn.id).result(timeout=30)
        history = client.sessions.history(sent.session)
        said = [one.text for one in history if one.role == "user"]
        assert said == ["one", "two", "three", "four"]
        numbers = [event.n for event in client.events.read(session=sent.session)]
        assert numbers == [1, 2, 3, 4]
    assert Books.of(restored).complaints() == []
