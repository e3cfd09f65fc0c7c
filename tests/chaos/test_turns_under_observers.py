"""Two observers and a webhook that want everything make no turn slower."""

import logging
import os
import statistics
import textwrap
import time

import pytest

from tests.chaos.system import Servers, System, kill
from tests.chaos.test_hooks import listening

logger = logging.getLogger(__name__)

ROUNDS = 5
TURNS = int(os.environ.get("TURNMILL_TEST_TURNS", "300"))
#: With them a turn takes so much longer at the most.
MOST = 1.05
_LATENCY = "0.05"
OBSERVERS = """
def counts():
    told = []
    def observer(event):
        told.append(event.kind)
    observer.kinds = ["*"]
    return observer

def waits():
    async def observer(event):
        pass
    observer.kinds = ["*"]
    return observer
"""


def median_turn(system: System) -> float:
    """Return how long a turn takes mostly, one after the other, of a worker that runs for it."""
    worker = system.start_worker(TURNMILL_MOCK_LATENCY=_LATENCY)
    took = []
    with system.client() as client:
        for number in range(TURNS + 20):
            if number % 20 == 0:  # the history that each turn brings along stays short
                session = client.sessions.create(user_id="ada")
            began = time.perf_counter()
            client.send(session, "hello").result(timeout=30)
            if number >= 20:  # those before warm it up
                took.append(time.perf_counter() - began)
    kill(worker)
    return statistics.median(took)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_turns_are_no_slower_where_two_observers_and_a_webhook_are_told_of_them(
    servers: Servers,
) -> None:
    heard: set[str] = set()
    with System(servers) as plain, System(servers) as other, System(servers) as observed:
        (observed.folder / "seeing.py").write_text(textwrap.dedent(OBSERVERS))
        observed.environment |= {
            "TURNMILL_OBSERVERS": "counts=seeing:counts,waits=seeing:waits",
            "TURNMILL_WEBHOOK_ALLOW": "127.0.0.1/32",
            "PYTHONPATH": str(observed.folder),
        }
        with listening(heard, lambda: False) as url:
            with observed.client() as client:
                client.webhooks.create(url=url, events=["*"])
            rounds = [[median_turn(one) for one in (plain, observed, other)] for _ in range(ROUNDS)]
    with_them = statistics.median(one[1] / statistics.mean((one[0], one[2])) for one in rounds)
    by_itself = statistics.median(one[2] / one[0] for one in rounds)
    logger.warning("with them %.3f, by itself %.3f; %s", with_them, by_itself, rounds)
    assert len(heard) > ROUNDS * TURNS
    assert with_them <= MOST
