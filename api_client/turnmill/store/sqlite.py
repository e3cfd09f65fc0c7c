"""Connections to SQLite, to a file or to memory: how they are opened, and what ends with them."""

import sqlite3
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from weakref import WeakSet

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event

from turnmill.domain.ids import hash_of_user
from turnmill.domain.json_values import lenient_json
from turnmill.named_file import make_private
from turnmill.store.types import (
    sqlite_bucket,
    sqlite_bucket_between,
    sqlite_joined,
    sqlite_now,
    sqlite_span,
)


class _Connection(sqlite3.Connection):
    """Knows its cursors: a read that was left in the middle keeps an old snapshot until it ends.

    Neither COMMIT nor ROLLBACK ends one. Whoever is given the connection next, and writes, would be
    refused with SQLITE_BUSY_SNAPSHOT, for as long as somebody holds the error that the read ended
    with; and the log of the file would grow meanwhile.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def cursor(self, *args: Any, **options: Any) -> Any:
        """Return a cursor that does not outlive its transaction."""
        found = super().cursor(*args, **options)
        self._cursors.add(found)
        return found

    def end_reads(self) -> None:
        """Close what was not read to its end."""
        for cursor in list(self._cursors):
            cursor.close()
        self._cursors.clear()


class _Memory(_Connection):
    """A store in memory: it is there for as long as its engine, whatever becomes of a statement.

    A pool gives a connection up when something like Ctrl-C comes in the middle of one, as it may
    with those to a server. With this one all that was kept would be gone.
    """

    is_lent = is_over = False

    def close(self) -> None:
        """Let the next one begin anew; after the engine's end, give the memory back."""
        self.is_lent = False
        self.end_reads()
        if self.is_over:
            super().close()
        else:
            self.rollback()

    def end(self) -> None:
        """Be over, as soon as nobody uses it any more."""
        self.is_over = True
        if not self.is_lent:
            self.close()


def open_sqlite(
    url: URL, *, pool_size: int, overflow: int, execution_options: dict[str, Any], reads: str
) -> Engine:
    """Return an engine; memory has one connection alone. `reads`: the option of what only reads."""
    memory = not url.database
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1 if memory else pool_size,
        max_overflow=0 if memory else overflow,
        pool_timeout=10,
        hide_parameters=True,
        execution_options=execution_options,
        connect_args={
            "check_same_thread": False,
            "timeout": 10,
            "factory": _Memory if memory else _Connection,
        },
        json_deserializer=lenient_json,
    )
    if memory:
        _keep_for_good(engine)
    else:
        event.listen(engine, "do_connect", _keep_to_owner)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", partial(_begin, reads=reads))
    event.listen(engine, "reset", _end_reads)
    return engine


def cut_log(engine: Engine) -> int:
    """Write the log into the file, where what was deleted is overwritten, and leave nothing of it.

    Returns how many of its pages are left, since somebody reads them for longer than we wait; 1
    where nobody could look.
    """
    connection = engine.raw_connection()
    try:
        found = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:
        return 1
    finally:
        connection.close()
    is_busy, pages, _ = found
    return max(int(pages), 1) if is_busy else 0


def _keep_for_good(engine: Engine) -> None:
    """Give the pool the same connection whenever it asks for one, until the engine's end."""
    kept: list[_Memory] = []

    def connected(
        _dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]
    ) -> _Memory:
        if not kept:
            kept.append(sqlite3.connect(*arguments, **options))
        kept[0].close()
        return kept[0]

    def lent(connection: Any, _record: object, _proxy: object) -> None:
        connection.is_lent = True

    def given_back(connection: Any, _record: object) -> None:
        if connection is not None:
            connection.is_lent = False

    def ended(_engine: Engine) -> None:
        while kept:
            kept.pop().end()

    event.listen(engine, "do_connect", connected)
    event.listen(engine, "checkout", lent)
    event.listen(engine, "checkin", given_back)
    event.listen(engine, "engine_disposed", ended)


def _keep_to_owner(
    _dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]
) -> None:
    """Make the file before SQLite does; its -wal and -shm get the mode that it has."""
    path = str(arguments[0])
    if options.get("uri"):
        parts = urlsplit(path)
        if parse_qs(parts.query).get("mode", ["rwc"]) != ["rwc"]:  # nothing is to be made
            return
        path = unquote(parts.path)
    if path != ":memory:":
        make_private(path)


def _prepare(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see below
    connection.create_function("turnmill_now", 1, sqlite_now)
    connection.create_function("turnmill_joined", 2, sqlite_joined)
    connection.create_function("turnmill_bucket", 1, sqlite_bucket, deterministic=True)
    connection.create_function(
        "turnmill_bucket_between", 2, sqlite_bucket_between, deterministic=True
    )
    connection.create_function("turnmill_span", 2, sqlite_span, deterministic=True)
    connection.create_function("turnmill_hash_of_user", 1, hash_of_user, deterministic=True)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")  # not every build of SQLite does by itself


def _begin(conn: Connection, *, reads: str) -> None:
    if conn.get_execution_options().get(reads):
        conn.exec_driver_sql("BEGIN")  # nothing is written by what was read
        return
    # SQLite's write lock stands for the lock of the session's row: it is taken before anything
    # is read, so nothing that a function has read can change before it writes.
    conn.exec_driver_sql("BEGIN IMMEDIATE")


def _end_reads(connection: Any, _record: object, _state: object) -> None:
    if isinstance(connection, _Connection):
        connection.end_reads()
