"""One running system for all fundamentals: what `turnmill up` starts, with the mock provider."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import make_home
from turnmill import Client
from turnmill_worker.stack import ports

#: The jobs that a test sends by hand: beat would take their slots.
UNSCHEDULED = {
    f"TURNMILL_SCHEDULE_{name}": "off"
    for name in ("ARCHIVE_IDLE_SESSIONS", "ROLL_UP_USAGE", "SELF_CHECK")
}


@dataclass(frozen=True, slots=True)
class System:
    """Where a running `turnmill up` is to be found."""

    database_url: str
    broker_url: str
    flower_url: str
    pid: int
    home: Path


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    home = make_home()
    home.remember("flower.port", str(ports.choose(0)))  # others may start on the usual one
    env = {key: value for key, value in os.environ.items() if not key.startswith("TURNMILL_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "turnmill.cli", "up", "--json", "--concurrency", "200"],
        env=env | {"TURNMILL_HOME": str(home.path), "TURNMILL_LEASE": "5"} | UNSCHEDULED,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "`turnmill up` ended before it was ready"
    ready = json.loads(line)
    yield System(
        ready["database_url"], ready["broker_url"], ready["flower_url"], ready["pid"], home.path
    )
    process.terminate()
    process.wait(timeout=15)
    process.stdout.close()
    home.discard()


@pytest.fixture
def client(system: System) -> Iterator[Client]:
    with Client(database_url=system.database_url, broker_url=system.broker_url) as client:
        yield client
