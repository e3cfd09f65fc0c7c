"""A plugin of pytest for `celery_suite.py`: the session worker gets our pool and our Valkey."""

import atexit
import os
import signal
import subprocess
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from celery import concurrency

from turnmill_worker.process.child import die_with_parent
from turnmill_worker.stack import binaries, ports, valkey
from turnmill_worker.stack.process import wait_until

#: The name that the pool under test has for Celery.
_NAME = "pool-under-test"
_READY_WITHIN = timedelta(seconds=20)
#: The suite's own marks allow six runs of five minutes: hours, on a pool that is stuck.
_BOUNDS = (pytest.mark.timeout(60), pytest.mark.flaky(reruns=2, reruns_delay=1))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Before the suite's conftest reads where the servers are; in each process of the run."""
    concurrency.ALIASES[_NAME] = os.environ["CELERY_SUITE_POOL"]
    process = os.environ.get("PYTEST_XDIST_WORKER", "main")
    folder = Path(os.environ["CELERY_SUITE_FOLDER"], process)
    folder.mkdir()
    port = _start_valkey(folder)
    url = f"redis://{ports.LOOPBACK}:{port}/0"
    os.environ |= {"TEST_BROKER": url, "TEST_BACKEND": url}
    os.environ |= {"REDIS_HOST": ports.LOOPBACK, "REDIS_PORT": str(port)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bound each test, in place of the suite's own marks."""
    for item in items:
        for mark in _BOUNDS:
            item.add_marker(mark, append=False)


def _start_valkey(folder: Path) -> int:
    """Start a server that ends with this process; return its port."""
    port = ports.choose(0)
    settings = ("--bind", ports.LOOPBACK, "--port", str(port), "--save", "")
    server = subprocess.Popen(
        (str(binaries.find_valkey().path), *settings),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        preexec_fn=partial(die_with_parent, signal.SIGKILL, parent=os.getpid()),  # noqa: PLW1509 - no threads yet
    )
    atexit.register(server.kill)
    url = f"redis://{ports.LOOPBACK}:{port}/0"
    if not wait_until(lambda: valkey.answers(url), timeout=_READY_WITHIN):
        raise RuntimeError("Valkey does not answer")
    return port


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> object:
    """Answer in place of the suite's own fixture, which says prefork."""
    if fixturedef.argname != "celery_worker_pool":
        return None
    fixturedef.cached_result = (_NAME, None, None)
    return _NAME
