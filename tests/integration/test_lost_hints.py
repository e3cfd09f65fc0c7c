"""Hints that never arrived: the dispatcher notices, whatever else is in the queue."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import psycopg
import pytest
import redis

from turnmill import Client
from turnmill.broker.publisher import Publisher
from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.wire import CANCEL_CHANNEL, LANE_QUEUES
from turnmill_worker.process.dispatcher import Dispatcher, Reactions
from turnmill_worker.process.feeder import Feeder, News
from turnmill_worker.stack.process import wait_until

QUEUE = LANE_QUEUES[Lane.INTERACTIVE]


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as connection:
        yield connection


@dataclass(frozen=True, slots=True)
class Pair:
    """A dispatcher, and the feeder that it tells; without their threads."""

    dispatcher: Dispatcher
    feeder: Feeder

    def tick(self) -> None:
        self.dispatcher.tick()

    def refill(self) -> None:
        self.feeder.refill()


@pytest.fixture
def dispatcher(database_url: str, broker_url: str) -> Iterator[Pair]:
    with dispatcher_of(50, database_url, broker_url) as dispatcher:
        yield dispatcher


@contextmanager
def dispatcher_of(slots: int, database_url: str, broker_url: str) -> Iterator[Pair]:
    database = Database(database_url)
    feeder = Feeder(database, Publisher(broker_url, hints_max=1000), slots=slots)
    dispatcher = Dispatcher(database, lease=timedelta(seconds=15), tell=feeder.feed)
    yield Pair(dispatcher, feeder)
    feeder.stop()
    database.close()


def send_unheard(database_url: str, count: int, *, lane: Lane = Lane.INTERACTIVE) -> None:
    """Let that many sessions be due for a while, without anybody having been told."""
    with Client(database_url=database_url) as mute:
        for _ in range(count):
            mute.send(mute.sessions.create(user_id="ada"), "hello", lane=lane)
    run(
        database_url, "UPDATE turnmill.sessions SET head_due_at = head_due_at - interval '1 minute'"
    )


def run(database_url: str, statement: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement)


def test_whoever_is_to_be_cancelled_does_not_wait_for_what_is_overdue(database_url: str) -> None:
    busy, done, heard = threading.Event(), threading.Event(), list[TurnId]()

    def tell(_: News) -> None:
        busy.set()
        done.wait(30)

    database, wanted = Database(database_url), TurnId(new_id())
    reactions = Reactions(on_cancel=heard.extend)
    dispatcher = Dispatcher(database, lease=timedelta(seconds=15), tell=tell, reactions=reactions)
    dispatcher.start()
    try:
        assert busy.wait(20)

        def named() -> bool:  # again and again: it may not listen yet
            run(database_url, f"NOTIFY {CANCEL_CHANNEL}, '{wanted}'")
            return wanted in heard

        assert wait_until(named, timeout=timedelta(seconds=10))
        assert dispatcher.looked_at is None
    finally:
        done.set()
        dispatcher.stop()
        database.close()


def test_hints_that_a_flushed_broker_lost_are_published_again_beside_new_ones(
    dispatcher: Pair, broker: redis.Redis, database_url: str
) -> None:
    send_unheard(database_url, 5)
    dispatcher.tick()
    assert broker.llen(QUEUE) == 5
    broker.flushall()
    broker.lpush(QUEUE, "somebody's new hint")
    run(database_url, "UPDATE turnmill.announcements SET at = at - interval '1.1 seconds'")
    dispatcher.tick()
    assert broker.llen(QUEUE) == 1 + 5


def test_hints_that_wait_in_a_busy_queue_are_not_published_twice(
    dispatcher: Pair, broker: redis.Redis, database_url: str
) -> None:
    send_unheard(database_url, 5)
    dispatcher.tick()
    run(database_url, "UPDATE turnmill.announcements SET at = at - interval '5 seconds'")
    dispatcher.tick()
    assert broker.llen(QUEUE) == 5


def test_heads_that_the_broker_refused_count_as_never_announced(
    dispatcher: Pair, broker: redis.Redis, database_url: str
) -> None:
    send_unheard(database_url, 5)
    broker.config_set("maxmemory", "1")
    try:
        dispatcher.tick()
    finally:
        broker.config_set("maxmemory", "0")
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM turnmill.announcements").fetchone() == (0,)


@pytest.mark.parametrize("slots", [1, 10, 24, 26])
@pytest.mark.parametrize("lane", [Lane.INTERACTIVE, Lane.BULK])
def test_a_worker_of_a_few_slots_finds_what_nobody_told_it(
    lane: Lane, slots: int, broker: redis.Redis, database_url: str, broker_url: str
) -> None:
    send_unheard(database_url, 2, lane=lane)
    with dispatcher_of(slots, database_url, broker_url) as dispatcher:
        dispatcher.tick()
    assert broker.llen(LANE_QUEUES[lane]) == (2 if lane is Lane.INTERACTIVE else 1)


def test_one_look_ends_all_that_is_overdue_also_when_nobody_stands_behind_it(
    dispatcher: Pair, database_url: str
) -> None:
    send_unheard(database_url, 1100)
    run(database_url, "UPDATE turnmill.turns SET expires_at = statement_timestamp()")
    dispatcher.tick()
    with psycopg.connect(database_url) as connection:
        states = connection.execute(
            "SELECT state, count(*) FROM turnmill.turns GROUP BY state"
        ).fetchall()
    assert states == [("expired", 1100)]


@pytest.mark.parametrize("lane", [Lane.INTERACTIVE, Lane.BULK])
def test_an_emptied_queue_is_filled_before_the_next_look(
    lane: Lane, broker: redis.Redis, database_url: str, broker_url: str
) -> None:
    send_unheard(database_url, 60, lane=lane)
    with dispatcher_of(10, database_url, broker_url) as dispatcher:
        dispatcher.tick()
        looked_at = dispatcher.dispatcher.looked_at
        first = broker.llen(LANE_QUEUES[lane])
        broker.delete(LANE_QUEUES[lane])  # all are taken

        def filled() -> bool:
            dispatcher.refill()
            return broker.llen(LANE_QUEUES[lane]) == first

        assert wait_until(filled, timeout=timedelta(seconds=10))
        assert dispatcher.dispatcher.looked_at == looked_at
