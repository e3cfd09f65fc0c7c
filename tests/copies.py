"""New stores of SQLite as copies of one that was made once: a copy takes a tenth of the time.

And migrations that are loaded once, for those that are not.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import Connection

from turnmill.store.database import Database


@contextmanager
def copying(folder: Path) -> Iterator[Mapping[str, Callable[..., Any]]]:
    """Yield what is to stand in `turnmill.store.schema` in the place of what makes new tables."""
    from turnmill.store.schema import migrate, revision  # alembic is slow to import

    upgrade, create = migrate._upgrade_file, revision._create_in_sqlite
    made: list[Database] = []

    @cache
    def in_a_file() -> tuple[Any, str]:
        made.append(store := Database(f"sqlite:///{folder}/made.db"))
        head = str(upgrade(store, "head").after)
        return _behind(store), head

    @cache
    def in_memory() -> Any:
        made.append(store := Database("sqlite://"))
        with store.begin() as conn:
            create(conn)
        return _behind(store)

    def bring_along(store: Database, revision: str) -> Any:
        with store.begin() as conn:
            is_new = conn.exec_driver_sql("SELECT 1 FROM sqlite_master").first() is None
            if is_new and revision == "head":
                source, head = in_a_file()
                _copy(source, conn)
                return migrate.Migrated(before=None, after=head, moved=None)
        return upgrade(store, revision)

    yield {
        "migrate._upgrade_file": bring_along,
        "revision._create_in_sqlite": lambda conn: _copy(in_memory(), conn),
    }
    for store in made:
        store.close()


@contextmanager
def read_once() -> Iterator[None]:
    """Let the files of our migrations be looked for and loaded once, not by each that runs some."""
    from alembic.script import ScriptDirectory

    look = ScriptDirectory.from_config
    found: dict[str | None, ScriptDirectory] = {}

    def from_config(config: Any) -> ScriptDirectory:
        if config.get_main_option("script_location") != "turnmill.store.schema:migrations":
            return look(config)
        where = config.get_main_option("version_locations")
        if where not in found:
            found[where] = look(config)
        return found[where]

    with mock.patch.object(ScriptDirectory, "from_config", from_config):
        yield


def _behind(store: Database) -> Any:
    with store.engine.connect() as conn:
        return conn.connection.driver_connection


def _copy(source: Any, conn: Connection) -> None:
    """Copy into a store that has nothing in it yet, out of the transaction that found that."""
    conn.exec_driver_sql("ROLLBACK")
    source.backup(conn.connection.driver_connection)
    conn.exec_driver_sql("BEGIN IMMEDIATE")
