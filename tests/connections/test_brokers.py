"""Every broker that is promised, tried with every program that dials it."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from redis.exceptions import NoPermissionError

from tests.chaos.books import Books
from tests.chaos.system import PATIENCE, Servers, System, until
from tests.connections import ways
from tests.connections.certificates import make_certificates
from tests.connections.reaching import (
    QUEUE,
    celery_at,
    client_sends,
    doctor_finds,
    flower_counts,
    what_fails,
)
from tests.connections.redis_servers import RedisServer, valkey_of_the_wheel
from tests.doubles.tls_front import TlsFront
from turnmill import Client
from turnmill.broker.vitals import BrokerSilent, ask_broker
from turnmill.connections.broker_urls import read_broker_url
from turnmill.domain.states import Lane
from turnmill.settings import Settings
from turnmill.wire import RUN_BULK, RUN_TURN, SELF_CHECK, UPKEEP_QUEUE

Row = Callable[[str], None]

TURNS = 30  #: in each lane
EVERY = 0.02  #: fifty sends a second
BACK_WITHIN = timedelta(seconds=20)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers.start() as servers:
        yield servers


@dataclass
class SystemAt(System):
    """A system with a broker of its own; clients may come as another user than workers."""

    url: str = ""
    clients_url: str = ""

    @property
    def broker_url(self) -> str:
        return self.url

    def client(self, **settings: object) -> Client:
        broker_url = self.clients_url or self.url
        return Client(settings=Settings(database_url=self.database_url, broker_url=broker_url))


@pytest.mark.parametrize("name", ways.OF_REDIS)
def test_client_worker_flower_and_doctor_find_the_same_queue(name: str, tmp_path: Path) -> None:
    with ways.OF_REDIS[name](tmp_path) as url:
        assert what_fails(url) == []


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:s3-cr3t@h/0",
        "redis+socket://u:s3-cr3t@/run/x.sock",
        "sentinel://:s3-cr3t@a,b/0?master_name=m&sentinel_password=s3-cr3t",
        "amqp://u:s3-cr3t@a;amqp://u:s3-cr3t@b/v",
    ],
)
def test_what_celery_tells_of_its_connection_holds_no_password(url: str) -> None:
    connection = celery_at(url).connection()
    told = {name: value for name, value in connection.info().items() if name != "password"}
    assert "s3-cr3t" not in f"{told} {connection!r} {connection.as_uri()}"


def test_a_certificate_that_does_not_prove_who_answers_is_refused_by_all(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    with RedisServer(valkey_of_the_wheel(), tmp_path) as server:
        with TlsFront(server.port, certificate=files.certificate, key=files.key) as front:
            url = f"rediss://localhost:{front.port}/0"
            assert nobody_reaches(url) == "certificate_not_trusted"
            assert what_fails(f"{url}?ssl_cert_reqs=none") == []
        with TlsFront(server.port, certificate=files.elsewhere, key=files.elsewhere_key) as front:
            url = f"rediss://localhost:{front.port}/0?ssl_ca_certs={files.authority}"
            assert nobody_reaches(url) == "certificate_of_another_name"
            assert what_fails(f"{url}&ssl_check_hostname=false") == []


def nobody_reaches(url: str) -> str:
    """Return why, after every program has failed."""
    assert what_fails(url) == ["doctor", "client", "flower", "worker"]
    return why_not(url)


def why_not(url: str) -> str:
    with pytest.raises(BrokerSilent) as silent:
        ask_broker(read_broker_url(url))
    return silent.value.cause.code


def test_a_broker_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    lines = ('requirepass "secret"', "user poor on >poor ~none +ping +select")
    with RedisServer(valkey_of_the_wheel(), tmp_path, *lines) as server:
        place = f"localhost:{server.port}"
        causes = {
            f"redis://:other@{place}/0": "wrong_password",
            f"redis://nobody:secret@{place}/0": "wrong_password",
            f"redis://{place}/0": "password_missing",
            f"redis://poor:poor@{place}/0": "not_permitted",
            f"redis://:secret@{place}/99": "no_such_database",
            "redis://localhost:1/0": "refused",
            "redis://nobody.invalid/0": "host_unknown",
            f"unix://{tmp_path}/none.sock": "no_such_file",
            "sentinel://localhost:1/0?master_name=m": "refused",
        }
        assert {url: why_not(url) for url in causes} == causes


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ways.OF_REDIS, *ways.OF_DEBIAN])
def test_turns_are_run_by_hints_and_doctor_is_content(
    name: str, servers: Servers, tmp_path: Path, row: Row
) -> None:
    row(name)
    way = {**ways.OF_REDIS, **ways.OF_DEBIAN}[name]
    with (
        way(tmp_path) as url,
        SystemAt(servers, url=url, clients_url=ways.as_user(url, "client")) as system,
    ):
        system.start_worker()
        with system.client() as client:
            turns = [
                client.send(client.sessions.create(user_id=f"{n}"), "hello", lane=lane)
                for n in range(TURNS)
                for lane in (Lane.INTERACTIVE, Lane.BULK)
            ]
            assert all(turn.result(timeout=PATIENCE).text for turn in turns)
        heard = tasks_heard(ways.as_user(url, "flower"))
        assert heard[RUN_TURN] >= TURNS * 0.8
        assert heard[RUN_BULK] >= 1
        assert wrong_findings(system) == []
        assert "cannot be used" not in system.logs()


def tasks_heard(url: str) -> dict[str, int]:
    """Return how many tasks of each kind the worker was given, as it says when asked."""
    app = celery_at(url)
    (stats,) = app.control.inspect(timeout=2.0).stats().values()
    assert not any(secret in repr(stats) for secret in secrets_in(url))
    return dict(stats["total"])


def secrets_in(url: str) -> list[str]:
    broker = read_broker_url(url)
    passwords = [one for one in (broker.password, broker.sentinel_password) if len(one) > 3]
    return [*passwords, *(quote(one, safe="") for one in passwords)]


def wrong_findings(system: System) -> list[str]:
    command = (sys.executable, "-m", "turnmill.cli", "doctor", "--json")
    done = subprocess.run(
        command, env=system.variables, capture_output=True, text=True, check=False, timeout=60
    )
    findings = json.loads(done.stdout)["findings"]
    looked_at = [one for one in findings if one["check"] in ("broker", "workers")]
    assert len(looked_at) >= 2
    return [one["what"] for one in looked_at if one["level"] == "wrong"]


@pytest.mark.slow
def test_a_primary_that_dies_under_load_loses_no_turn_and_hints_are_back_within_seconds(
    servers: Servers, tmp_path: Path, row: Row
) -> None:
    row("Valkey, Sentinels, the primary killed at 50 sends/s")
    with ways.sentinels(tmp_path) as found, SystemAt(servers, url=found.url) as system:
        system.start_worker()
        system.start_worker()
        with system.client() as client, Sender(client) as sender:
            until(lambda: len(sender.sent) > 50)
            found.primary.kill()
            killed_at = time.monotonic()
            until(lambda: doctor_content(found.url), within=BACK_WITHIN)
            before = sum_heard(found.url)
            until(lambda: sum_heard(found.url) > before + 20, within=BACK_WITHIN)
            assert time.monotonic() - killed_at < BACK_WITHIN.total_seconds()
        until(lambda: unfinished(system) == 0)
        assert len(sender.sent) == states(system)["succeeded"]
        assert Books.of(system).complaints() == []
        assert sender.slowest < 1.0


class Sender:
    """Sends on a thread of its own, over twenty sessions, until the block ends."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sessions = [client.sessions.create(user_id=f"{n}").id for n in range(20)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sent: list[object] = []
        self.slowest = 0.0

    def __enter__(self) -> "Sender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            began = time.monotonic()
            session = self._sessions[len(self.sent) % len(self._sessions)]
            self.sent.append(self._client.send(session, f"{len(self.sent)}").id)
            self.slowest = max(self.slowest, time.monotonic() - began)


