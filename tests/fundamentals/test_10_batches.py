"""A batch: a file with a message on each line, and a file with a reply on each line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fundamentals.conftest import System
from turnmill import Client

WAIT = 60


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.jsonl"
    lines = [{"custom_id": f"job-{n}", "user_id": f"user-{n}", "text": f"{n}"} for n in range(50)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_every_line_of_a_file_is_answered(client: Client, jobs: Path, tmp_path: Path) -> None:
    batch = client.batches.create(jobs)
    counts = batch.wait(timeout=WAIT)
    assert (counts.total, counts.succeeded) == (50, 50)
    batch.results(tmp_path / "out.jsonl")
    results = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [result["custom_id"] for result in results] == [f"job-{n}" for n in range(50)]
    assert all(f"You said: {n} " in result["text"] for n, result in enumerate(results))


def test_lines_of_one_session_are_answered_in_order(client: Client, tmp_path: Path) -> None:
    session = client.sessions.create(user_id="ada")
    path = tmp_path / "talk.jsonl"
    line = json.dumps({"session": str(session.id), "text": "next"})
    path.write_text(f"{line}\n" * 10)
    batch = client.batches.create(path)
    assert batch.wait(timeout=WAIT).succeeded == 10
    texts = [result.text or "" for result in batch.iter_results()]
    assert [f"[{2 * n} before]" in text for n, text in enumerate(texts)] == [True] * 10


def test_a_batch_runs_from_the_command_line(system: System, jobs: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "turnmill.cli", "batch", "submit", str(jobs), "--watch", "--json"],
        env=os.environ
        | {
            "TURNMILL_DATABASE_URL": system.database_url,
            "TURNMILL_BROKER_URL": system.broker_url,
        },
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["states"] == {"succeeded": 50}


def test_a_batch_that_fails_again_and_again_stops_itself_and_is_cancelled_or_goes_on(
    client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "hopeless.jsonl"
    # Each takes a while: however busy the machine, not all have failed before the batch is stopped.
    refused = {"mock": {"faults": {"rejected": 1}, "latency": 0.5}}
    lines = [{"user_id": f"u{n}", "text": "no", "metadata": refused} for n in range(2000)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    batch = client.batches.create(path)
    counts = batch.wait(timeout=WAIT)
    assert (counts.state, counts.paused_because) == ("paused", "invalid_prompt")
    assert 20 <= counts.codes["invalid_prompt"] < 2000
    batch.resume()
    assert batch.wait(timeout=WAIT).state == "paused"
    batch.cancel()
    counts = batch.wait(timeout=WAIT)
    assert (counts.state, counts.accepted) == ("cancelled", 2000)


def test_several_messages_of_a_line_are_answered_each_on_the_last_reply(
    client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "talks.jsonl"
    said = [{"role": "user", "content": f"question {n}"} for n in range(3)]
    path.write_text(f"{json.dumps({'user_id': 'ada', 'messages': said})}\n" * 5)
    batch = client.batches.create(path)
    assert batch.wait(timeout=WAIT).succeeded == 5
    texts = [result.text or "" for result in batch.iter_results()]
    assert all("question 2 [4 before]" in text for text in texts)
