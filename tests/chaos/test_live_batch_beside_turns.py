"""A live batch goes on at the pace of the machine, and whoever talks meanwhile hardly notices."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.chaos.system import Servers, System, until
from turnmill import Batch, Client
from turnmill.domain.states import TurnState

logger = logging.getLogger(__name__)

TURNS = int(os.environ.get("TURNMILL_TEST_LINES", "10000"))
FEWEST_A_SECOND = 800.0
#: What is not the provider's share of a turn is longer by so much at the most.
MOST = 1.5
_OF_BATCH, _OF_TALK = 1.0, 0.2
_PEOPLE = 5
_SLOTS = 2000
_LEAST = 300
_SUBMIT = """
import sys
from turnmill import Batch, Client
database_url, broker_url, path = sys.argv[1:]
with Client(database_url=database_url, broker_url=broker_url) as client:
    client.batches.create(path, name="jobs")
"""
_RATE = """
SELECT count(*) / extract(epoch FROM max(finished_at) - min(created_at))
FROM turnmill.turns WHERE batch_id IS NOT NULL
"""


class Talk:
    """People who say something, wait for what comes back, and say the next thing."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._enough = Event()
        self._took: list[float] = []
        self._people = [Thread(target=self._talk) for _ in range(_PEOPLE)]
        for one in self._people:
            one.start()

    def _talk(self) -> None:
        session = self._client.sessions.create(user_id="ada")
        script = {"mock": {"latency": _OF_TALK}}
        while not self._enough.is_set():
            began = time.monotonic()
            self._client.send(session, "hello", metadata=script).result(timeout=60)
            self._took.append(time.monotonic() - began - _OF_TALK)

    @property
    def count(self) -> int:
        return len(self._took)

    def end(self) -> list[float]:
        """Return how much longer each turn took than its provider."""
        self._enough.set()
        for one in self._people:
            one.join(timeout=60)
        return self._took


def p95(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]


def _submitted(system: System, client: Client, path: Path) -> Batch:
    """Return the batch that a process of its own has submitted: nobody talks there."""
    program = [sys.executable, "-c", _SUBMIT, system.database_url, system.broker_url, str(path)]
    subprocess.run(program, env=system.variables, check=True, timeout=60)
    return client.batches.get("jobs")


#: Of each worker; none: of all. Whoever talks may have workers of their own.
ONE = ((),)
EACH_ITS_OWN = (("turnmill.interactive", "turnmill.quarantine"), ("turnmill.bulk",))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", [ONE, EACH_ITS_OWN], ids=["one-worker", "two-workers"])
def test_ten_thousand_lines_of_a_second_go_fast_and_hold_nobody_up(
    servers: Servers, workers: Sequence[Sequence[str]]
) -> None:
    with System(servers, lease=timedelta(seconds=30)) as system:
        rate, idle, beside = _figures(system, workers)
    told = "%.0f turns/s; beyond the provider p95 %.0f ms idle (%d), %.0f ms beside (%d)"
    logger.warning(told, rate, p95(idle) * 1e3, len(idle), p95(beside) * 1e3, len(beside))
    assert rate >= FEWEST_A_SECOND
    assert p95(beside) <= MOST * p95(idle)


def _figures(
    system: System, workers: Sequence[Sequence[str]]
) -> tuple[float, list[float], list[float]]:
    """Run the batch; return its pace, and how long people waited before and meanwhile."""
    path = system.folder / "jobs.jsonl"
    lines = ({"custom_id": f"{n}", "user_id": f"u{n % 100}", "text": "hi"} for n in range(TURNS))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    # The vendor keeps no books here: it would write them on the loop of the worker.
    vendor = {"TURNMILL_MOCK_LATENCY": str(_OF_BATCH), "TURNMILL_MOCK_LEDGER": ""}
    system.await_ready(
        *[system.launch_worker(concurrency=_SLOTS, queues=one, **vendor) for one in workers]
    )
    with system.client() as client:
        talk = Talk(client)
        until(lambda: talk.count >= _LEAST)
        idle = talk.end()
        talk = Talk(client)
        batch = _submitted(system, client, path)
        counts = batch.wait(timeout=timedelta(minutes=5))
        beside = talk.end()
    assert counts.states == {TurnState.SUCCEEDED: TURNS}
    [(rate,)] = system.rows(_RATE)
    return float(rate), idle, beside