def doctor_content(url: str) -> bool:
    try:
        return doctor_finds(url)
    except BrokerSilent:
        return False


def sum_heard(url: str) -> int:
    app = celery_at(url)
    try:
        answers = app.control.inspect(timeout=1.0).stats() or {}
    except redis.RedisError:
        return 0
    return sum(sum(one["total"].values()) for one in answers.values())


def states(system: System) -> dict[str, int]:
    return dict(system.rows("SELECT state, count(*) FROM turnmill.turns GROUP BY state"))


def unfinished(system: System) -> int:
    found = states(system)
    return sum(found.values()) - found.get("succeeded", 0)


def test_each_user_of_the_docs_can_do_its_own_work_and_nobody_elses(tmp_path: Path) -> None:
    with ways.by_the_acls_of_the_docs(tmp_path) as workers_url:
        client, beat, flower = (
            ways.as_user(workers_url, user) for user in ("client", "beat", "flower")
        )
        assert client_sends(client)
        assert flower_counts(flower)
        celery_at(beat).send_task(SELF_CHECK, queue=UPKEEP_QUEUE)
        with redis.Redis.from_url(workers_url) as worker:
            assert worker.brpop(QUEUE, timeout=1)
            assert worker.brpop(UPKEEP_QUEUE, timeout=1)
        for url, command in (
            (client, ("RPOP", QUEUE)),
            (client, ("LPUSH", "elsewhere", "x")),
            (client, ("PUBLISH", "/0.celery.pidbox", "{}")),
            (client, ("FLUSHALL",)),
            (beat, ("LPUSH", QUEUE, "{}")),
            (beat, ("PUBLISH", "/0.celery.pidbox", "{}")),
            (flower, ("LPUSH", QUEUE, "{}")),
            (flower, ("DEL", QUEUE)),
            (workers_url, ("FLUSHALL",)),
            (workers_url, ("CONFIG", "SET", "dir", "/tmp")),
            (workers_url, ("CLIENT", "KILL", "TYPE", "normal")),
        ):
            with redis.Redis.from_url(url) as user, pytest.raises(NoPermissionError):
                user.execute_command(*command)
