"""Runs of pytest on a pool, each bounded in time and in a process group of its own."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tools.celery_suite.table import Outcome, Outcomes, Runs, read

ROOT = Path(__file__).resolve().parents[2]
POOLS = {
    "threads": "celery.concurrency.thread:TaskPool",
    "asyncio": "turnmill_worker.pool:TaskPool",
}
#: How long one test that runs alone may take, with the start and the end of its worker.
ALONE_WITHIN = timedelta(minutes=4)
#: Wants an account at Azure.
_LEFT_OUT = "t/integration/test_backend.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What to run, in how many processes for each pool, and where the results go."""

    checkout: Path
    folder: Path
    jobs: int
    tests: Sequence[str] = ("t/integration",)

    async def together(self, *, until: float) -> dict[str, Runs]:
        """Run all tests on both pools at once; `until` is a reading of the loop's clock."""
        argv = ("--numprocesses", str(self.jobs), "--max-worker-restart", "1000", *self.tests)
        runs = (self._run(pool, "together", argv, None, until=until) for pool in POOLS)
        found = await asyncio.gather(*runs)
        return {
            pool: {test: [outcome] for test, outcome in outcomes.items()}
            for pool, outcomes in zip(POOLS, found, strict=True)
        }

    async def alone(
        self, name: str, tests: Sequence[str], times: int, *, until: float
    ) -> dict[str, Runs]:
        """Run each of these tests so many times on both pools, or fewer where time is up.

        The results go into folders of this name.
        """
        free = asyncio.Semaphore(2 * self.jobs)
        found: dict[str, dict[str, list[Outcome]]] = {pool: {} for pool in POOLS}

        async def once(pool: str, test: str, folder: str) -> None:
            async with free:
                outcome = await self._once(pool, test, folder, until=until)
            if outcome is not None:
                found[pool].setdefault(test, []).append(outcome)

        async with asyncio.TaskGroup() as group:
            for time in range(times):
                for number, test in enumerate(tests):
                    for pool in POOLS:
                        group.create_task(once(pool, test, f"{name}-{number}-{time}"))
        return {pool: dict(runs) for pool, runs in found.items()}

    async def _once(self, pool: str, test: str, name: str, *, until: float) -> Outcome | None:
        clock = asyncio.get_running_loop().time
        if clock() > until:
            return None
        end = min(until, clock() + ALONE_WITHIN.total_seconds())
        outcome = (await self._run(pool, name, (test.split("::")[0],), test, until=end)).get(test)
        if outcome is not None and outcome.ended != "not run":
            return outcome
        stuck = Outcome("failed", "its process did not come to its end")
        return stuck if clock() < until else None

    async def _run(
        self, pool: str, name: str, argv: Sequence[str], only: str | None, *, until: float
    ) -> Outcomes:
        folder = self.folder / pool / name
        folder.mkdir(parents=True)
        command = (sys.executable, "-m", "pytest", "-p", "tools.celery_suite.plugin", "-q")
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(*command, "-p", "no:cacheprovider", "--ignore", _LEFT_OUT, *argv),
                cwd=self.checkout,
                env=self._environment(pool, folder, only),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout_at(until):
                await process.wait()
        except TimeoutError:
            print(f"{pool}, {name}: time is up")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        return read(folder / "outcomes")

    def _environment(self, pool: str, folder: Path, only: str | None) -> dict[str, str]:
        path = (self.checkout, self.folder / "site", ROOT)
        ours = {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "CELERY_SUITE_POOL": POOLS[pool],
            "CELERY_SUITE_FOLDER": str(folder),
            "WORKER_LOGLEVEL": "INFO",  # two tests look for it in the log
        }
        if only is not None:
            ours["CELERY_SUITE_ONLY"] = only
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        return kept | ours
