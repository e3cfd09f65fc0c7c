"""Quarantine as its parent sees it: when a child is wanted, and what a dead one leaves behind."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from turnmill import Client
from turnmill.client import Turn
from turnmill.store.claim import claim, due_suspicions
from turnmill.store.database import Database
from turnmill.store.leases import end_leases, extend, in_doubt, take_lost

LEASE = timedelta(seconds=20)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


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
        return in_doubt(conn, lease=LEASE)


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
