"""docker-compose.yml on a container engine: `tests/engine/with_engine.sh` runs it beside one.

    tests/engine/with_engine.sh .venv/bin/python -m pytest -m slow tests/engine

Where another engine answers, `pytest -m slow tests/engine` builds from the real images.
"""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from turnmill import Client, StoreError, TurnState
from turnmill.domain.ids import SessionId
from turnmill_worker.stack.process import wait_until

ROOT = Path(__file__).resolve().parents[2]
BUILT_WITHIN = timedelta(minutes=10)
SOON = timedelta(minutes=2)
SERVICES = ("postgres", "redis", "worker", "beat", "flower")
SENDERS, EACH_PER_SECOND = 6, 10


def engine_missing() -> str:
    if shutil.which("docker-compose") is None:
        return "no docker-compose"
    done = subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False)
    return "" if done.returncode == 0 else "no container engine answers"


pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.timeout(1200)]


@dataclass(frozen=True, slots=True)
class Composed:
    """The services of the file, as containers."""

    variables: dict[str, str]

    def call(self, *arguments: str, timeout: timedelta = SOON) -> str:
        done = subprocess.run(
            ["docker-compose", "--file", str(ROOT / "docker-compose.yml"), *arguments],
            env=os.environ | self.variables,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout.total_seconds(),
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self) -> None:
        try:
            self.call("up", "--detach")
        except AssertionError:
            pytest.fail(self.call("ps") + self.call("logs", "--tail=20"))

    def health(self, service: str) -> str:
        container = self.call("ps", "--quiet", service).strip()
        if not container:
            return "none"
        done = subprocess.run(
            ["docker", "inspect", container], capture_output=True, timeout=30, check=True
        )
        [found] = json.loads(done.stdout)
        return str(found["State"].get("Health", {}).get("Status", "unchecked"))

    def await_health(self) -> None:
        def are_healthy() -> bool:
            return all(self.health(service) == "healthy" for service in SERVICES)

        if not wait_until(are_healthy, timeout=SOON):
            pytest.fail(self.call("ps") + self.call("logs", "--tail=20"))

    def client(self) -> Client:
        given = self.variables
        return Client(
            database_url=f"postgresql://turnmill_app:{given['POSTGRES_APP_PASSWORD']}@127.0.0.1:"
            f"{given['POSTGRES_PORT']}/turnmill",
            broker_url=f"redis://:{given['REDIS_PASSWORD']}@127.0.0.1:{given['REDIS_PORT']}/0",
        )


@pytest.fixture(scope="module")
def composed() -> Iterator[Composed]:
    if missing := engine_missing():
        pytest.skip(missing)
    text = (ROOT / "docker-compose.yml").read_text()
    secrets = {name: f"secret-of-{name.lower()}" for name in re.findall(r"\$\{(\w+):\?", text)}
    ports = {"POSTGRES_PORT": "15432", "REDIS_PORT": "16379", "FLOWER_PORT": "15555"}
    given = {"COMPOSE_PROJECT_NAME": "turnmill-test", "TURNMILL_FLOWER_AUTH": "ada:lovelace"}
    one = Composed(secrets | ports | given)
    try:
        one.call("build", timeout=BUILT_WITHIN)
        one.up()
        yield one
    finally:
        one.call("down", "--volumes", "--timeout", "20")


def test_every_service_becomes_healthy_and_a_turn_is_answered(composed: Composed) -> None:
    composed.await_health()
    with composed.client() as client:
        turn = client.send(client.sessions.create(user_id="ada"), "Hello")
        assert "You said: Hello" in turn.result(timeout=60).text
    processes = composed.call("exec", "-T", "worker", "turnmill", "health", "worker")
    assert "ready: consuming" in processes


@dataclass
class Traffic:
    """Senders at a steady pace, each in a session of its own."""

    client: Client
    ended: threading.Event = field(default_factory=threading.Event)
    refused: int = 0

    def send(self, number: int) -> tuple[SessionId, int]:
        """Send until told to end, each message until it was accepted; return how many were."""
        session = self.client.sessions.create(user_id=f"user {number}", key=f"line {number}")
        count = 0
        while not self.ended.wait(1 / EACH_PER_SECOND):
            try:
                self.client.send(session, f"{count}", idempotency_key=f"{number}-{count}")
            except StoreError:
                self.refused += 1  # nobody knows: the key makes it safe to say again
                continue
            count += 1
        return session.id, count


def test_restarts_of_every_service_under_60_sends_a_second_lose_nothing(
    composed: Composed,
) -> None:
    composed.await_health()
    with composed.client() as client, ThreadPoolExecutor(SENDERS) as threads:
        traffic = Traffic(client)
        lines = [threads.submit(traffic.send, number) for number in range(SENDERS)]
        for service in SERVICES:
            time.sleep(2)  # of traffic as it is without us
            composed.call("restart", service)
            composed.await_health()
        traffic.ended.set()
        for line in lines:
            session, count = line.result()
            assert count > 100
            ended = wait_until(lambda: len(said(client, session)) == 2 * count, timeout=SOON)  # noqa: B023
            assert ended, (count, len(said(client, session)))
            asked = [text for role, text in said(client, session) if role == "user"]
            assert asked == [str(n) for n in range(count)]
            states = {
                turn.record.state for turn in client.turns.list(session=session, limit=10_000)
            }
            assert states == {TurnState.SUCCEEDED}


def said(client: Client, session: SessionId) -> list[tuple[str, str]]:
    return [(str(one.role), one.text) for one in client.sessions.history(session)]
