"""Run Celery's own integration tests on the asyncio pool and on `threads`, and compare.

Usage: python tools/celery_suite.py CHECKOUT [--jobs N] [pytest's arguments]

CHECKOUT is Celery's source at the installed version: a clone at its tag, or the unpacked sdist of
`pip download --no-binary celery --no-deps celery==VERSION`. Each pool runs N pytest processes, each
with a Valkey of its own. What the tests need beyond our own tools is installed into a folder that
is gone afterwards. Exits 1 where a test passes on `threads` and not on the asyncio pool, and 2 when
nothing could be compared.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import celery

TOOLS = Path(__file__).resolve().parent
POOLS = {
    "threads": "celery.concurrency.thread:TaskPool",
    "asyncio": "turnmill_worker.pool:TaskPool",
}
#: What `t/integration` imports, and what its marks mean; not pinned, since nothing of ours uses it.
NEEDS = (
    *("pytest-rerunfailures", "pytest-subtests", "pytest-click", "pytest-order", "freezegun"),
    *("python-dateutil", "tzdata", "cryptography", "cffi", "pycparser", "pymemcache", "tblib"),
    *("django", "asgiref", "sqlparse"),
)
#: Wants an account at Azure.
LEFT_OUT = "t/integration/test_backend.py"

Outcomes = Mapping[str, str]


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
    subprocess.run((*pip, "install", "--no-deps", "--target", folder, *NEEDS), check=True)


def start(
    pool: str, checkout: Path, folder: Path, jobs: int, extra: list[str]
) -> subprocess.Popen[bytes]:
    """Start the suite on a pool; its outcomes go to `POOL.xml`, what it says to `POOL.log`."""
    (folder / pool).mkdir()
    path = (checkout, folder / "site", TOOLS)
    env = os.environ | {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "CELERY_SUITE_POOL": POOLS[pool],
        "CELERY_SUITE_FOLDER": str(folder / pool),
    }
    argv = [
        *(sys.executable, "-m", "pytest", "-p", "celery_suite_plugin", "-p", "no:cacheprovider"),
        *("--numprocesses", str(jobs), "-q", "--ignore", LEFT_OUT),
        *(f"--junitxml={folder / pool}.xml", *(extra or ["t/integration"])),
    ]
    with (folder / f"{pool}.log").open("wb") as log:
        return subprocess.Popen(argv, cwd=checkout, env=env, stdout=log, stderr=subprocess.STDOUT)


def outcomes(report: Path) -> Outcomes:
    """Return how each test has ended; of one with parts, how the worst part has."""
    worst = ("passed", "skipped", "failed")
    found: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        test = f"{case.get('classname')}::{case.get('name')}"
        ended = _ended(case)
        found[test] = max(found.get(test, ended), ended, key=worst.index)
    return found


def _ended(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    if kinds & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in kinds else "passed"


def compare(threads: Outcomes, ours: Outcomes) -> list[str]:
    """Print the table; return the tests that pass on `threads` and not on the asyncio pool."""
    print(f"{'':10}{'threads':>10}{'asyncio':>10}")
    for ended in ("passed", "skipped", "failed"):
        counts = (list(found.values()).count(ended) for found in (threads, ours))
        print(f"{ended:10}" + "".join(f"{count:>10}" for count in counts))
    for test in sorted(threads.keys() | ours.keys()):
        here, there = threads.get(test, "not run"), ours.get(test, "not run")
        if here != there:
            print(f"threads {here}, asyncio {there}: {test}")
        elif here == "failed":
            print(f"failed on both: {test}")
    return [
        test for test, ended in threads.items() if ended == "passed" and ours.get(test) != ended
    ]


def main() -> int:
    """Install, run both at once, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--jobs", type=int, default=4)
    arguments, extra = parser.parse_known_args()
    checkout = arguments.checkout.resolve()
    if (version := version_of(checkout)) != celery.__version__:
        print(f"{checkout} holds Celery {version}; {celery.__version__} is installed")
        return 2
    with tempfile.TemporaryDirectory(prefix="celery-suite-") as name:
        folder = Path(name)
        install(folder / "site")
        runs = [start(pool, checkout, folder, arguments.jobs, extra) for pool in POOLS]
        for run in runs:
            run.wait()
        reports = {pool: folder / f"{pool}.xml" for pool in POOLS}
        if missing := [pool for pool, report in reports.items() if not report.exists()]:
            print((folder / f"{missing[0]}.log").read_text())
            return 2
        found = {pool: outcomes(report) for pool, report in reports.items()}
        worse = compare(found["threads"], found["asyncio"])
    return 1 if worse or not found["threads"] else 0


if __name__ == "__main__":
    sys.exit(main())
