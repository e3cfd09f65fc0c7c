"""Opening a store by its URL."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from turnmill.domain.errors import InvalidSetting, UnsupportedByStore
from turnmill.domain.json_values import lenient_json
from turnmill.forking import in_child
from turnmill.named_file import make_private
from turnmill.store.capabilities import FILE, MEMORY, SERVER, Capability
from turnmill.store.opened import Opened
from turnmill.store.refusals import drop_spoiled, translated
from turnmill.store.schema_name import SCHEMA, execution_options
from turnmill.store.types import sqlite_now

P = ParamSpec("P")
T = TypeVar("T")

# Without sequential scans: the server keeps the plans of its foreign-key checks as long as the
# connection, and on a young store, whose tables are a page long, it would plan to read all of them
# for each row. Where no index serves a statement, it still reads the table.
_OPTIONS = (
    "-c statement_timeout=30s -c lock_timeout=5s -c idle_in_transaction_session_timeout=60s"
    " -c TimeZone=UTC -c jit=off -c enable_seqscan=off"
)
# For those who run the same few statements on and on. The server would plan a claim anew each time:
# it takes an array of unknown length for ten elements, and so prefers the plan for the one it sees.
# Not for statements whose conditions on states are parameters: no partial index would serve them.
_GENERIC_PLANS = "-c plan_cache_mode=force_generic_plan"
# What a database or a role may set otherwise, and what our statements cannot do without: they read
# a row anew after they have waited for it, and the driver reads one form of dates only.
_PINNED = (
    r"-c default_transaction_isolation=read\ committed -c DateStyle=ISO -c IntervalStyle=postgres"
)
#: Of explicit transactions, in their BEGIN: no pooler between us and the server can lose that.
ISOLATION = "READ COMMITTED"


class _Readers:
    """What psycopg asks for the loaders of a connection."""

    connection = None

    @property
    def adapters(self) -> Any:
        from turnmill.store.lenient import ADAPTERS  # noqa: PLC0415

        return ADAPTERS


_TRUSTED_SECONDS = 1.0  #: a connection that was used since then is taken to stand
_PINNED_KEY = "turnmill_pinned"


def parse_url(text: str) -> URL:
    """Return the URL with our driver in it; raises InvalidSetting, never quoting it."""
    if not text:
        raise InvalidSetting(
            "no database URL is set",
            hint="set TURNMILL_DATABASE_URL, or run `turnmill up` and use the URL that it prints",
        )
    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise InvalidSetting(
            "the database URL cannot be understood",
            hint="postgresql://user:password@host:5432/name, sqlite:///file.db or sqlite://",
        ) from None
    if backend in {"postgresql", "postgres"}:
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        return url.set(drivername="sqlite+pysqlite")
    raise InvalidSetting(
        f"Turnmill has no store for {backend}", hint="use postgresql:// or sqlite://"
    )


class Database:
    """A store and its pool of connections. Transactions are begun here, and only here.

    A forked child opens connections of its own, to a server. An SQLite file and a store in memory
    stay with the process that opened them: UnsupportedByStore in its children.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = SCHEMA,
        pool_size: int = 5,
        overflow: int = 10,
        generic_plans: bool = False,
    ) -> None:
        """Tables stand in `schema`; SQLite has none.

        With `generic_plans`, the server plans a statement without looking at its parameters.
        """
        self.url = parse_url(url)
        self.schema = schema if self.url.get_backend_name() == "postgresql" else None
        self.is_postgres = self.url.get_backend_name() == "postgresql"
        alone = FILE if self.url.database else MEMORY
        self._capabilities = SERVER if self.is_postgres else alone
        self._new_engine = partial(
            _open,
            self.url,
            schema=self.schema,
            pool_size=pool_size,
            overflow=overflow,
            generic_plans=generic_plans,
        )
        self._opened = Opened()
        self._lock = threading.Lock()
        self._engines: _Engines | None = self._open()
        in_child(self)

    def can(self, capability: Capability) -> bool:
        """Tell whether this store can promise that."""
        return capability in self._capabilities

    @property
    def engine(self) -> Engine:
        """The engine of this process."""
        return self._of_process().engine

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run a transaction: committed at the end, rolled back on an error."""
        with translated(), self._of_process().engine.begin() as conn:
            yield conn

    @contextmanager
    def single(self) -> Iterator[Connection]:
        """Run statements that are each a transaction of their own: one round trip, not three.

        Where that would not be READ COMMITTED, they are a transaction together.
        """
        if not self.is_postgres:
            with self.begin() as conn:
                yield conn
            return
        with translated(), self._of_process().single.connect() as conn:
            if is_pinned(conn):
                yield conn
                return
            conn.execution_options(isolation_level=ISOLATION)
            with conn.begin():
                yield conn

    def run(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a store function in a transaction of its own."""
        with self.begin() as conn:
            return function(conn, *args, **kwargs)

    def run_single(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a store function whose statements are each a transaction of their own."""
        with self.single() as conn:
            return function(conn, *args, **kwargs)

    @contextmanager
    def apart(self) -> Iterator[Connection]:
        """Open a connection beside the pool, for whoever keeps it for long."""
        engine = create_engine(
            self.url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            connect_args=connect_args(self.url),
        )
        self._opened.watch(engine)
        with translated(), engine.connect() as conn:
            yield conn

    def close(self) -> None:
        """Give all connections back to the server."""
        if self._engines is not None:
            self._engines.engine.dispose()

    def start_afresh(self) -> None:
        """Open connections anew: see `turnmill.forking`."""
        self._engines = None
        self._lock = threading.Lock()

    def _of_process(self) -> "_Engines":
        if (found := self._engines) is not None:
            return found
        if not self.is_postgres:
            # What SQLite knows of locks is of the parent, and it would believe that in a
            # connection that is opened here, too.
            raise UnsupportedByStore(
                "this store was opened before a fork: it belongs to the parent process",
                hint="open it after the fork, in one process alone, or use a postgresql:// URL",
            )
        with self._lock:
            if self._engines is None:
                self._engines = self._open()
            return self._engines

    def _open(self) -> "_Engines":
        engine = self._new_engine()
        self._opened.watch(engine)
        return _Engines(engine, engine.execution_options(isolation_level="AUTOCOMMIT"))


class _Engines(NamedTuple):
    engine: Engine
    single: Engine  #: of the same pool: every statement is a transaction of its own


def connect_args(url: URL, *, generic_plans: bool = False) -> dict[str, Any]:
    """Return what a connection to Postgres begins with; options in the URL win over ours."""
    theirs = url.query.get("options", "")
    given = theirs if isinstance(theirs, str) else " ".join(theirs)
    options = (_OPTIONS, _GENERIC_PLANS if generic_plans else "", given, _PINNED)
    return {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        "client_encoding": "utf8",
        "options": " ".join(filter(None, options)),
        "application_name": "turnmill",
        "context": _Readers(),
    }


def is_pinned(conn: Connection) -> bool:
    """Tell whether a statement without a BEGIN is READ COMMITTED on this connection."""
    return bool(conn.info.get(_PINNED_KEY))


def tend(engine: Engine) -> None:
    """Look after the connections of an engine on Postgres, from the first to the last moment."""
    event.listen(engine, "connect", _look_at_defaults)
    ping_the_idle(engine)
    drop_spoiled(engine)


def _look_at_defaults(connection: Any, record: ConnectionPoolEntry) -> None:
    # A pooler may have dropped our options; the database's or the role's defaults count then.
    cursor = connection.cursor()
    cursor.execute("SHOW default_transaction_isolation")
    record.info[_PINNED_KEY] = cursor.fetchone() == ("read committed",)
    cursor.close()
    connection.rollback()


def _open(
    url: URL, *, schema: str | None, pool_size: int, overflow: int, generic_plans: bool
) -> Engine:
    options_of_schema = execution_options(schema)
    if url.get_backend_name() == "postgresql":
        engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=overflow,
            pool_timeout=30,
            isolation_level=ISOLATION,
            hide_parameters=True,
            execution_options=options_of_schema,
            connect_args=connect_args(url, generic_plans=generic_plans),
        )
        tend(engine)
        return engine
    memory = not url.database
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1 if memory else pool_size,
        max_overflow=0 if memory else overflow,
        pool_timeout=10,
        hide_parameters=True,
        execution_options=options_of_schema,
        connect_args={"check_same_thread": False, "timeout": 10},
        json_deserializer=lenient_json,
    )
    if not memory:
        event.listen(engine, "do_connect", _keep_to_owner)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def ping_the_idle(engine: Engine) -> None:
    """Ask a connection that was idle for a second whether it still stands, before it is used.

    SQLAlchemy's own `pool_pre_ping` asks every time: half of what a `send` waits for. Whoever meets
    a server that went away within that second gets StoreUnavailable, as in the middle of a query.
    """

    def note(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()

    def ping(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        if time.monotonic() - record.info.get("idle_since", inf) < _TRUSTED_SECONDS:
            return
        try:
            stands = engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error:
            stands = False
        if not stands:
            raise InvalidatePoolError("the server has gone away meanwhile")

    event.listen(engine, "checkin", note)
    event.listen(engine, "checkout", ping)


def _keep_to_owner(
    _dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]
) -> None:
    """Make the file before SQLite does; its -wal and -shm get the mode that it has."""
    path = str(arguments[0])
    if options.get("uri"):
        parts = urlsplit(path)
        if "mode=" in parts.query:  # read only, or in memory: nothing is to be made
            return
        path = unquote(parts.path)
    make_private(path)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see below
    connection.create_function("turnmill_now", 1, sqlite_now)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _begin_immediate(conn: Connection) -> None:
    # SQLite's write lock stands for the lock of the session's row: it is taken before anything
    # is read, so nothing that a function has read can change before it writes.
    conn.exec_driver_sql("BEGIN IMMEDIATE")
