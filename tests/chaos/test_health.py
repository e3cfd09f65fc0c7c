"""What `turnmill health` says while servers, and the worker itself, stand still."""

import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest

from tests.chaos.system import Servers, System, until

pytestmark = pytest.mark.slow
WITHIN = timedelta(seconds=40)


def health(system: System, program: str, option: str) -> int:
    """Ask as a probe does, and return the exit code."""
    argv = [sys.executable, "-m", "turnmill.cli", "health", program, option]
    return subprocess.run(
        argv, env=system.variables, timeout=30, check=False, capture_output=True
    ).returncode


def test_a_worker_is_ready_without_its_broker_and_alive_without_its_database(
    servers: Servers,
) -> None:
    def is_(program: str, *, ready: bool, lives: bool = True) -> None:
        until(lambda: health(system, program, "--ready") == (0 if ready else 1), within=WITHIN)
        assert health(system, program, "--alive") == (0 if lives else 1)

    with System(servers) as system:
        worker, beat = system.launch_worker(), system.launch_beat()
        system.await_ready(worker, beat)
        is_("worker", ready=True)
        is_("beat", ready=True)
        with servers.frozen_redis():
            is_("beat", ready=False)
            is_("worker", ready=True)
            servers.crash_postgres()
            is_("worker", ready=False)
        is_("beat", ready=True)  # it needs no database
        assert health(system, "worker", "--ready") == 1
        servers.postgres.restart()
        is_("worker", ready=True)
        os.kill(worker.pid, signal.SIGSTOP)
        is_("worker", ready=False, lives=False)
        os.kill(worker.pid, signal.SIGCONT)
        is_("worker", ready=True)
        for child in (worker, beat):
            child.ask_to_stop()
        for program, child in (("worker", worker), ("beat", beat)):
            until(lambda child=child: child.poll() is not None)  # type: ignore[misc]
            assert health(system, program, "--alive") == 1
