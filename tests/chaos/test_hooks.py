"""Observers and webhooks under kills: everything at least once, each session in its order."""

import http.server
import json
import random
import signal
import textwrap
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from tests import steps, workers
from tests.workers import Worker
from turnmill import Client
from turnmill.store.database import Database
from turnmill.store.schema.event_tables import event_readers, events
from turnmill.store.types import db_now
from turnmill_worker.stack.process import wait_until

#: Three that want everything: one is plain, one async, and one in four parts.
OBSERVERS = """
import os
from pathlib import Path

NOTES = Path(os.environ["NOTES"])

def note(name, event):
    with (NOTES / name).open("a") as file:
        file.write(f"{event.session_id} {event.n} {event.kind}\\n")

def plain():
    def observer(event):
        note("plain", event)
    observer.kinds = ["*"]
    return observer

def waits():
    async def observer(event):
        note("waits", event)
    observer.kinds = ["*"]
    return observer

def parts():
    async def observer(event):
        note("parts", event)
    observer.kinds, observer.parts = ["*"], 4
    return observer
"""
NAMES = ("plain", "waits", "parts")
#: Of so many kills each one's leases end by themselves.
FEW = 10


@dataclass
class Stage:
    """Workers that fall, and somebody who listens at a webhook."""

    folder: Path
    env: dict[str, str]
    workers: list[Worker] = field(default_factory=list)
    heard: set[str] = field(default_factory=set)
    kills: int = 0

    def start(self) -> None:
        self.workers.append(
            workers.start(self.folder, self.env, "--concurrency=50", "--without-gossip")
        )

    def kill_one(self, chance: random.Random) -> int:
        """Kill a worker, start another one in its place, and return the pid that was."""
        alive = [one for one in self.workers if one.poll() is None]
        fallen = chance.choice(alive)
        fallen.send_signal(signal.SIGKILL)
        fallen.wait(timeout=10)
        self.kills += 1
        self.start()
        return fallen.pid

    def told(self, name: str) -> list[tuple[str, int]]:
        """Return what an observer was told, in that order; a last line may be half-written."""
        path = self.folder / "notes" / name
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        words = [line.split() for line in lines]
        return [(word[0], int(word[1])) for word in words if len(word) == 3]


@contextmanager
def listening(heard: set[str], refusing: Callable[[], bool]) -> Iterator[str]:
    """Serve an address that may not take an event when it comes for the first time."""
    refused: set[str] = set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            event_id = said["data"]["event_id"]
            refuses = event_id not in refused and refusing()
            (refused if refuses else heard).add(event_id)
            self.send_response(503 if refuses else 204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def stage(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "noting.py").write_text(textwrap.dedent(OBSERVERS))
    (tmp_path / "notes").mkdir()
    env = {
        "TURNMILL_DATABASE_URL": database_url,
        "TURNMILL_BROKER_URL": broker_url,
        "TURNMILL_OBSERVERS": ",".join(f"{name}=noting:{name}" for name in NAMES),
        "TURNMILL_OBSERVER_TIMEOUT": "2",
        "TURNMILL_WEBHOOK_ALLOW": "127.0.0.1/32",
        "TURNMILL_LEASE": "2",
        "TURNMILL_GRACE": "1",
        "TURNMILL_MOCK_LATENCY": "0.05",
        "NOTES": str(tmp_path / "notes"),
        "PYTHONPATH": str(tmp_path),
    }
    stage = Stage(tmp_path, env)
    yield stage
    workers.stop(*stage.workers)


def all_that_happened(store: Database) -> set[tuple[str, int]]:
    with store.begin() as conn:
        rows = conn.execute(select(events.c.session_id, events.c.n)).all()
    return {(str(row.session_id), row.n) for row in rows}


def out_of_order(told: list[tuple[str, int]], first: dict[str, int]) -> list[tuple[str, int]]:
    """Return what came before something earlier of its session: what is told again is no news."""
    seen: defaultdict[str, int] = defaultdict(int)
    late = []
    for session, n in told:
        if n > max(seen[session] + 1, first[session]):
            late.append((session, n))
        seen[session] = max(seen[session], n)
    return late


def live(client: Client, session: Any, number: int) -> None:
    """Let something of every kind happen to a session."""
    client.send(session, f"message {number}")
    if number % 5 == 0:
        client.sessions.pause(session)
        client.sessions.update(session, metadata={"n": number})
        client.sessions.resume(session)
    if number % 7 == 0:
        client.send(session, "[mock: fail]").cancel()
    if number % 11 == 0:
        other = client.sessions.create(user_id="eve", provider="mock", model="mock")
        client.sessions.archive(other)
        client.sessions.delete(other)


def free(store: Database, dead: int) -> None:
    """Do in a moment what takes half a minute after a worker's death: its readers are another's."""
    row = event_readers.c
    with store.begin() as conn:
        held = update(event_readers).where(row.owner.endswith(f":{dead}"))
        conn.execute(held.values(free_at=db_now()))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("turns", "kills"),
    [
        pytest.param(150, 2, marks=pytest.mark.long),
        pytest.param(5_000, 40, marks=pytest.mark.slow),
    ],
)
def test_whoever_is_killed_everybody_is_told_of_everything_in_the_order_of_its_session(  # noqa: PLR0915
    stage: Stage, database_url: str, broker_url: str, turns: int, kills: int
) -> None:
    chance, chance_of_webhook = random.Random(turns), random.Random(1)
    store = Database(database_url)
    stage.start()
    stage.start()
    with (
        Client(database_url=database_url, broker_url=broker_url) as client,
        listening(stage.heard, lambda: chance_of_webhook.random() < 0.1) as url,
    ):
        client.webhooks.create(url=url, events=["*"])
        assert wait_until(
            lambda: len(client.events.readers()) >= 7, timeout=timedelta(seconds=60)
        ), "the observers have not subscribed"
        lines = [
            client.sessions.create(user_id=f"u{n % 9}", provider="mock", model="mock")
            for n in range(50)
        ]
        every = max(turns // kills, 1)
        for number in range(turns):
            live(client, lines[number % len(lines)], number)
            if number % every == every - 1:
                dead = stage.kill_one(chance)
                if kills < FEW:
                    free(store, dead)

        def is_over() -> bool:
            open_turns = client.turns.list(states=["queued", "running", "retrying", "unknown"])
            behind = [one for one in client.events.readers() if one.behind or one.lag]
            waiting = sum(one.waiting for one in client.webhooks.list())
            return not open_turns and not behind and not waiting

        assert wait_until(is_over, timeout=timedelta(seconds=60 + turns // 10))
    happened = all_that_happened(store)
    first: dict[str, int] = {}
    for session, n in happened:
        first[session] = min(n, first.get(session, n))
    kinds = {
        line.split()[2] for line in (stage.folder / "notes" / "plain").read_text().splitlines()
    }
    assert {"turn.accepted", "turn.started", "turn.succeeded", "session.opened"} <= kinds
    assert {"session.paused", "session.updated", "session.deleted", "turn.cancelled"} <= kinds
    for name in NAMES:
        told = stage.told(name)
        assert set(told) >= happened, name
        assert out_of_order(told, first) == [], name
    assert stage.heard >= {f"{session}:{n}" for session, n in happened}
    assert stage.kills >= kills - 1
    steps.assert_sound(store)
    store.close()
