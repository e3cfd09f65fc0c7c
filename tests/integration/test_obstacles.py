"""What a worker and its database know of each other: why nothing can be done, and who is there."""

from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import psycopg
import pytest

from turnmill.listening.thread import listen
from turnmill.store.database import Database
from turnmill.store.upkeep.vitals import listening_workers
from turnmill.wire import SETTLED_CHANNEL
from turnmill_worker.process.dispatcher import Dispatcher, Reactions
from turnmill_worker.stack.process import wait_until

ROLE, OTHERS = "stopped", "pg_stat_activity WHERE usename = 'stopped'"
GRANT = f"GRANT USAGE ON SCHEMA turnmill TO {ROLE}"
#: What stops it: the word, what does it, and what undoes it.
STOPS = {
    "password": (f"ALTER ROLE {ROLE} PASSWORD 'another'", f"ALTER ROLE {ROLE} PASSWORD 'his'"),
    "connections": (
        f"ALTER ROLE {ROLE} CONNECTION LIMIT 0",
        f"ALTER ROLE {ROLE} CONNECTION LIMIT -1",
    ),
    "read_only": (
        f"ALTER ROLE {ROLE} SET default_transaction_read_only = on",
        f"ALTER ROLE {ROLE} RESET default_transaction_read_only",
    ),
    "access_denied": (f"REVOKE USAGE ON SCHEMA turnmill FROM {ROLE}", GRANT),
}
WORK = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA turnmill TO {ROLE}"


@pytest.fixture
def admin(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as conn:
        for said in (f"CREATE ROLE {ROLE} LOGIN PASSWORD 'his'", GRANT, WORK):
            conn.execute(said)
        yield conn
        conn.execute(f"DROP OWNED BY {ROLE} CASCADE")
        conn.execute(f"DROP ROLE {ROLE}")


@pytest.mark.long
@pytest.mark.parametrize("word", STOPS)
def test_why_a_database_lets_a_worker_do_nothing_is_known_until_it_does(
    word: str, admin: psycopg.Connection, database_url: str
) -> None:
    stop, undo = STOPS[word]
    parts = urlsplit(database_url)
    where = parts.netloc.rpartition("@")[2]
    database = Database(parts._replace(netloc=f"{ROLE}:his@{where}").geturl())
    dispatcher = Dispatcher(database, lease=timedelta(seconds=15), tell=lambda _: None)
    dispatcher.start()
    try:
        assert wait_until(lambda: dispatcher.looked_at is not None, timeout=timedelta(seconds=20))
        assert dispatcher.obstacle == ""
        admin.execute(stop)
        admin.execute(f"SELECT pg_terminate_backend(pid) FROM {OTHERS}")
        assert wait_until(lambda: dispatcher.obstacle == word, timeout=timedelta(seconds=20))
        admin.execute(undo)
        assert wait_until(lambda: dispatcher.obstacle == "", timeout=timedelta(seconds=20))
    finally:
        dispatcher.stop()
        database.close()


@pytest.mark.parametrize("reactions", [Reactions(), Reactions(on_ended=lambda: None)])
def test_who_listens_to_the_database_is_known_there_until_it_ends(
    database_url: str, reactions: Reactions
) -> None:
    database = Database(database_url)

    def listening() -> int:
        with database.begin() as conn:
            return listening_workers(conn)

    with listen(database, [SETTLED_CHANNEL]):  # who waits for a reply is no worker
        assert listening() == 0
    worker = Dispatcher(
        database, lease=timedelta(seconds=15), tell=lambda _: None, reactions=reactions
    )
    worker.start()
    try:
        assert wait_until(lambda: listening() == 1, timeout=timedelta(seconds=20))
    finally:
        worker.stop()
    assert wait_until(lambda: listening() == 0, timeout=timedelta(seconds=20))
    database.close()
