"""What the comparison of pools over Celery's own tests says, and what it leaves behind."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import celery
import pytest

from tools.celery_suite.table import Outcome, Runs, is_worse, read, suspects

ROOT = Path(__file__).resolve().parents[2]

TESTS = """
    import os, subprocess, sys
    from pathlib import Path
    import pytest

    @pytest.fixture(scope="session")
    def celery_session_worker(): pass

    def test_passes(): pass

    def test_passes_on_threads(): assert "thread" in os.environ["CELERY_SUITE_POOL"]

    def test_leaves_a_process_behind():
        argv = (sys.executable, "-c", "import time; time.sleep(600)")
        left = subprocess.Popen(argv, start_new_session=True)
        with Path(__file__).with_name("left").open("a") as file:
            file.write(f"{left.pid}\\n")
"""
RUN = """
    import sys
    from pathlib import Path
    from datetime import timedelta
    from tools.celery_suite.__main__ import run
    from tools.celery_suite.run import Suite
    suite = Suite(checkout=Path(sys.argv[1]), folder=Path(sys.argv[2]), jobs=1)
    sys.exit(run(suite, times=1, worse_times=0, within=timedelta(minutes=1)))
"""


def _runs(*ended: str) -> Runs:
    return {"test": [Outcome(each) for each in ended]}


@pytest.mark.parametrize(
    ("threads", "ours", "worse"),
    [
        (("passed", "passed"), ("failed", "failed"), True),
        (("failed", "passed"), ("failed", "failed"), True),
        (("passed", "passed"), ("failed", "passed"), False),
        (("failed", "failed"), ("failed", "failed"), False),
        (("passed",), ("failed",), False),
        (("failed", "passed"), ("failed", "failed", "passed"), False),
    ],
)
def test_our_pool_is_worse_where_a_test_fails_twice_and_never_passes_but_on_threads(
    threads: tuple[str, ...], ours: tuple[str, ...], worse: bool
) -> None:
    assert is_worse("test", _runs(*threads), _runs(*ours)) is worse


@pytest.mark.parametrize("ours", ["failed", "skipped", "not run"])
def test_what_did_not_pass_on_both_pools_runs_again(ours: str) -> None:
    assert suspects(_runs("passed"), _runs(ours)) == ["test"]
    assert suspects(_runs("passed"), {}) == ["test"]
    assert suspects(_runs("passed"), _runs("passed")) == []


def test_a_test_with_parts_ends_as_its_worst_part(tmp_path: Path) -> None:
    record = tmp_path / "outcomes"
    lines = [
        ("t", "not run", ""),
        ("t", "passed", ""),
        ("t", "failed", "part 2"),
        ("t", "passed", ""),
    ]
    record.write_text("".join(json.dumps(line) + "\n" for line in [*lines, ("u", "not run", "")]))

    assert read(record) == {"t": Outcome("failed", "part 2"), "u": Outcome("not run")}


@pytest.mark.slow
def test_a_comparison_names_what_is_worse_and_leaves_no_process_behind(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "t" / "integration").mkdir(parents=True)
    (checkout / "celery").symlink_to(Path(celery.__file__).parent)
    (checkout / "t" / "integration" / "test_it.py").write_text(textwrap.dedent(TESTS))

    argv = (sys.executable, "-c", textwrap.dedent(RUN), str(checkout), str(tmp_path / "results"))
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1, done.stderr
    counts = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    assert counts["passed"] == ["3", "2"] and counts["failed"] == ["0", "1"], done.stdout
    _, _, worse = done.stdout.partition("worse on asyncio: 1\n")
    assert worse.splitlines()[0].endswith("::test_passes_on_threads")
    left = [int(pid) for pid in (checkout / "t/integration/left").read_text().split()]
    assert len(left) == 2, left
    assert not any(map(_is_alive, left))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
