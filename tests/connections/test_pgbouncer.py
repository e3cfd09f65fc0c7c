"""PgBouncer before the database: Turnmill finds out, and relies on nothing of a session."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import Connection

from tests import steps
from tests.chaos.system import Servers
from tests.connections import journey
from tests.connections.servers import PgBouncer, pgbouncer_version
from turnmill.cli.doctor.findings import Examination, Level
from turnmill.cli.doctor.pooler import check_pooler
from turnmill.cli.doctor.servers import check_database
from turnmill.domain.errors import AccessDenied, StoreError, StoreUnavailable, TurnCancelled
from turnmill.listening import thread as listening
from turnmill.listening.thread import Listener, Untold, listen
from turnmill.settings import Settings
from turnmill.store.async_database import AsyncDatabase
from turnmill.store.database import Database
from turnmill.store.schema import migrate
from turnmill.sync.client import Client

pytestmark = pytest.mark.anyio

Pooler = Callable[..., PgBouncer]
Row = Callable[[str], None]


@contextmanager
def opened(url: str, *, listen_url: str = "") -> Iterator[Database]:
    store = Database(url, listen_url=listen_url, pool_size=1, overflow=0)
    yield store
    store.close()


@pytest.mark.parametrize("pool_mode", ["session", "transaction"])
def test_everything_works_through_a_pooler_as_it_is_installed(
    servers: Servers, pooler: Pooler, tmp_path: Path, pool_mode: str, row: Row
) -> None:
    row(f"PgBouncer {pgbouncer_version()}, {pool_mode} mode")
    journey.make(servers, tmp_path, way=pooler(pool_mode).past)


@pytest.mark.slow
def test_everything_works_through_a_pooler_with_a_url_to_listen_past_it(
    servers: Servers, pooler: Pooler, tmp_path: Path, row: Row
) -> None:
    row(f"PgBouncer {pgbouncer_version()}, transaction mode, TURNMILL_LISTEN_URL past it")
    journey.make(servers, tmp_path, way=pooler("transaction").past, listen_way=str)


def test_a_pooler_with_one_connection_to_the_server_is_enough_for_a_client(
    database_url: str, pooler: Pooler
) -> None:
    with Client(database_url=pooler(default_pool_size=1).past(database_url)) as client:
        for _ in range(12):  # more often than a driver needs to prepare a statement
            client.send(client.sessions.create(user_id="ada"), "hello")


async def test_statement_mode_is_refused_by_name(
    database_url: str, pooler: Pooler, row: Row
) -> None:
    row(f"PgBouncer {pgbouncer_version()}, statement mode: refused by name")
    url = pooler("statement").past(database_url)
    with pytest.raises(AccessDenied, match="statement mode") as caught, opened(url) as store:
        steps.count_turns(store)
    assert (caught.value.reason, "pool_mode" in caught.value.hint) == ("statement_mode", True)
    concurrent = AsyncDatabase(url)
    with pytest.raises(AccessDenied, match="statement mode"):
        await concurrent.run_single(lambda conn: conn.exec_driver_sql("SELECT 1"))
    await concurrent.close()


#: PgBouncer itself hands on to each client the few settings that it knows.
_LEFT = """
SELECT name FROM pg_settings
WHERE source = 'session' AND name NOT IN (
    'application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings'
)
UNION ALL SELECT name FROM pg_prepared_statements
UNION ALL SELECT pg_listening_channels()
UNION ALL SELECT locktype FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
"""


def left(url: str, *, connections: int) -> list[tuple[str, ...]]:
    """Return what is left on all the connections to the server that a pooler has."""
    with ExitStack() as stack:
        found = []
        for _ in range(connections):
            connection = stack.enter_context(psycopg.connect(url))  # in a transaction: one each
            found += connection.execute(_LEFT).fetchall()
    return found


def test_nothing_of_ours_stays_with_a_connection_that_others_get(
    database_url: str, pooler: Pooler
) -> None:
    url = pooler(default_pool_size=2).past(database_url)
    migrate.upgrade(url)
    with Client(database_url=url) as client:
        turn = client.send(client.sessions.create(user_id="ada"), "hello")
        with pytest.raises(TimeoutError):
            turn.result(timeout=0.3)
    assert left(url, connections=2) == []
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SET lock_timeout = '7s'")
    assert left(url, connections=2) == [("lock_timeout",)]


def test_what_others_have_set_on_a_shared_connection_reaches_no_statement_of_ours(
    database_url: str, pooler: Pooler
) -> None:
    url = pooler(default_pool_size=1).past(database_url)
    with psycopg.connect(url, autocommit=True) as other, opened(url) as store:
        other.execute("SET default_transaction_isolation = 'serializable'")
        for scope in (store.single, store.begin):
            with scope() as conn:
                assert conn.exec_driver_sql("SHOW transaction_isolation").scalar() == (
                    "read committed"
                )


def test_a_migration_through_a_pooler_leaves_the_settings_that_connections_begin_with(
    pooler: Pooler, database_url: str
) -> None:
    pooled = pooler()
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE pooled_role LOGIN")
        admin.execute("ALTER ROLE pooled_role SET lock_timeout = '70ms'")
        try:
            done = migrate.upgrade(pooled.past(database_url), pooled_roles=["pooled_role"])
            assert set(done.settled) == {"", "pooled_role"}
            assert "lock_timeout" not in done.settled["pooled_role"]
            again = migrate.upgrade(pooled.past(database_url), pooled_roles=["pooled_role"])
            assert not again.settled
            with psycopg.connect(database_url, user="turnmill") as fresh:
                assert fresh.execute("SHOW statement_timeout").fetchall() == [("30s",)]
        finally:
            admin.execute("DROP ROLE pooled_role")


def test_a_direct_migration_writes_no_settings_unasked(database_url: str) -> None:
    assert not migrate.upgrade(database_url).settled


def test_options_of_the_callers_are_not_dropped_in_silence(
    database_url: str, pooler: Pooler
) -> None:
    url = pooler().past(database_url) + "?options=-c%20work_mem%3D5MB"
    with (
        pytest.raises(StoreUnavailable, match="takes no `options`") as caught,
        opened(url) as store,
    ):
        steps.count_turns(store)
    assert caught.value.hint


def test_listening_goes_past_the_pooler_where_a_url_says_so(
    database_url: str, pooler: Pooler
) -> None:
    pooled = pooler().past(database_url)
    with opened(pooled) as store, listen(store, ["told"]) as listener:
        assert isinstance(listener, Untold)
    with opened(pooled, listen_url=database_url) as store, listen(store, ["told"]) as listener:
        assert isinstance(listener, Listener)


def test_a_url_to_listen_on_that_leads_nowhere_stops_nobody_and_is_tried_again(
    database_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "_TRY_AGAIN_SECONDS", 0.0)
    nowhere = urlsplit(database_url)._replace(path="/nowhere").geturl()
    with opened(database_url, listen_url=nowhere) as store, listen(store, ["told"]) as listener:
        assert isinstance(listener, Untold)
        assert not listener.hear(0.001)
        assert listener.is_over
    assert "no such database" in caplog.text
    settings = Settings(database_url=database_url, listen_url=nowhere)
    with Client(settings=settings) as client:
        turn = client.send(client.sessions.create(user_id="ada"), "hello")
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(turn.result, 30.0)
            turn.cancel()
            with pytest.raises(TurnCancelled):
                waiting.result(30.0)


def findings(url: str, *, listen_url: str = "") -> list[tuple[Level, str, str]]:
    examination = Examination(
        settings=Settings(database_url=url, listen_url=listen_url), environ={}
    )
    list(check_database(examination))
    assert examination.database is not None
    found = [(one.level, one.what, one.fix) for one in check_pooler(examination)]
    examination.database.close()
    return found


@pytest.mark.parametrize("pool_mode", ["session", "transaction"])
def test_doctor_names_the_mode_by_what_the_pooler_does(
    database_url: str, pooler: Pooler, pool_mode: str
) -> None:
    url = pooler(pool_mode).past(database_url)
    (mode, bounds, listening) = findings(url)
    assert f"in {pool_mode} mode" in mode[1]
    assert "statement_timeout" in bounds[1] and "--pooled-role turnmill" in bounds[2]
    assert listening[0] is Level.NOTE and "TURNMILL_LISTEN_URL" in listening[2]


@pytest.mark.long
def test_doctor_tries_whether_anything_is_heard_where_a_url_says_to_listen(
    database_url: str, pooler: Pooler
) -> None:
    session, transaction = (pooler(mode).past(database_url) for mode in ("session", "transaction"))
    elsewhere = urlsplit(database_url)._replace(path="/postgres").geturl()
    heard = {
        listen_url: findings(transaction, listen_url=listen_url)[-1][0]
        for listen_url in (database_url, session, transaction, elsewhere, elsewhere + "x")
    }
    assert list(heard.values()) == [Level.OK, Level.OK, *[Level.WRONG] * 3]


def test_doctor_has_nothing_to_say_of_a_server_that_answers_by_itself(database_url: str) -> None:
    assert findings(database_url) == []


def test_a_threshold_in_the_url_is_kept_behind_a_pooler(database_url: str, pooler: Pooler) -> None:
    url = pooler("session").past(database_url)

    def threshold(store: Database) -> object:
        with store.begin() as conn:
            return conn.connection.driver_connection.prepare_threshold  # type: ignore[union-attr]

    with opened(url) as store:
        assert threshold(store) is None
    with opened(url + "?prepare_threshold=3") as store:
        assert threshold(store) == 3
    with opened(database_url + "?prepare_threshold=none") as store:
        assert threshold(store) is None
    with opened(database_url) as store:
        assert threshold(store) == 5


def test_a_pooler_that_does_not_get_through_says_so(database_url: str, pooler: Pooler) -> None:
    pooled = pooler(max_client_conn=1)

    def look(conn: Connection) -> None:
        conn.exec_driver_sql("SELECT 1")

    url = pooled.past(database_url)
    with psycopg.connect(url), opened(url) as store, pytest.raises(StoreError) as caught:
        store.run(look)
    assert (caught.value.code, caught.value.reason) == ("store_full", "connections")
