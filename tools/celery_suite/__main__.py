"""Run Celery's own integration tests on the asyncio pool and on `threads`, and compare.

CHECKOUT is Celery's source at the installed version: a clone at its tag, or the unpacked sdist of
`pip download --no-binary celery --no-deps celery==VERSION`.

First all tests run on both pools at once, in processes with a Valkey and a worker each, which are
replaced after a test that fails. Then each test that did not pass on both pools runs again on both,
alone in a process of its own; what then fails on the asyncio pool only, five times more.

Exits 1 where a test can pass on `threads` and fails on the asyncio pool each time, and 2 when the
comparison has not come to its end. However it ends, no process is left behind.
"""

import argparse
import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import celery
import psutil  # type: ignore[import-untyped]

from tools.celery_suite.run import POOLS, Suite
from tools.celery_suite.table import Runs, ending, is_worse, lines, suspects

#: What `t/integration` imports; not pinned, since nothing of ours uses it. What its marks would use
#: to run a test up to six times is not among it: that is done here, alone.
NEEDS = (
    *("pytest-subtests", "pytest-click", "pytest-order", "freezegun"),
    *("python-dateutil", "tzdata", "cryptography", "cffi", "pycparser", "pymemcache", "tblib"),
    *("django", "asgiref", "sqlparse"),
)
#: How often a test runs again that has failed on the asyncio pool each time, and not on `threads`.
WORSE_TIMES = 5
_INSTALL_WITHIN_S = 300
_GONE_WITHIN_S = 5
_PR_SET_CHILD_SUBREAPER = 36


def version_of(checkout: Path) -> str | None:
    """Return the version of Celery in the folder, or None when it has no integration tests."""
    init = checkout / "celery" / "__init__.py"
    if not init.exists() or not (checkout / "t" / "integration").is_dir():
        return None
    found = re.search(r"^__version__ = ['\"](.+)['\"]", init.read_text(), re.MULTILINE)
    return found.group(1) if found else None


def install(folder: Path) -> None:
    """Put what the tests need beside our own environment."""
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    argv = (*pip, "install", "--no-deps", "--target", folder, *NEEDS)
    done = subprocess.run(
        argv, check=False, timeout=_INSTALL_WITHIN_S, capture_output=True, text=True
    )
    if done.returncode:
        print(done.stderr)
        raise SystemExit(2)


async def _compare(suite: Suite, *, times: int, worse_times: int, within: timedelta) -> int:
    """Run, print the table, and return the exit status."""
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None
    loop.add_signal_handler(signal.SIGTERM, main.cancel)
    until = loop.time() + within.total_seconds()
    # So that half of the time is left to find out what a whole run on a pool that is stuck means.
    found: Mapping[str, Runs] = await suite.together(until=loop.time() + within.total_seconds() / 2)
    again = suspects(*found.values())
    print(f"{len(again)} tests run again, alone", flush=True)
    found = _joined(found, await suite.alone("alone", again, times, until=until))
    # Some tests are races that either pool may lose.
    worse = [test for test in again if is_worse(test, *found.values())]
    found = _joined(found, await suite.alone("worse", worse, worse_times, until=until))
    print("\n".join(lines(*found.values())))
    return _status(*found.values())


def _joined(first: Mapping[str, Runs], then: Mapping[str, Runs]) -> Mapping[str, Runs]:
    return {
        pool: runs | {test: [*runs.get(test, ()), *more] for test, more in then[pool].items()}
        for pool, runs in ((pool, dict(first[pool])) for pool in POOLS)
    }


def _status(threads: Runs, ours: Runs) -> int:
    tests = threads.keys() | ours.keys()
    if any(is_worse(test, threads, ours) for test in tests):
        return 1
    unknown = any("not run" in (ending(threads, t), ending(ours, t)) for t in tests)
    return 2 if unknown or not tests else 0


def adopt_orphans() -> None:
    """Become the parent of whatever loses its own below us, so that we find it. Linux only."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_all_below() -> None:
    """End every process that we, or a process of ours, have started."""
    while below := psutil.Process(os.getpid()).children(recursive=True):
        for process in below:
            process.kill()
        _, alive = psutil.wait_procs(below, timeout=_GONE_WITHIN_S)
        if alive:
            raise RuntimeError(f"{len(alive)} processes do not end")


def run(suite: Suite, *, times: int, within: timedelta, worse_times: int = WORSE_TIMES) -> int:
    """Compare, and leave no process behind; return the exit status."""
    adopt_orphans()
    try:
        return asyncio.run(_compare(suite, times=times, worse_times=worse_times, within=within))
    except asyncio.CancelledError:  # by SIGTERM
        return 2
    finally:
        end_all_below()


def main() -> int:
    """Install what is needed, and run."""
    parser = argparse.ArgumentParser(
        "python -m tools.celery_suite",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkout", type=Path)
    parser.add_argument("tests", nargs="*", help="as pytest takes them; all of t/integration")
    parser.add_argument("--jobs", type=int, default=4, help="processes for each pool (4)")
    parser.add_argument("--times", type=int, default=1, help="how often a test runs alone (1)")
    parser.add_argument("--minutes", type=float, default=40, help="the whole may take (40)")
    parser.add_argument("--keep", type=Path, help="a new folder, for logs and outcomes")
    arguments = parser.parse_args()
    checkout = arguments.checkout.resolve()
    if (version := version_of(checkout)) != celery.__version__:
        print(f"{checkout} holds Celery {version}; {celery.__version__} is installed")
        return 2
    with tempfile.TemporaryDirectory(prefix="celery-suite-") as name:
        suite = Suite(
            checkout=checkout,
            folder=(arguments.keep or Path(name)).resolve(),
            jobs=arguments.jobs,
            tests=arguments.tests or ("t/integration",),
        )
        install(suite.folder / "site")
        within = timedelta(minutes=arguments.minutes)
        return run(suite, times=arguments.times, within=within)


if __name__ == "__main__":
    sys.exit(main())
