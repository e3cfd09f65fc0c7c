"""Servers that load an application, with its clients, and then fork: gunicorn and Celery."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import rows
from tests.integration.pool_worker import PoolWorker
from turnmill.store.database import Database
from turnmill_worker.stack import ports
from turnmill_worker.stack.process import wait_until

WORKERS = 4
READY_WITHIN = timedelta(seconds=30)
KINDS = ("blocking", "asyncio")


@pytest.fixture
def sessions(database_url: str) -> list[str]:
    """Four sessions whose messages name them."""
    store = Database(database_url)
    found = [rows.start(store, user_id=f"user {number}") for number in range(4)]
    for session in found:
        for _ in range(3):
            rows.send(store, session, f"said in {session}")
    store.close()
    return [str(session) for session in found]


@pytest.fixture
def environment(database_url: str, broker_url: str) -> dict[str, str]:
    return {"TURNMILL_DATABASE_URL": database_url, "TURNMILL_BROKER_URL": broker_url}


@contextmanager
def gunicorn(environment: dict[str, str], folder: Path) -> Iterator[str]:
    """Run the application with four workers that are forked from it; yield its address."""
    address = f"127.0.0.1:{ports.choose(0)}"
    log = folder / "gunicorn.log"
    argv = ["--preload", "--workers", str(WORKERS), "--bind", address, "--timeout", "20"]
    with log.open("wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *argv, "tests.integration.preloaded:make()"],
            env=os.environ | environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        ready = wait_until(
            lambda: log.read_text().count("Booting worker") == WORKERS, timeout=READY_WITHIN
        )
        assert ready, log.read_text()
        yield f"http://{address}"
    finally:
        server.terminate()
        assert server.wait(timeout=30) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def visits(sessions: Sequence[str], count: int) -> list[tuple[str, str]]:
    """Return (kind of client, session) in turns."""
    return [(KINDS[number % 2], sessions[number // 2 % 4]) for number in range(count)]


def read_by_eight(address: str, wanted: Sequence[tuple[str, str]]) -> set[int]:
    """Let eight visitors read at once, each its own; return the processes that answered."""

    def read(visit: tuple[str, str]) -> int:
        kind, session = visit
        with urllib.request.urlopen(f"{address}/{kind}/{session}", timeout=30) as response:
            said: dict[str, Any] = json.load(response)
        assert said["texts"] == [f"said in {session}"] * 3
        return int(said["pid"])

    with ThreadPoolExecutor(8) as visitors:
        return set(visitors.map(read, wanted))


@pytest.mark.long
def test_gunicorn_workers_that_were_preloaded_answer_each_user_with_what_is_theirs(
    environment: dict[str, str], sessions: list[str], tmp_path: Path
) -> None:
    with gunicorn(environment, tmp_path) as address:
        answered: set[int] = set()

        def all_have_answered() -> bool:
            answered.update(read_by_eight(address, visits(sessions, 32)))
            return len(answered) == WORKERS

        assert wait_until(all_have_answered, timeout=READY_WITHIN), answered


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_runs_of_preloaded_gunicorn_workers_mix_nothing_up(
    environment: dict[str, str], sessions: list[str], tmp_path: Path
) -> None:
    for _ in range(50):
        with gunicorn(environment, tmp_path) as address:
            read_by_eight(address, visits(sessions, 32))


@pytest.mark.long
def test_children_of_a_prefork_worker_use_clients_that_its_main_process_has_used(
    environment: dict[str, str], sessions: list[str], broker_url: str, tmp_path: Path
) -> None:
    options = ("--concurrency=4", "--prefetch-multiplier=1")
    with PoolWorker("prefork", broker_url, tmp_path, *options, env=environment) as worker:
        wanted = visits(sessions, 32)
        sent = [worker.send("read_history", kind, session) for kind, session in wanted]
        for (_, session), one in zip(wanted, sent, strict=True):
            assert one.get() == [f"said in {session}"] * 3
