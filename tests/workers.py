"""Workers of a test, started as an operator starts them; each ends well, or fails its test."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from turnmill import Client
from turnmill_worker.stack.celery_parts import command_of

Worker = subprocess.Popen[bytes]

_ENDS_WITHIN = 30


def start(folder: Path, variables: Mapping[str, str], *options: str) -> Worker:
    """Start a worker in the folder; what it says is in `worker.log` there, behind what others said.

    It hears of these variables beside our own. There are no others for it to mingle with, which
    takes a second.
    """
    with (folder / "worker.log").open("ab") as log:
        return subprocess.Popen(
            command_of("worker", *options, "--without-mingle", app="turnmill_worker.app"),
            env={**os.environ, **variables},
            stdout=log,
            stderr=log,
            cwd=folder,
        )


def stop(*workers: Worker) -> None:
    """Let those end that were not killed, and hold them to doing so well; none is left behind."""
    try:
        alive = [one for one in workers if one.poll() is None]
        for worker in alive:
            worker.send_signal(signal.SIGTERM)
        assert [worker.wait(timeout=_ENDS_WITHIN) for worker in alive] == [0] * len(alive)
        assert {worker.returncode for worker in workers} <= {0, -signal.SIGKILL}
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


@contextmanager
def client_beside_one(
    database_url: str, broker_url: str, folder: Path, *options: str, **variables: str
) -> Iterator[Client]:
    """Give a client of a system in which one worker runs, with these options and variables."""
    servers = {"TURNMILL_DATABASE_URL": database_url, "TURNMILL_BROKER_URL": broker_url}
    worker = start(folder, {**servers, "TURNMILL_GRACE": "1", **variables}, *options)
    try:
        with Client(database_url=database_url, broker_url=broker_url) as client:
            yield client
    finally:
        stop(worker)
