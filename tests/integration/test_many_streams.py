"""Many streams at once, each read by three readers that are cut at fifty places."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.dripping import drip, dripping
from turnmill import Client, Settings

TOKENS = 400
A_SECOND = 50
PROGRAM = Path(__file__).with_name("reading_crowd.py")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("streams", [150, 1000])
def test_many_streams_of_fifty_tokens_a_second_are_read_whole_by_whoever_is_cut(
    database_url: str, broker_url: str, streams: int
) -> None:
    settings = Settings(database_url=database_url, broker_url=broker_url)
    with Client(settings=settings) as client, dripping(settings) as worker:
        metadata = drip(TOKENS, pause=1 / A_SECOND)
        turns = []
        for n in range(streams):
            session = client.sessions.create(user_id=f"u{n}", provider="drip", model="drip")
            turns.append(client.send(session, "hello", stream=True, metadata=metadata))
        command = [sys.executable, str(PROGRAM), database_url, broker_url]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as readers:
            assert readers.stdin is not None
            assert readers.stdout is not None
            readers.stdin.write("\n".join(str(turn.id) for turn in turns))
            readers.stdin.close()
            assert readers.stdout.readline() == "ready\n"
            worker.run(*turns)
            *wrong, whole = readers.stdout.read().splitlines()
    assert wrong == []
    assert whole == f"whole {3 * streams}"
