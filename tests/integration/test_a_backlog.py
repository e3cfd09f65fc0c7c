"""A backlog of one user's, in a worker with all its slots in use, and another user beside it."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.workers import client_beside_one
from turnmill import Client
from turnmill_worker.stack.process import wait_until

logger = logging.getLogger(__name__)

SOON = timedelta(seconds=30)
SLOTS = 10
BACKLOG = 600
WHOLE = 10_000


@pytest.fixture
def client(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Client]:
    """Return a client beside a worker of ten slots, whose turns take 0.3 seconds."""
    slow = {"TURNMILL_MOCK_LATENCY": "0.3"}
    options = (f"--concurrency={SLOTS}", "--loglevel=WARNING")
    with client_beside_one(database_url, broker_url, tmp_path, *options, **slow) as client:
        yield client


def longest_wait(client: Client, lane: str) -> timedelta:
    """Send ten turns, each to a session of its own; return the longest time that one took."""
    sessions = [client.sessions.create(user_id="bob", provider="mock") for _ in range(10)]
    turns = [client.send(session, "hello", lane=lane) for session in sessions]
    for turn in turns:
        turn.result(timeout=60)
    records = [turn.refresh().record for turn in turns]
    return max(one.finished_at - one.created_at for one in records if one.finished_at)


@pytest.mark.long
@pytest.mark.parametrize("lane", ["interactive", "bulk"])
@pytest.mark.parametrize("many", [BACKLOG, pytest.param(WHOLE, marks=pytest.mark.slow)])
def test_ten_turns_take_at_most_twice_as_long_beside_somebody_elses_backlog(
    client: Client, lane: str, many: int
) -> None:
    longest_wait(client, lane)  # until the worker has come up
    alone = longest_wait(client, lane)
    sessions = [client.sessions.create(user_id="ada", provider="mock").id for _ in range(BACKLOG)]
    sent = [(sessions[n % BACKLOG], "hello") for n in range(many)]
    client.send_many(sent, lane=lane)

    def is_crowded() -> bool:
        return len(client.turns.list(user_id="ada", states=["succeeded"], limit=30)) == 30

    assert wait_until(is_crowded, timeout=SOON)
    beside = longest_wait(client, lane)
    waiting = client.turns.list(user_id="ada", states=["queued"], limit=BACKLOG)
    assert len(waiting) > 300, "the backlog was gone meanwhile"
    logger.info("%s alone, %s beside %d", alone, beside, many)
    assert beside < 2 * alone, (alone, beside)
