"""A worker that stands still while a user is erased brings nothing back: no row, no stream."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import steps
from tests.chaos.system import Servers, System, until
from tests.chaos.test_frozen_over_deletion import where
from turnmill import Client

pytestmark = pytest.mark.long

#: Nobody says it but the user and the models of these turns.
CANARY = "canary-9d21"
_SAID = [CANARY, " and ", CANARY]
#: In so many seconds all of them have begun, and not one was answered: by how many there are.
_SECONDS = {200: 10.0, 400: 30.0}


@pytest.fixture
def system(servers: Servers) -> Iterator[System]:
    """A system of its own; its books would miss what was taken out of them."""
    with System(servers) as system:
        yield system


def send_all(client: Client, folder: Path, *, tries: int) -> None:
    """Send what is answered only after the worker has stood still: watched, or of a batch."""
    script: dict[str, Any] = {"mock": {"latency": _SECONDS[tries], "chunks": _SAID}}
    sessions = [
        client.sessions.create(user_id="ada", system_prompt=CANARY) for _ in range(tries // 2)
    ]
    for one in sessions:
        client.send(one, f"{CANARY} now", metadata=script, stream=True)
    path = folder / "batch.jsonl"
    line = {"user_id": "ada", "text": f"{CANARY} of a line", "metadata": script}
    path.write_text("".join(f"{json.dumps(line)}\n" for _ in range(tries // 2)), encoding="utf-8")
    client.batches.create(path, provider="mock")


@pytest.mark.parametrize(
    "tries", [200, pytest.param(400, marks=pytest.mark.slow)], ids=["200", "200 of each"]
)
def test_nothing_of_an_erased_user_returns_in_two_hundred_tries(
    system: System, tmp_path: Path, tries: int
) -> None:
    worker = system.start_worker(concurrency=tries + 10)
    with system.client() as client:
        send_all(client, tmp_path, tries=tries)
        until(lambda: system.count_calls() == tries)
        answered_at = time.monotonic() + _SECONDS[tries]
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            report = client.users.erase("ada", reason="asked")
            assert report.rows["sessions"] == report.rows["turns"] == tries
            assert report.rows["streams"] == tries // 2
            assert where(system, CANARY) == {}
            until(lambda: time.monotonic() > answered_at)  # all at once, when it goes on
        finally:
            os.kill(worker.pid, signal.SIGCONT)
        # What it had in hand was written, or was not, before this is.
        bob = client.sessions.create(user_id="bob")
        after = client.send(bob, "and now?", metadata={"mock": {"latency": 2.0}})
        assert after.result(timeout=60).text
        assert system.count_calls("completed") > 1, "nobody has tried to bring anything back"
        assert where(system, CANARY) == {}
        # Frozen in the middle of a transaction, it has kept the erasure from its end till now.
        client.users.erase("ada", reason="asked")
        found = client.users.verify_erasure("ada", words=[CANARY])
        assert found.remains == [] and found.keys > 0
        assert system.rows("SELECT user_id FROM turnmill.sessions") == [("bob",)]
        steps.assert_sound(client._executor.database)
