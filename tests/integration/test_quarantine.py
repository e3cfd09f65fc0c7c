"""Quarantine as its parent sees it: when a child is wanted, and what a dead one leaves behind."""

import asyncio
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from turnmill import Client
from turnmill.store.database import Database
from turnmill.store.line.claim import claim, due_suspicions
from turnmill.store.line.leases import end_leases, extend, late_heartbeats, take_lost
from turnmill.sync.turns import Turn
from turnmill_worker.process import quarantine
from turnmill_worker.process.quarantine import Quarantine
from turnmill_worker.stack.process import wait_until

LEASE = timedelta(seconds=20)


@pytest.fixture
def turn(database_url: str) -> Iterator[Turn]:
    with Client(database_url=database_url) as mute:
        yield mute.send(mute.sessions.create(user_id="ada"), "hello")


def hold(database: Database, turn: Turn, *, owner: str, for_another: timedelta) -> int:
    """Claim the turn, and let so much of the lease be left; return the fence."""
    with database.begin() as conn:
        [claimed] = claim(conn, [turn.id], owner=owner, lease=for_another)
    return claimed.fence


def ask_whether_in_doubt(database: Database) -> bool:
    with database.begin() as conn:
        return late_heartbeats(conn, lease=LEASE)


def test_one_dispatcher_is_told_that_an_owner_has_missed_two_heartbeats(
    database: Database, turn: Turn
) -> None:
    hold(database, turn, owner="dying", for_another=LEASE * 0.4)
    assert [ask_whether_in_doubt(database) for _ in range(3)] == [True, False, False]


def test_an_owner_that_beats_is_not_in_doubt(database: Database, turn: Turn) -> None:
    fence = hold(database, turn, owner="alive", for_another=LEASE * 0.4)
    with database.begin() as conn:
        extend(conn, [(turn.id, fence)], lease=LEASE)
    assert not ask_whether_in_doubt(database)


def test_the_leases_of_a_dead_process_end_at_once_and_no_others(
    database: Database, turn: Turn
) -> None:
    hold(database, turn, owner="host:1/1-ab", for_another=LEASE)
    with database.begin() as conn:
        end_leases(conn, "host:1/1-cd")
        assert take_lost(conn, lease=timedelta(0)).heads == []
        end_leases(conn, "host:1/1-ab")
        assert [head.turn_id for head in take_lost(conn, lease=timedelta(0)).heads] == [turn.id]
    with database.begin() as conn:
        assert due_suspicions(conn) == {1}


class Owners:
    """Takes note of whose leases were ended."""

    def __init__(self) -> None:
        self.given_up: list[str] = []

    async def loss_counts(self) -> set[int]:
        return {1}

    async def give_up(self, owner: str) -> None:
        self.given_up.append(owner)


def test_a_child_that_does_not_end_is_killed_when_its_worker_drains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its event loop is blocked for good, so that it hears nothing.
    child = tmp_path / "child"
    child.write_text(f"#!/bin/sh\ntrap '' TERM\ntouch {tmp_path}/runs\nexec sleep 60\n")
    child.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(child))
    monkeypatch.setattr(quarantine, "_CLEANUP", timedelta(0))
    owners, draining = Owners(), threading.Event()

    async def main() -> dict[int, int]:
        one = Quarantine(owners, owner="us", draining=draining, grace=timedelta(seconds=0.2))
        running = asyncio.ensure_future(one.run())
        runs = (tmp_path / "runs").exists
        assert await asyncio.to_thread(wait_until, runs, timeout=timedelta(seconds=20))
        draining.set()
        return await asyncio.wait_for(running, 20)

    assert asyncio.run(main()) == {1: -signal.SIGKILL}
    assert len(owners.given_up) == 1 and owners.given_up[0].startswith("us/")
