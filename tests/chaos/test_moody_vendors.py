"""A vendor on its bad day, with a thousand turns in line: limits are kept, others do not wait.

The minutes are real ones. `TURNMILL_TEST_RPM=600` is the vendor's allowance of a small account, by
which 10,000 turns take 17 minutes; without it, one ten times as large.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial

import pytest

from tests.chaos.books import Books
from tests.chaos.load import unfinished
from tests.chaos.system import Servers, System, until
from tests.doubles.rationed import RationedVendor
from turnmill import Client
from turnmill.sync.turns import Turn

logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

A_MINUTE = int(os.environ.get("TURNMILL_TEST_RPM", "6000"))
TURNS = int(os.environ.get("TURNMILL_TEST_TURNS", "10000"))
#: Of which the other provider answers, one every tenth of a second.
LATENCY = 0.5
HANGS_FOR = 60.0


@pytest.fixture
def vendor() -> Iterator[RationedVendor]:
    vendor = RationedVendor(per_minute=A_MINUTE, left=A_MINUTE)
    yield vendor
    vendor.stop()


@pytest.fixture
def system(servers: Servers, vendor: RationedVendor) -> Iterator[System]:
    with System(servers, lease=timedelta(seconds=12), environment=vendor.environment) as system:
        yield system
        assert Books.of(system).violations == []


def queued(client: Client, count: int, *, timeout: float = 60.0) -> list[Turn]:
    """Let so many turns of fifty users wait for the vendor, in a thousand sessions at the most."""
    given = {"timeout": timeout}
    made = [
        client.sessions.create(
            user_id=f"u{n % 50}", provider="openai", model="gpt-5-mini", settings=given
        ).id
        for n in range(min(count, 1000))
    ]
    said = [(made[n % len(made)], "Hello") for n in range(count)]
    return [turn for n in range(0, count, 1000) for turn in client.send_many(said[n : n + 1000])]


def test_many_turns_go_as_fast_as_a_vendors_limit_lets_them_and_are_not_refused(
    system: System, vendor: RationedVendor
) -> None:
    with system.client() as client:
        client.limits.set(provider="openai", requests_per_minute=A_MINUTE)
        client.lanes.pause(provider="openai")
        queued(client, TURNS)
        system.await_ready(*(system.launch_worker() for _ in range(4)))
        client.lanes.resume(provider="openai")
        vendor.double.allow(A_MINUTE / 60)  # a second's worth; it refills evenly
        until(lambda: unfinished(system) == 0, within=timedelta(minutes=1 + 1.3 * TURNS / A_MINUTE))
    began, refused = vendor.double.began, len(vendor.double.refused)
    pace = (len(began) - 1) / (began[-1] - began[0])
    logger.info("%.2f a second of %.2f, %d refused", pace, A_MINUTE / 60, refused)
    assert refused < 0.01 * TURNS
    assert 0.95 < pace / (A_MINUTE / 60) <= 1.0
    [(attempts, most)] = system.rows("SELECT count(*), max(n) FROM turnmill.attempts")
    assert attempts == TURNS + refused  # none was spent on waiting
    assert most == 1 or refused


def test_a_provider_that_hangs_keeps_turns_of_another_one_waiting_for_no_longer_than_before(
    system: System, vendor: RationedVendor
) -> None:
    system.environment["TURNMILL_MOCK_LATENCY"] = str(LATENCY)
    with system.client() as client:
        system.await_ready(*(system.launch_worker() for _ in range(2)))
        users = [client.sessions.create(user_id=f"m{n}", provider="mock").id for n in range(50)]
        asked(client, users, seconds=5.0)  # until both are warm
        alone = asked(client, users, seconds=30.0)
        vendor.double.always = "hang"
        queued(client, 1000, timeout=HANGS_FOR)
        beside = asked(client, users, seconds=HANGS_FOR)
        hanging = len(vendor.double.began)
        vendor.double.always = ""
        until(lambda: unfinished(system) == 0, within=timedelta(minutes=5))
    logger.info("p95 alone %.3f s, beside %.3f s; %d hung", p95(alone), p95(beside), hanging)
    assert hanging >= 5
    assert p95(beside) <= 1.2 * p95(alone), (p95(alone), p95(beside))
    states = "SELECT DISTINCT state FROM turnmill.turns"
    assert system.rows(states) == [("succeeded",)]


def asked(client: Client, sessions: Sequence[object], *, seconds: float) -> list[float]:
    """Send ten turns a second for a while, and return how long each took."""
    turns: list[Turn] = []
    began = time.monotonic()
    while (due := began + len(turns) / 10) < began + seconds:
        until(partial(_has_come, due))
        turns.append(client.send(str(sessions[len(turns) % len(sessions)]), "Hello"))
    for turn in turns:
        turn.result(timeout=60)
    records = [turn.refresh().record for turn in turns]
    return [
        (one.finished_at - one.created_at).total_seconds() for one in records if one.finished_at
    ]


def _has_come(moment: float) -> bool:
    return time.monotonic() >= moment


def p95(times: Sequence[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)]
