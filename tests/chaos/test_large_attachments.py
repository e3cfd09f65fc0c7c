"""Large attachments through whole workers: little memory, and loops that go on."""

import json
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.attachments import PDF
from tests.chaos.books import Books
from tests.chaos.system import Servers, System, until
from tests.doubles.draining_vendor import draining
from tests.peaks import most_memory
from turnmill import TurnState

MB = 2**20
USERS = 10
WITHIN = timedelta(minutes=15)
AT_ONCE = 200


@pytest.fixture
def port() -> Iterator[int]:
    with draining() as port:
        yield port


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("many", [250, 1000])
def test_turns_with_five_megabytes_each_two_hundred_in_flight_take_little_memory(
    servers: Servers, port: int, many: int, tmp_path: Path
) -> None:
    blocks, files = tmp_path / "blocks", str(tmp_path / "files")
    reach = {
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
        "TURNMILL_FILES_URL": files,
        "TURNMILL_BLOCKS": str(blocks),
    }
    with (
        System(servers, lease=timedelta(minutes=5), environment=reach) as system,
        system.client(files_url=files) as client,
    ):
        worker = system.start_worker(app="tests.chaos.watched_worker", concurrency=AT_ONCE)
        papers = {f"u{n}": client.attachments.put(paper(n), user_id=f"u{n}") for n in range(USERS)}

        def ask(user: str) -> Any:
            session = client.sessions.create(
                user_id=user,
                provider="openai",
                model="gpt-5-mini",
                settings={"uploads": "never"},
            )
            return client.send(session, "Summarise this.", attachments=[papers[user]])

        ask("u0").result(timeout=60)  # what is imported with the first call is
        blocks.unlink(missing_ok=True)
        turns = [ask(f"u{n % USERS}") for n in range(many)]
        ended = "SELECT count(*) FROM turnmill.turns WHERE state = %s"
        succeeded = TurnState.SUCCEEDED.value
        until(lambda: system.rows(ended, succeeded) == [(len(turns) + 1,)], within=WITHIN)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/seen", timeout=10) as answer:
            seen = json.loads(answer.read())
        peak = most_memory(worker.pid) / 2**20
        worst = sorted(map(float, blocks.read_text().split()) if blocks.exists() else [])[-5:]
        told = f"{peak} MB at most, longest {worst} s, {seen}"
        assert seen["requests"] == many + 1, told
        assert seen["at_once"] > AT_ONCE * 3 // 4, told
        assert seen["bytes"] > many * 5 * MB * 4 / 3, told
        assert peak < 400, told
        assert max(worst, default=0.0) < 0.1, told
        assert Books.of(system).violations == []


def paper(number: int) -> bytes:
    """Return a document of five megabytes, like no other."""
    return PDF[:9] + b"%%%d\n" % number + bytes(5 * MB) + PDF[9:]
