"""Observers of real workers: told of every ending, in order, and again after a kill."""

import signal
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests import steps, workers
from tests.waiting import until
from tests.workers import Worker
from turnmill import Client
from turnmill.store.database import Database

SOON = timedelta(seconds=40)

#: Writes down what it is told; falls, or stands still, once it has written what a file names.
NOTING = """
import os, signal
from pathlib import Path

def make():
    notes, trap = Path(os.environ["NOTES"]), Path(os.environ["NOTES"] + ".trap")

    def observer(event):
        with notes.open("a") as file:
            file.write(f"{event.kind} {event.session_id} {event.turn_id} {event.n}\\n")
        if trap.exists() and trap.read_text() == f"{event.session_id} {event.n}":
            trap.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    return observer
"""


@dataclass
class Stage:
    """A store with workers that have an observer."""

    folder: Path
    env: dict[str, str]
    client: Client
    store: Database
    workers: list[Worker] = field(default_factory=list)

    @property
    def notes(self) -> Path:
        return self.folder / "notes"

    def start(self) -> Worker:
        worker = workers.start(self.folder, self.env, "--concurrency=20", "--without-gossip")
        self.workers.append(worker)
        return worker

    def trap(self, session: object, n: int) -> None:
        self.notes.with_suffix(".trap").write_text(f"{session} {n}")

    def told(self, session: object) -> list[tuple[str, int]]:
        """Return the kinds and numbers that an observer was told of a session, in that order."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        words = [line.split() for line in lines]
        return [(word[0], int(word[3])) for word in words if word[1] == str(session)]


@pytest.fixture
def stage(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "noting.py").write_text(textwrap.dedent(NOTING))
    env = {
        "TURNMILL_DATABASE_URL": database_url,
        "TURNMILL_BROKER_URL": broker_url,
        "TURNMILL_OBSERVERS": "log,note=noting:make",
        "TURNMILL_OBSERVER_TIMEOUT": "1",
        "TURNMILL_LEASE": "1",
        "TURNMILL_GRACE": "1",
        "NOTES": str(tmp_path / "notes"),
        "PYTHONPATH": str(tmp_path),
    }
    store = Database(database_url)
    with Client(database_url=database_url, broker_url=broker_url) as client:
        stage = Stage(tmp_path, env, client, store)
        yield stage
    workers.stop(*stage.workers)
    steps.assert_sound(store)
    store.close()


@pytest.mark.long
def test_an_observer_is_told_of_every_ending_and_again_after_a_kill(stage: Stage) -> None:
    client, session = stage.client, stage.client.sessions.create(user_id="ada", provider="mock")
    over = datetime.now(UTC) - timedelta(seconds=1)
    client.send(session, "cancelled while no worker runs").cancel()
    expired = client.send(session, "too late", expires=over)
    last = client.send(session, "answered")
    stage.trap(session.id, 2)
    fallen = stage.start()
    until(lambda: fallen.poll() is not None)
    assert fallen.returncode == -signal.SIGKILL
    stage.start()
    last.result(timeout=40)
    until(lambda: (("turn.succeeded", 3)) in stage.told(session.id))
    told = stage.told(session.id)
    assert told.count(("turn.expired", 2)) == 2  # and at most what came just before with it
    assert told[0] == ("turn.cancelled", 1) and told[-1] == ("turn.succeeded", 3)
    assert never_ahead([n for _, n in told])
    assert expired.refresh().record.finished_at is not None
    assert "did not take" not in (stage.folder / "worker.log").read_text()


@pytest.mark.slow
def test_two_workers_one_of_which_is_killed_skip_nothing_and_keep_the_order(stage: Stage) -> None:
    client = stage.client
    sessions = [client.sessions.create(user_id="ada", provider="mock") for _ in range(6)]
    first, _ = stage.start(), stage.start()
    turns = [client.send(session, "hello") for _ in range(10) for session in sessions]
    until(lambda: len(stage.told(sessions[0].id)) > 2)
    first.kill()
    for turn in turns:
        turn.result(timeout=60)
    until(lambda: all(stage.told(one.id)[-1:] == [("turn.succeeded", 10)] for one in sessions))
    for session in sessions:
        numbers = [n for _, n in stage.told(session.id)]
        assert set(numbers) == set(range(1, 11)) and never_ahead(numbers)
    assert "did not take" not in (stage.folder / "worker.log").read_text()


def never_ahead(numbers: list[int]) -> bool:
    """Tell whether each number but 1 was told after the one before it."""
    known = {0}
    for n in numbers:
        if n - 1 not in known:
            return False
        known.add(n)
    return True
