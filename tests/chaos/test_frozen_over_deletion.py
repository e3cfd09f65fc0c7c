"""A worker that stands still while sessions are deleted, purged and emptied brings nothing back."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from tests import steps
from tests.chaos.system import Servers, System, until
from turnmill import Client
from turnmill.store.database import Database
from turnmill.store.line.due import purge_deleted
from turnmill.store.upkeep import retention as upkeep
from turnmill.store.upkeep.content_retention import empty_content
from turnmill.sync.turns import Turn

TRIES = 200
#: Nobody says it but the users and the models of these turns.
CANARY = "canary-7f3a"
_SECONDS = 12.0


@pytest.fixture
def system(servers: Servers) -> Iterator[System]:
    """A system of its own; its books would miss what was taken out of them."""
    with System(servers) as system:
        yield system


def send_all(client: Client) -> list[Turn]:
    """Send what is answered only after the worker has stood still; half of it is watched."""
    history = [
        {"role": "user", "content": f"{CANARY} before"},
        {"role": "assistant", "content": f"{CANARY} before"},
    ]
    sessions = [
        client.sessions.create(user_id="ada", system_prompt=CANARY, history=history)
        for _ in range(TRIES)
    ]
    script = {"mock": {"latency": _SECONDS, "chunks": [CANARY, " and ", CANARY]}}
    said = [(one, f"{CANARY} now") for one in sessions]
    others = client.send_many(said[::2], metadata=script)
    return [*others, *(client.send(*one, metadata=script, stream=True) for one in said[1::2])]


def let_go(store: Database, client: Client, turn: Turn, number: int) -> None:
    """Let the session that the turn ran in be purged, or empty it: its worker was lost."""
    turn.cancel()
    if number % 3 == 1:
        client.sessions.archive(turn.session_id)
        return
    client.sessions.update(turn.session_id, system_prompt=None)
    with store.begin() as conn:
        assert empty_content(conn, turn.session_id, default=timedelta(seconds=-1)).turns == 2


def where(system: System, told: str) -> dict[str, int]:
    """Return in which tables somebody says this, and in which keys of the Redis."""
    tables = system.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'turnmill'")
    found = {}
    for (table,) in tables:
        # The mock is told in a turn's metadata, which is nobody's words, what it is to say.
        said = "(to_jsonb(t) - 'metadata')::text"
        query = f"SELECT count(*) FROM turnmill.{table} t WHERE {said} LIKE %s"
        found[table] = system.rows(query, f"%{told}%")[0][0]
    with system.servers.redis() as redis:
        for key in redis.scan_iter("*"):
            found[str(key)] = (redis.dump(key) or b"").count(told.encode())
    return {name: count for name, count in found.items() if count}


def rows_of(system: System, sessions: list[Any]) -> int:
    query = "SELECT count(*) FROM turnmill.{} WHERE session_id = ANY(%s)"
    tables = ("turns", "messages", "tool_calls", "compactions")
    return sum(system.rows(query.format(table), sessions)[0][0] for table in tables)


def let_all_go(system: System, store: Database, client: Client, turns: Sequence[Turn]) -> None:
    """Delete a third of the sessions, purge another one, and empty the last."""
    for turn in turns[::3]:
        client.sessions.delete(turn.session_id)
    steps.lose(store, *(turn.id for turn in turns))
    with store.begin() as conn:
        assert purge_deleted(conn, limit=TRIES) == len(turns[::3])
    for number, turn in enumerate(turns):
        if number % 3:
            let_go(store, client, turn, number)
    with store.begin() as conn:
        purged = upkeep.purge_archived(conn, older_than=timedelta(0), limit=TRIES)
    assert purged == len(turns[1::3])
    assert where(system, CANARY) == {}


def test_nothing_returns_in_two_hundred_tries(system: System) -> None:
    worker = system.start_worker(concurrency=TRIES + 10)
    with system.client() as client, closing(Database(system.database_url)) as store:
        turns = send_all(client)
        until(lambda: system.count_calls() == TRIES)
        answered_at = time.monotonic() + _SECONDS
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            let_all_go(system, store, client, turns)
            until(lambda: time.monotonic() > answered_at)  # all at once, when it goes on
        finally:
            os.kill(worker.pid, signal.SIGCONT)
        # What it had in hand was written, or was not, before this is.
        script = {"mock": {"latency": 2.0}}
        after = client.send(client.sessions.create(user_id="bob"), "and now?", metadata=script)
        assert after.result(timeout=60).text
        assert system.count_calls("completed") > 1, "nobody has tried to bring anything back"
        left = [turn.session_id for number, turn in enumerate(turns) if number % 3 < 2]
        assert rows_of(system, left) == 0
        assert where(system, CANARY) == {}
        for turn in turns[::3]:
            assert client.sessions.deletion(turn.session_id).rows["messages"] == 3
        steps.assert_sound(store)
