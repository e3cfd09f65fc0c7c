"""A real worker whose provider does what it likes: it answers the others, and obeys SIGTERM."""

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from tests.chaos.system import ROOT, Servers, System, until
from tests.hostile import NO_ANSWER, PARIS, RAISED, SECRET
from turnmill import Client
from turnmill.domain.states import FINAL, Lane, TurnState
from turnmill.sync.turns import Turn

ENTRY_POINT = "[turnmill.providers]\nhostile = tests.hostile_provider:HostileProvider.from_env\n"
STUBBORN = ("hang", "refuse")
GRACE = timedelta(seconds=1)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """A system whose workers find the hostile provider installed."""
    info = tmp_path / "hostile-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: hostile\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINT)
    environment = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    with (
        Servers.start() as servers,
        System(servers, grace=GRACE, environment=environment) as system,
    ):
        yield system


def send(client: Client, *does: str, lane: Lane = Lane.BULK, model: str = "odd") -> Turn:
    session = client.sessions.create(user_id="ada", provider="hostile", model=model, max_attempts=1)
    return client.send(session, SECRET, lane=lane, metadata={"does": list(does)})


def ended(turns: list[Turn]) -> bool:
    return all(turn.refresh().state in FINAL for turn in turns)


@pytest.mark.long
def test_a_worker_answers_the_others_and_leaves_when_it_is_told_to(system: System) -> None:
    worker = system.start_worker()
    odd = [*RAISED, *NO_ANSWER, *PARIS, "share", "leave a task"]
    with system.client() as client:
        # Each with a model of its own: one that fails in rows is left alone for a while.
        stubborn = [send(client, word, lane=Lane.INTERACTIVE, model=word) for word in STUBBORN]
        victims = [
            send(client, word, "well", lane=lane, model=word)
            for word, lane in zip(odd, [Lane.BULK, Lane.INTERACTIVE] * len(odd), strict=False)
        ]
        good = [send(client, "well") for _ in range(50)]
        until(lambda: ended(good))
        assert {turn.state for turn in good} == {TurnState.SUCCEEDED}
        assert {len(turn.attempts()) for turn in good} == {1}
        # Asked again, each of them answers well.
        until(lambda: ended(victims), within=timedelta(seconds=90))
        assert {turn.record.lost for turn in (*good, *victims)} == {0}
        until(lambda: {turn.refresh().state for turn in stubborn} == {TurnState.RUNNING})

        os.kill(worker.pid, signal.SIGTERM)
        until(lambda: worker.poll() is not None, within=GRACE + timedelta(seconds=20))
        # What it could not end it has given up, and says so in the rows.
        assert {turn.refresh().state for turn in stubborn} == {TurnState.UNKNOWN}
    with redis.Redis.from_url(system.broker_url) as broker:
        kept = b"".join(broker.dump(key) or b"" for key in broker.scan_iter())
    assert SECRET.encode() not in kept
    assert SECRET not in system.logs()
