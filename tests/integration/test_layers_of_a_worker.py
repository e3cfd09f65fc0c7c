"""Layers where they are to stand: in a worker, in quarantine, and inside an application."""

import os
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests import steps, workers
from turnmill import Client, Turn
from turnmill.domain.errors import InvalidSetting, TurnFailed
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill.settings import Settings
from turnmill.show.turn_view import look_at
from turnmill.show.why_view import obstacles
from turnmill.store.database import Database
from turnmill_worker.stack import ports
from turnmill_worker.stack.celery_parts import command_of
from turnmill_worker.stack.process import wait_until

CANARY = "xyzzy-canary"
USER = "ada-lovelace"
SOON = timedelta(seconds=30)

#: Notes who passed, in which process; puts off whose turns say so; hides a word where asked to.
NOTING = """
import os
from dataclasses import replace
from datetime import timedelta
from turnmill_worker.layers import NotNow

def counts():
    async def layer(call, go):
        with open(os.environ["NOTES"], "a") as notes:
            notes.write(f"{call.claim.turn_id} {os.getpid()} {call.claim.user_id}\\n")
        return await go(call)
    return layer

def limits():
    async def layer(call, go):
        if call.claim.metadata.get("put_off") and not os.path.exists(os.environ["NOTES"] + ".open"):
            return NotNow(until=timedelta(seconds=0.2), waits_for="budget")
        return await go(call)
    return layer

def shouts():
    async def layer(call, go):
        hidden = [one.with_text("hidden") for one in call.request.messages]
        answer = await go(replace(call, request=replace(call.request, messages=hidden)))
        return answer.with_text(answer.text.upper())
    return layer
"""
LAYERS = "log,count=noting:counts,limits=noting:limits,shout?=noting:shouts"


@dataclass(frozen=True)
class Stage:
    """A worker process with layers and metrics."""

    client: Client
    notes: Path
    log: Path
    pid: int
    metrics_url: str
    lost: TurnId  #: that was lost before it came up

    def noted(self, turn_id: object) -> list[int]:
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith(str(turn_id))]

    def metrics(self) -> str:
        with urllib.request.urlopen(self.metrics_url, timeout=10) as answer:
            return str(answer.read().decode())


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "noting.py").write_text(textwrap.dedent(NOTING))
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "notes"


@pytest.fixture
def lost(database_url: str) -> TurnId:
    """Send a turn whose first worker dies with it."""
    with Client(database_url=database_url) as mute:
        turn = mute.send(mute.sessions.create(user_id=USER), CANARY)
    store = Database(database_url)
    steps.take_one(store, turn.id)
    steps.lose(store, turn.id)
    store.close()
    return turn.id


@pytest.fixture
def stage(
    database_url: str, broker_url: str, notes: Path, lost: TurnId, tmp_path: Path
) -> Iterator[Stage]:
    port = ports.choose(0)
    variables = {
        "TURNMILL_DATABASE_URL": database_url,
        "TURNMILL_BROKER_URL": broker_url,
        "TURNMILL_LAYERS": LAYERS,
        "TURNMILL_METRICS_PORT": str(port),
        "TURNMILL_GRACE": "1",
        "PYTHONPATH": str(tmp_path),
    }
    worker = workers.start(tmp_path, variables, "--concurrency=50", "--loglevel=INFO")
    try:
        with Client(database_url=database_url, broker_url=broker_url) as client:
            url = f"http://127.0.0.1:{port}/metrics"
            log = tmp_path / "worker.log"
            yield Stage(client, notes, log, worker.pid, url, lost)
    finally:
        workers.stop(worker)


def test_layers_stand_around_the_calls_of_a_worker_and_of_its_quarantine(stage: Stage) -> None:
    first = shouted(stage)
    put_off(stage)
    refused(stage)
    stage.client.turns.get(stage.lost).result(timeout=60)
    asked = stage.noted(stage.lost)  # what has become of it, and then again
    assert len(asked) == 2 and stage.pid not in asked
    text, log = stage.metrics(), stage.log.read_text()
    assert 'turnmill_put_off_total{waits_for="budget"}' in text
    assert 'turnmill_turns_total{model="mock",provider="mock",state="succeeded"} 2.0' in text
    assert "turnmill_store_up 1.0" in text
    assert f"send of turn {first.id}: done in " in log
    assert CANARY not in text + log and USER not in text


