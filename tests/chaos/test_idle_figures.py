"""What figures cost where nothing happens: runs of their jobs, with all that a run takes."""

import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import Celery

from tests.chaos.system import PATIENCE, Servers, System
from tests.folded import fold_all
from tests.generated_month import Month, write_month
from tests.processor_time import ProcessorTime
from turnmill import wire
from turnmill.store.database import Database
from turnmill.store.upkeep import jobs
from turnmill_worker.celery.schedule import SCHEDULE
from turnmill_worker.stack.process import wait_until

log = logging.getLogger(__name__)
pytestmark = pytest.mark.slow

_DAY = timedelta(days=1)
#: Jobs that make figures, look at them, or go on with trials.
_OF_FIGURES = (wire.ROLL_UP_USAGE, wire.LOOK_FOR_ALERTS, wire.TEND_TRIALS, wire.MAKE_REPORT)
_RUNS = 30
_WARM = 5
#: What figures may take of one core where nothing happens.
MOST = 0.005


@pytest.fixture
def system(servers: Servers) -> Iterator[System]:
    """A system with turns that nobody has answered: its books are not looked at."""
    with System(servers) as system:
        yield system


@pytest.fixture
def store(system: System) -> Iterator[Database]:
    database = Database(system.database_url)
    yield database
    database.close()


class Processors:
    """What the servers, a worker and this process, which is the beat here, have computed."""

    def __init__(self, servers: Servers, store: Database, worker: int) -> None:
        self._postgres = ProcessorTime(store)
        self._pids = (worker, servers.valkey.pid)

    def now(self) -> float:
        """Return seconds; only differences mean something."""
        return self._postgres.now() + sum(_of(pid) for pid in self._pids)


def _of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ran(store: Database, app: Celery, task: str, slot: datetime) -> None:
    app.send_task(task, args=[slot.isoformat()], queue=wire.UPKEEP_QUEUE, ignore_result=True)

    def is_over() -> bool:
        with store.begin() as conn:
            return jobs.run_of(conn, task, slot) is not None

    assert wait_until(is_over, timeout=PATIENCE), f"{task} has not finished"


def _a_day(task: str) -> int:
    """Return how often beat sends it in a day."""
    (schedule,) = (one.schedule for one in SCHEDULE.values() if one.task == task)
    return len(schedule.minute) * len(schedule.hour)


def _took(processors: Processors, runs: int, store: Database, app: Celery, task: str) -> float:
    """Return seconds of processors that a run took, with what idles beside it."""
    first = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=_RUNS + _WARM)
    for n in range(_WARM):
        _ran(store, app, task, first + timedelta(minutes=n))
    before = processors.now()
    for n in range(_WARM, _WARM + runs):
        _ran(store, app, task, first + timedelta(minutes=n))
    return (processors.now() - before) / runs


@pytest.mark.timeout(1800)
def test_figures_take_a_two_hundredth_of_a_core_at_most_where_nothing_happens(
    servers: Servers, system: System, store: Database
) -> None:
    write_month(system.database_url, Month(turns=20_000))
    fold_all(store)
    worker = system.start_worker(concurrency=50)
    processors = Processors(servers, store, worker.pid)
    with Celery(broker=system.broker_url) as app:
        took = {task: _took(processors, _RUNS, store, app, task) for task in _OF_FIGURES}
    shares = {task: one * _a_day(task) / _DAY.total_seconds() for task, one in took.items()}
    for task, share in shares.items():
        log.info("%s: %.1f ms a run, %.4f %% of a core", task, took[task] * 1000, share * 100)
    load = os.getloadavg()[0]
    log.info("figures take %.4f %% of a core, load %.1f", sum(shares.values()) * 100, load)
    assert sum(shares.values()) < MOST
