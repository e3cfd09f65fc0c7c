"""Many streams at once, each read by three readers that are cut at fifty places.

In the middle of it all, their Redis loses everything.
"""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from benchmarks.streams import measure
from tests.chaos.system import until
from tests.dripping import drip, dripping
from turnmill import Client, Settings

TOKENS = 400
A_SECOND = 50
WITHIN = timedelta(minutes=10)
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
            until(lambda: worker.provider.said > streams * TOKENS / 2, within=WITHIN)
            with redis.Redis.from_url(broker_url) as server:
                assert server.dbsize() >= streams, "they are under way"
                server.flushall()
            assert worker.provider.said < streams * TOKENS, "and go on"
            *wrong, whole = readers.stdout.read().splitlines()
    assert wrong == []
    assert whole == f"whole {3 * streams}"


@pytest.mark.slow
def test_publishing_a_thousand_streams_takes_a_small_part_of_a_core(broker_url: str) -> None:
    found = measure(broker_url, streams=1000, rate=A_SECOND, seconds=10)
    assert found.entries_a_second > 1000, "they are published"
    assert found.cores <= 0.15, found
