"""The stand-ins as processes of their own, as tests that kill workers use them."""

import json
import subprocess
import sys
from collections.abc import Iterator

import httpx2
import pytest

from tests.doubles import openai_server


@pytest.fixture
def vendor() -> Iterator[str]:
    faults = json.dumps({"rate_limited": 0.3, "drop": 0.2})
    command = [sys.executable, "-m", "tests.doubles.openai_server", "--seed", "7"]
    process = subprocess.Popen([*command, "--faults", faults], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        process.terminate()


def ask(client: httpx2.Client) -> int:
    """Return the status of one answer, 0 when there was none."""
    try:
        answer = client.post("/v1/responses", json={"model": "m", "input": "Hello"})
    except httpx2.TransportError:
        return 0
    return answer.status_code


def test_a_stand_in_fails_at_the_rates_it_was_told_and_counts_what_it_executed(
    vendor: str,
) -> None:
    headers = {"Authorization": f"Bearer {openai_server.KEY}"}
    with httpx2.Client(base_url=vendor, headers=headers, timeout=10) as client:
        statuses = [ask(client) for _ in range(200)]
        seen = client.get("/double/calls").json()
    assert 30 <= statuses.count(429) <= 90
    assert 15 <= statuses.count(0) <= 65
    assert seen["calls"] == 200
    assert seen["executed"] == statuses.count(200) + statuses.count(0)


def test_a_stand_in_takes_a_script_from_outside(vendor: str) -> None:
    headers = {"Authorization": f"Bearer {openai_server.KEY}"}
    with httpx2.Client(base_url=vendor, headers=headers, timeout=10) as client:
        client.post("/double/script", json=["overloaded", "ok"])
        assert [ask(client), ask(client)] == [503, 200]
