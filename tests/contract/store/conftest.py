"""The same promises over every store: Postgres, a SQLite file, memory."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from typing import Any, cast

import pytest
from sqlalchemy import QueuePool, event

from tests import steps
from tests.conftest import fresh_database
from tests.keyed import encrypted
from tests.stores import in_memory
from turnmill.domain.errors import TurnmillError
from turnmill.store.database import Database
from turnmill.store.schema import migrate
from turnmill.store.schema.metadata import metadata
from turnmill.store.schema_name import execute
from turnmill_worker.stack.postgres import EmbeddedPostgres

#: Nobody asks what a row refers to while all of them go.
_UNASKED = "SET LOCAL lock_timeout = '2s'; SET LOCAL session_replication_role = replica; "


class Stores:
    """One store of each kind for many tests: what was compiled and prepared once stays so."""

    def __init__(self, makes: dict[str, Callable[[], Database]]) -> None:
        self._makes = makes
        self._open: dict[str, Database] = {}

    def empty(self, kind: str) -> Database:
        """Return the store without a row; another one, where a test has left something open."""
        found = self._open.get(kind)
        if found is None or not _emptied(found):
            self.forget(kind)
            found = self._open[kind] = self._makes[kind]()
        return found

    def forget(self, kind: str) -> None:
        """Have the next test get another one."""
        if kind in self._open:
            self._open.pop(kind).close()


def _emptied(store: Database) -> bool:
    try:
        with store.begin() as conn:
            if store.is_postgres:
                each = (f"DELETE FROM turnmill.{table.name}" for table in metadata.sorted_tables)
                execute(conn, _UNASKED + "; ".join(each))
            else:
                driver = cast(sqlite3.Connection, conn.connection.driver_connection)
                for table in reversed(metadata.sorted_tables):
                    driver.execute(f"DELETE FROM {table.name}")
    except (TurnmillError, sqlite3.Error):  # it was closed, or somebody holds a row
        return False
    return True


def _wait_for_no_disk(connection: Any, _record: object) -> None:
    """Leave out what keeps a commit through a power cut: nothing here is about that."""
    connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="session")
def stores(
    postgres_server: EmbeddedPostgres,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stores]:
    folder = tmp_path_factory.mktemp("stores")
    with ExitStack() as databases:

        def on_a_server() -> Database:
            url = databases.enter_context(fresh_database(postgres_server, migrated_template))
            return Database(url)

        def in_a_file() -> Database:
            number = sum(1 for _ in folder.iterdir())
            url = f"sqlite:///{folder / f'{number}.db'}"
            migrate.upgrade(url)
            store = Database(url)
            event.listen(store.engine, "connect", _wait_for_no_disk)
            return store

        makes = {"postgres": on_a_server, "file": in_a_file, "memory": in_memory}
        stores = Stores(makes)
        yield stores
        for kind in makes:
            stores.forget(kind)


@pytest.fixture(params=["postgres", "file", "memory"])
def store(request: pytest.FixtureRequest, stores: Stores) -> Iterator[Database]:
    store = stores.empty(request.param)
    # Every promise holds where content is encrypted, too: tried by hand, it takes as long again.
    with encrypted(store) if os.environ.get("TURNMILL_TEST_ENCRYPTED") else nullcontext():
        yield store
    if cast(QueuePool, store.engine.pool).checkedout():  # a test has left a transaction open
        stores.forget(request.param)


@pytest.fixture
def sound(store: Database) -> Iterator[None]:
    """Hold the store to every invariant when the test has ended."""
    yield
    steps.assert_sound(store)
