"""pytest-celery's nodes and clusters, over real worker processes of ours instead of containers."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_celery import CeleryTestWorker, CeleryWorkerCluster, CeleryWorkerContainer

from tests.waiting import until
from turnmill import Client, Turn
from turnmill_worker.stack.process import wait_until

WAIT = 60
READY = "ready."


class WorkerProcess(CeleryWorkerContainer):
    """What pytest-celery asks of a container, answered by a process."""

    def __init__(self, name: str, folder: Path, env: dict[str, str]) -> None:
        self._name = name
        self._log = folder / f"{name}.log"
        self._env = os.environ | env
        self._popen = self._start()

    @property
    def id(self) -> str:
        return self._name

    @property
    def name(self) -> str:
        return self._name

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def status(self) -> str:
        return "running" if self._popen.poll() is None else "exited"

    @property
    def attrs(self) -> dict[str, Any]:
        return {"Config": {"Hostname": self._name}}

    def reload(self) -> None:
        self._popen.poll()

    def logs(self) -> str:
        return self._log.read_text(errors="replace")

    def ready(self, timeout: int = WAIT) -> bool:
        return wait_until(lambda: READY in self.logs(), timeout=timedelta(seconds=timeout))

    def kill(self, signal: str | int = "SIGKILL") -> None:
        self._popen.send_signal(_number(signal))
        self._popen.wait(WAIT)

    def restart(self, timeout: int = WAIT) -> None:
        if self.status == "running":
            self.kill("SIGTERM")
        self._log.write_text("")
        self._popen = self._start()
        self.ready(timeout)

    def teardown(self) -> None:
        if self.status == "running":
            self.kill("SIGTERM")

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "turnmill_worker.app", "worker"),
                    *(f"--hostname={self._name}@%h", "--concurrency=20", "--loglevel=INFO"),
                    *("--without-gossip", "--without-mingle"),
                ],
                env=self._env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


def _number(name: str | int) -> int:
    return name if isinstance(name, int) else int(getattr(signal, name))


@pytest.fixture
def cluster(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[CeleryWorkerCluster]:
    env = {
        "TURNMILL_DATABASE_URL": database_url,
        "TURNMILL_BROKER_URL": broker_url,
        "TURNMILL_LEASE": "2",
        "TURNMILL_GRACE": "1",
    }
    app = SimpleNamespace(set_as_current=lambda: None, set_current=lambda: None)
    nodes = [
        CeleryTestWorker(WorkerProcess(name, tmp_path, env), app=app) for name in ("one", "two")
    ]
    cluster = CeleryWorkerCluster(*nodes)
    assert cluster.ready()
    yield cluster
    for node in cluster:
        node.teardown()


@pytest.fixture
def client(database_url: str, broker_url: str) -> Iterator[Client]:
    with Client(database_url=database_url, broker_url=broker_url) as client:
        yield client


@pytest.mark.long
def test_the_other_worker_takes_over_what_a_killed_one_held(
    cluster: CeleryWorkerCluster, client: Client
) -> None:
    sessions = [client.sessions.create(user_id=f"user-{n}") for n in range(6)]
    turns = [client.send(one, "long", metadata={"mock": {"latency": 3.0}}) for one in sessions]
    until(lambda: all(turn.refresh().record.started_at for turn in turns))
    holder = turns[0].attempts()[-1].worker
    (node,) = [one for one in cluster if holder.endswith(f":{one.container.pid}")]
    node.kill()
    held = [one for one in turns if one.refresh().state == "running" and is_of(one, holder)]
    assert held, "all had been answered"
    assert all(turn.result(timeout=WAIT).text for turn in turns)
    assert not any(is_of(one, holder) for one in held)


def is_of(turn: Turn, worker: str) -> bool:
    """Tell whether it was this worker that has tried it last."""
    return turn.attempts()[-1].worker == worker


@pytest.mark.long
def test_a_worker_that_was_restarted_takes_turns_again(
    cluster: CeleryWorkerCluster, client: Client
) -> None:
    cluster[1].kill("SIGTERM")
    cluster[0].restart()
    session = client.sessions.create(user_id="ada")
    assert client.send(session, "still there?").result(timeout=WAIT).text
    cluster[0].assert_log_exists(READY)


@pytest.mark.docker
def test_a_worker_works_with_the_redis_container_of_pytest_celery(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path
) -> None:
    if not (os.environ.get("DOCKER_HOST") or Path("/var/run/docker.sock").is_socket()):
        pytest.skip("no container engine answers")
    broker = request.getfixturevalue("celery_redis_broker")
    url = broker.container.celeryconfig["host_url"]
    env = {"TURNMILL_DATABASE_URL": database_url, "TURNMILL_BROKER_URL": url}
    worker = WorkerProcess("containers", tmp_path, env)
    worker.ready()
    with Client(database_url=database_url, broker_url=url) as client:
        session = client.sessions.create(user_id="ada")
        assert client.send(session, "through a container").result(timeout=WAIT).text
    worker.teardown()
