"""A plugin of pytest for the suite: a worker on the pool under test, a Valkey, and a record."""

import atexit
import json
import os
import signal
import subprocess
from collections.abc import Iterable
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
#: In place of the suite's own five minutes; its longest test waits for two and a half.
_BOUND = pytest.mark.timeout(200)
_WHY_LENGTH = 200

#: None in the process that hands the tests out, and in one that runs them all.
_process = os.environ.get("PYTEST_XDIST_WORKER")
_folder = Path(os.environ["CELERY_SUITE_FOLDER"])


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Before the suite's conftest reads where the servers are; in each process of the run."""
    die_with_parent(signal.SIGKILL, parent=os.getppid())
    concurrency.ALIASES[_NAME] = os.environ["CELERY_SUITE_POOL"]
    port = _start_valkey(_folder / (_process or "main"))
    url = f"redis://{ports.LOOPBACK}:{port}/0"
    os.environ |= {"TEST_BROKER": url, "TEST_BACKEND": url}
    os.environ |= {"REDIS_HOST": ports.LOOPBACK, "REDIS_PORT": str(port)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bound each test, give it the worker of its module, and write down that it is to run.

    In modules that use the session's worker some tests rely on one that an earlier test has
    started, which there is not when they run alone; in others, a worker may disturb.
    """
    worker = "celery_session_worker"
    tests = [item for item in items if isinstance(item, pytest.Function)]
    modules = {test.path for test in tests if worker in test.fixturenames}
    only = os.environ.get("CELERY_SUITE_ONLY")
    items[:] = [item for item in items if only in (None, item.nodeid)]
    for test in tests:
        test.add_marker(_BOUND, append=False)
        if test.path in modules:
            test.fixturenames.insert(0, worker)
    if _process in (None, "gw0"):
        _write((item.nodeid, "not run", "") for item in items)


@pytest.hookimpl(trylast=True)  # it has been sent by then
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write down how a test, or a part of it, has ended; where one fails, begin afresh after it.

    The worker has a single slot. One that `threads` cannot free would fail all that follow. The
    process is replaced; that it ended during this test is one more failure of the same test.
    """
    if _process is not None and report.failed:
        os._exit(1)
    if _process is None and (report.when == "call" or not report.passed):
        _write([(report.nodeid, report.outcome, _why(report) if report.failed else "")])


def _why(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    where = "" if report.when == "call" else f"in {report.when}: "
    return where + " ".join(text.split())[:_WHY_LENGTH]


def _write(lines: Iterable[tuple[str, str, str]]) -> None:
    with (_folder / "outcomes").open("a") as record:
        record.writelines(json.dumps(line) + "\n" for line in lines)


def _start_valkey(folder: Path) -> int:
    """Start a server that ends with this process; return its port."""
    folder.mkdir()
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
