"""What dies under load on the way to the database, and comes back or is replaced."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
import pytest

from tests import steps
from tests.chaos.system import Servers, until
from tests.conftest import make_home
from tests.connections.journey import WAIT, Way
from tests.connections.servers import ChosenPostgres, PgBouncer, Standby, pgbouncer_version
from turnmill import Client, StoreError
from turnmill.store.database import Database
from turnmill_worker.stack.valkey import EmbeddedValkey

_SESSIONS = 10
_EVERY_SECONDS = 0.02  # 50 sends a second


@dataclass
class Sender:
    """Sends without a pause; what is refused is sent again, under its key."""

    client: Client
    enough: threading.Event = field(default_factory=threading.Event)
    sent: int = 0
    refused: int = 0

    def run(self) -> None:
        sessions = [self.client.sessions.create(user_id=f"u{n}") for n in range(_SESSIONS)]
        while not self.enough.wait(_EVERY_SECONDS):
            try:
                key = f"key {self.sent}"
                self.client.send(sessions[self.sent % _SESSIONS], "hello", idempotency_key=key)
                self.sent += 1
            except StoreError:
                self.refused += 1


def follow(primary: ChosenPostgres, standby: Standby) -> None:
    """Have the primary confirm nothing that the stand-by has not got."""
    with psycopg.connect(primary.url, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        admin.execute("SELECT pg_reload_conf()")
        state = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'"
        until(lambda: admin.execute(state).fetchall())


@pytest.fixture
def pair() -> Iterator[tuple[ChosenPostgres, Standby]]:
    homes = make_home(), make_home()
    with ChosenPostgres(homes[0].path) as primary, Standby(homes[1].path, of=primary) as standby:
        follow(primary, standby)
        yield primary, standby
    for home in homes:
        home.discard()


def by_both(primary: ChosenPostgres, standby: Standby) -> Callable[[str], str]:
    """Return what makes of a database's URL one that names both servers."""
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    login = primary.url.rpartition("@")[0]
    return lambda url: f"{login}@{hosts}/{url.rpartition('/')[2]}?target_session_attrs=read-write"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_primary_that_dies_under_load_loses_no_turn_once_its_standby_is_promoted(
    pair: tuple[ChosenPostgres, Standby], valkey_server: EmbeddedValkey, row: Callable[[str], None]
) -> None:
    row("PostgreSQL, the primary killed at 50 sends/s and the stand-by promoted")
    primary, standby = pair
    before, after = (Servers(one.home, one, valkey_server) for one in pair)
    with Way(before, lease=timedelta(seconds=2), way=by_both(*pair)) as system:
        system.start_worker(concurrency=50)
        with Client(settings=system.settings) as client, ThreadPoolExecutor(1) as thread:
            sender = Sender(client)
            sending = thread.submit(sender.run)
            until(lambda: sender.sent > 100)
            os.kill(primary.pid, signal.SIGQUIT)
            until(lambda: sender.refused)
            system.servers = after
            standby.promote()
            sent = sender.sent
            until(lambda: sender.sent > sent + 100)
            sender.enough.set()
            sending.result(WAIT)
        ended = "SELECT count(*) FROM turnmill.turns WHERE state = 'succeeded'"
        until(lambda: system.rows(ended) == [(sender.sent,)])
        assert_sound(system.database_url)


@pytest.mark.slow
def test_a_pooler_that_is_killed_under_load_and_comes_back_loses_no_turn(
    servers: Servers, pooler: Callable[..., PgBouncer], row: Callable[[str], None]
) -> None:
    row(f"PgBouncer {pgbouncer_version()}, transaction mode, killed at 50 sends/s and restarted")
    between = pooler("transaction")
    with Way(servers, lease=timedelta(seconds=2), way=between.past) as system:
        system.start_worker(concurrency=50)
        with Client(settings=system.settings) as client, ThreadPoolExecutor(1) as thread:
            sender = Sender(client)
            sending = thread.submit(sender.run)
            for _ in range(2):
                sent, refused = sender.sent, sender.refused
                until(lambda sent=sent: sender.sent > sent + 50)  # type: ignore[misc]
                between.kill()
                until(lambda refused=refused: sender.refused > refused)  # type: ignore[misc]
                between.restart()
            sent = sender.sent
            until(lambda: sender.sent > sent + 50)
            sender.enough.set()
            sending.result(WAIT)
        ended = "SELECT count(*) FROM turnmill.turns WHERE state = 'succeeded'"
        until(lambda: system.rows(ended) == [(sender.sent,)])
        assert_sound(system.database_url)


def assert_sound(url: str) -> None:
    store = Database(url)
    steps.assert_sound(store, drained=True)
    store.close()