def shouted(stage: Stage) -> Turn:
    """Ask through a layer that a session chooses, and see what it changes."""
    session = stage.client.sessions.create(user_id=USER, settings={"layers": ["shout"]})
    turn = stage.client.send(session, CANARY)
    reply = turn.result(timeout=60).text
    assert reply == reply.upper() and "HIDDEN" in reply
    assert next(iter(stage.client.sessions.history(session))).text == CANARY
    assert stage.noted(turn.id) == [stage.pid]
    return turn


def put_off(stage: Stage) -> None:
    """Wait for a budget, for a while; nothing is spent, and one attempt is made in the end."""
    session = stage.client.sessions.create(user_id=USER)
    turn = stage.client.send(session, CANARY, metadata={"put_off": True})
    assert wait_until(lambda: len(stage.noted(turn.id)) > 3, timeout=SOON)
    assert wait_until(lambda: turn.refresh().record.state is TurnState.QUEUED, timeout=SOON)
    assert (turn.record.waits_for, turn.record.attempt) == ("budget", 0)
    stage.notes.with_suffix(".open").touch()
    turn.result(timeout=30)
    assert [one.outcome for one in turn.attempts()] == ["succeeded"]
    assert (turn.refresh().record.waits_for, turn.record.attempt) == (None, 1)


def refused(stage: Stage) -> None:
    """Choose a layer that nobody registered."""
    session = stage.client.sessions.create(user_id=USER, settings={"layers": ["os-system"]})
    turn = stage.client.send(session, CANARY)
    with pytest.raises(TurnFailed) as caught:
        turn.result(timeout=30)
    assert caught.value.error_code == "unknown_layer"


def why(client: Client, turn: Turn) -> str:
    """Return what `turnmill turns show` says of a turn that does not run."""
    return "\n".join(obstacles(look_at(client, turn, text=False).why))


def test_the_same_layers_stand_inside_an_application(notes: Path) -> None:
    with Client(settings=Settings(database_url="sqlite://", layers=LAYERS)) as client:
        session = client.sessions.create(user_id="ada", settings={"layers": ["shout"]})
        turn = client.send(session, CANARY, metadata={"put_off": True})
        assert wait_until(
            lambda: "for its budget, which is used up" in why(client, turn), timeout=SOON
        )
        notes.with_suffix(".open").touch()
        assert "HIDDEN" in turn.result(timeout=30).text
        assert [one.outcome for one in turn.attempts()] == ["succeeded"]
    assert {line.split()[1] for line in notes.read_text().splitlines()} == {str(os.getpid())}


def test_a_turn_that_is_put_off_for_ever_ends_when_it_expires(notes: Path) -> None:
    with Client(settings=Settings(database_url="sqlite://", layers=LAYERS)) as client:
        turn = client.send(
            client.sessions.create(user_id="ada"),
            "hello",
            metadata={"put_off": True},
            expires=datetime.now(UTC) + timedelta(seconds=1),
        )
        ended = wait_until(lambda: turn.refresh().record.finished_at is not None, timeout=SOON)
        assert ended and turn.record.state is TurnState.EXPIRED
        assert (turn.record.attempt, turn.record.waits_for) == (0, None), "it waits no more"
        assert len(turn.attempts()) == 1


def test_an_application_with_a_layer_that_is_not_there_is_told_so(notes: Path) -> None:
    settings = Settings(database_url="sqlite://", layers="nobody")
    with (
        Client(settings=settings) as client,
        pytest.raises(InvalidSetting, match="TURNMILL_LAYERS"),
    ):
        client.send(client.sessions.create(user_id="ada"), "hello")


@pytest.mark.parametrize(
    "variable",
    [
        ("TURNMILL_LAYERS", "nobody"),
        ("TURNMILL_OBSERVERS", "nobody"),
        ("TURNMILL_METRICS_PORT", "0"),
    ],
)
def test_a_worker_that_cannot_do_what_it_is_told_ends_with_one_line(
    variable: tuple[str, str], database_url: str, broker_url: str
) -> None:
    env = dict([variable]) | {
        "PATH": os.environ["PATH"],
        "TURNMILL_DATABASE_URL": database_url,
        "TURNMILL_BROKER_URL": broker_url,
    }
    ended = subprocess.run(
        command_of("worker", app="turnmill_worker.app"),
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert variable[0] in ended.stderr and sys.executable not in ended.stderr
