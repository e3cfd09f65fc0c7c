"""Flower and a worker of the production profile, each as a user of the broker of its own."""

import base64
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import redis

from tests.integration.compose_file import ROOT
from turnmill import Client, wire
from turnmill.store.database import Database
from turnmill.store.upkeep import jobs
from turnmill_worker.stack import ports
from turnmill_worker.stack.celery_parts import FLOWER_CONFIG, command_of
from turnmill_worker.stack.process import wait_until
from turnmill_worker.stack.valkey import EmbeddedValkey

SOON = timedelta(seconds=45)
NAME = "w@test"
LOGIN = "ada:lovelace"
PASSWORD = "0f3a-9b1c-77de"
QUICK = ("--without-gossip", "--without-mingle")


def rules() -> dict[str, list[str]]:
    """Return the rules of each user as the docs say them."""
    lines = (ROOT / "docs/connections.md").read_text().splitlines()
    found = [line.split() for line in lines if line.startswith("ACL SETUSER ")]
    return {
        user: [word.replace("SECRET", PASSWORD) for word in rule] for _, _, user, *rule in found
    }


@dataclass(frozen=True)
class Stage:
    """A worker, beat and Flower, each under its own rules, in production."""

    broker: redis.Redis
    client: Client
    urls: dict[str, str]
    flower: str

    def ask(self, path: str, *, post: str | None = None) -> tuple[int, str]:
        """Ask Flower and return status and text."""
        data = None if post is None else post.encode()
        request = urllib.request.Request(self.flower + path, data=data)
        login = base64.b64encode(LOGIN.encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except URLError:
            return 0, ""


@pytest.fixture
def stage(database_url: str, home: Path, tmp_path: Path) -> Iterator[Stage]:
    port = ports.choose(0)
    with EmbeddedValkey(home, port=0) as valkey, ExitStack() as stack:
        broker = stack.enter_context(redis.Redis.from_url(valkey.url, decode_responses=True))
        for user, rule in rules().items():
            broker.execute_command("ACL", "SETUSER", user, *rule)
        urls = {user: f"redis://{user}:{PASSWORD}@127.0.0.1:{valkey.port}/0" for user in rules()}
        env = os.environ | {
            "TURNMILL_DATABASE_URL": database_url,
            "TURNMILL_PROFILE": "production",
            "TURNMILL_ENCRYPTION": "off",
            "TURNMILL_ALLOW_MOCK": "yes",
            "TURNMILL_FLOWER_AUTH": LOGIN,
            "TURNMILL_SCHEDULE_SELF_CHECK": "* * * * *",
        }
        options = {
            "worker": ("--concurrency=9", "-E", f"--hostname={NAME}", *QUICK),
            "beat": (f"--schedule={tmp_path / 'schedule'}",),
            "flower": (FLOWER_CONFIG, f"--port={port}", "--address=127.0.0.1"),
        }
        client = stack.enter_context(Client(database_url=database_url, broker_url=urls["client"]))
        stage = Stage(broker, client, urls, f"http://127.0.0.1:{port}")
        for program, given in options.items():
            told = env | {"TURNMILL_BROKER_URL": urls[program]}
            log = stack.enter_context((tmp_path / f"{program}.log").open("wb"))
            argv = command_of(program, *given, app="turnmill_worker.app")
            stack.enter_context(running(argv, told, log, tmp_path))
        yield stage


@contextmanager
def running(argv: tuple[str, ...], env: dict[str, str], log: object, cwd: Path) -> Iterator[None]:
    process = subprocess.Popen(argv, env=env, stdout=log, stderr=log, cwd=cwd)  # type: ignore[call-overload]
    try:
        yield
    finally:
        still_there = process.poll() is None
        # Asked politely Flower's threads can hold it up for seconds.
        process.send_signal(signal.SIGKILL if "flower" in argv else signal.SIGTERM)
        process.wait(timeout=30)
    assert still_there, f"{argv} has ended by itself"


@pytest.mark.slow  # Flower starts, and beat's minute comes
@pytest.mark.skipif(sys.platform != "linux", reason="starts Valkey from its wheel")
def test_flower_shows_a_worker_of_production_and_changes_nothing_of_it(
    stage: Stage, database_url: str
) -> None:
    began = datetime.now(UTC)
    assert wait_until(lambda: f'"{NAME}"' in stage.ask("/api/workers?refresh=1")[1], timeout=SOON)
    session = stage.client.sessions.create(user_id="ada", provider="mock", model="m")
    turn = stage.client.send(session, "Hello")
    assert turn.result(timeout=30).text
    look_at_flower(stage, str(turn.id))
    change_nothing_by_flower(stage, str(turn.id))

    store = Database(database_url)
    minutes = [began.replace(second=0, microsecond=0) + timedelta(minutes=n) for n in range(3)]

    def checked() -> bool:
        with store.begin() as conn:
            return any(jobs.run_of(conn, wire.SELF_CHECK, minute) for minute in minutes)

    assert wait_until(checked, timeout=timedelta(seconds=90))
    store.close()
    assert stage.client.send(session, "And again").result(timeout=30).text
    # Kombu would put back what others took and did not finish: not Flower's business.
    assert [one for one in stage.broker.acl_log() if one["object"] != "set"] == []


def look_at_flower(stage: Stage, turn_id: str) -> None:
    pages = ("/workers", f"/worker/{NAME}", "/tasks", "/broker", "/api/queues/length", "/metrics")
    for page in (*pages, f"/task/{turn_id}", "/api/tasks"):
        assert stage.ask(page)[0] == 200, page
    for page in ("/workers", f"/worker/{NAME}"):
        assert NAME in stage.ask(page)[1]


def change_nothing_by_flower(stage: Stage, turn_id: str) -> None:
    stage.ask(f"/api/worker/shutdown/{NAME}", post="")  # says that it was sent
    for path, form in (
        (f"/api/worker/pool/shrink/{NAME}", "n=1"),
        (f"/api/worker/pool/grow/{NAME}", "n=1"),
        (f"/api/worker/queue/add-consumer/{NAME}", "queue=x"),
        (f"/api/worker/queue/cancel-consumer/{NAME}", "queue=turnmill.interactive"),
        (f"/api/task/rate-limit/{wire.RUN_TURN}", f"workername={NAME}&ratelimit=1/h"),
    ):
        status, text = stage.ask(path, post=form)
        assert status == 403 and "TURNMILL_REMOTE_CONTROL=all" in text, path
    assert stage.ask(f"/api/task/revoke/{turn_id}", post="terminate=false")[0] == 200
