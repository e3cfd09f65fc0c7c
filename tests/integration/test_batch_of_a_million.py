"""A file of a million lines goes in, and its results come out, in bounded memory and good time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

LINES = 1_000_000
MOST_MB = 250
FEWEST_A_SECOND = 15_000

PROGRAM = """
import json, sys, time
from pathlib import Path
from tests.batch_clients import batches_of
from tests.peaks import most_memory
from turnmill.store.database import Database

database, folder = Database(sys.argv[1]), Path(sys.argv[2])
began = time.monotonic()
batch = batches_of(database).create(folder / "jobs.jsonl")
took = time.monotonic() - began
written = batch.results(folder / "out.jsonl")
most = most_memory() / 2**20
print(json.dumps({"took": took, "written": written, "mb": most, "total": batch.record.total}))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_lines_of_a_kilobyte_are_submitted_and_read_back_in_bounded_memory(
    database_url: str, tmp_path: Path
) -> None:
    with (tmp_path / "jobs.jsonl").open("w") as file:
        for n in range(LINES):
            line = {"custom_id": f"job-{n}", "user_id": f"user-{n % 1000}", "text": "word " * 185}
            file.write(json.dumps(line) + "\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, database_url, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=800,
    )
    found = json.loads(done.stdout)
    assert found["total"] == found["written"] == LINES
    assert found["mb"] < MOST_MB
    assert LINES / found["took"] >= FEWEST_A_SECOND, found
    with (tmp_path / "out.jsonl").open() as file:
        for n, result in enumerate(file):
            assert json.loads(result)["custom_id"] == f"job-{n}"
