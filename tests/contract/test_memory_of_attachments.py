"""Large attachments in many calls at once: memory stays where it was, and the loop goes on."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.draining_vendor import draining

MB = 2**20


@pytest.fixture
def port() -> Iterator[int]:
    with draining() as port:
        yield port


@pytest.mark.slow
def test_two_hundred_calls_at_once_with_five_megabytes_each_take_little_memory(
    port: int, tmp_path: Path
) -> None:
    paper = tmp_path / "paper"
    paper.write_bytes(b"%PDF-1.4\n" + bytes(5 * MB))
    command = [sys.executable, "-m", "tests.contract.attached_load", str(port), str(paper)]
    done = subprocess.run([*command, "250", "200"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/seen", timeout=10) as answer:
        seen = json.loads(answer.read())
    assert seen["requests"] == 250
    assert seen["at_once"] > 150
    assert seen["bytes"] > 250 * 5 * MB * 4 / 3
    assert found["peak"] < 400, found
    assert found["lag"] < 0.1, found
