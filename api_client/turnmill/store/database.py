"""Opening a store by its URL."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Concatenate, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from turnmill.connections.postgres import Address, read
from turnmill.crypto.wanted import KeyWanted
from turnmill.domain.errors import InvalidSetting, UnsupportedByStore
from turnmill.forking import in_child
from turnmill.store.capabilities import FILE, MEMORY, SERVER, Capability
from turnmill.store.dialing import (
    ISOLATION,
    connect_args,
    dial,
    engine_url,
    is_pinned,
    is_pooled,
    tend,
)
from turnmill.store.opened import Opened
from turnmill.store.refusals import translated
from turnmill.store.schema_name import SCHEMA, execution_options
from turnmill.store.vaults import KeyFetched, attach, fetch

if TYPE_CHECKING:
    from turnmill.crypto.data_keys import DataKeys

#: The option of a connection that only reads.
READS = "turnmill_reads"

P = ParamSpec("P")
T = TypeVar("T")

_UNKNOWN_URL = "postgresql://user:password@host:5432/name, sqlite:///file.db or sqlite://"
_OF_A_FILE = "sqlite:///file.db, or with a whole path sqlite:////var/lib/file.db"


def parse_url(text: str) -> URL:
    """Return the URL with our driver in it; raises InvalidSetting, never quoting it."""
    address = address_of(text)
    return engine_url(address) if address is not None else _file_url(text)


def address_of(text: str) -> Address | None:
    """Return where a Postgres URL leads, or None for that of a file or of memory."""
    if not text:
        raise InvalidSetting(
            "no database URL is set",
            hint="set TURNMILL_DATABASE_URL, or run `turnmill up` in this folder: commands find it,"
            " and so does Client.from_env()",
        )
    if text != text.strip():
        raise InvalidSetting(
            "the database URL has white space or a line end around it",
            hint="remove it: a file with Windows line ends leaves one behind each value",
        )
    return read(text) if text.startswith("postgres") else None


def _file_url(text: str) -> URL:
    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise InvalidSetting("the database URL cannot be understood", hint=_UNKNOWN_URL) from None
    if backend == "sqlite":
        return _taken(url.set(drivername="sqlite+pysqlite"))
    raise InvalidSetting(
        f"Turnmill has no store for {backend}", hint="use postgresql:// or sqlite://"
    )


def _taken(url: URL) -> URL:
    """Return the URL of a file, or of memory, once its driver has taken what it says."""
    try:
        url.get_dialect()().create_connect_args(url)
        if "\0" in (url.database or ""):
            raise ValueError
    except ArgumentError:  # sqlite://file.db: what is meant for a file is a host there
        raise InvalidSetting("the URL of an SQLite file names a host", hint=_OF_A_FILE) from None
    except ValueError:
        raise InvalidSetting(
            "the file, or a parameter, in the URL of an SQLite file cannot be understood",
            hint=_OF_A_FILE,
        ) from None
    return url


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
        listen_url: str = "",
        keys: "DataKeys | None" = None,
    ) -> None:
        """Tables stand in `schema`; SQLite has none. What is encrypted opens with `keys`.

        With `generic_plans`, the server plans a statement without looking at its parameters.
        `listen_url` leads to the same database, where `url` leads to a pooler.
        """
        address = address_of(url)
        self.url = engine_url(address) if address is not None else _file_url(url)
        self.is_postgres = address is not None
        self.schema = schema if self.is_postgres else None
        self._apart = listening_address(url, listen_url)
        self.listens_elsewhere = bool(listen_url)
        self.keys = keys
        alone = FILE if self.url.database else MEMORY
        self._capabilities = SERVER if self.is_postgres else alone
        self._new_engine = partial(
            _open,
            self.url,
            address,
            schema=self.schema,
            pool_size=pool_size,
            overflow=overflow,
            generic_plans=generic_plans,
        )
        self._opened = Opened()
        self._lock = threading.Lock()
        self._engines: _Engines | None = self._open()
        self._closed = False  #: and what it held is gone
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
        """Run a transaction: committed at the end, rolled back on an error.

        A data key that was found missing is fetched when the connection is given back. Nothing was
        written then, and KeyFetched says so: the same again finds it.
        """
        try:
            with translated(), self._of_process().engine.begin() as conn:
                yield conn
        except KeyWanted as wanted:
            fetch(self.keys, wanted)
            raise KeyFetched from None

    @contextmanager
    def single(self) -> Iterator[Connection]:
        """Run statements that are each a transaction of their own: one round trip, not three.

        Where that would not be READ COMMITTED, they are a transaction together. See `begin`.
        """
        if not self.is_postgres:
            with self.begin() as conn:
                yield conn
            return
        try:
            with translated(), self._of_process().single.connect() as conn:
                if is_pinned(conn):
                    yield conn
                    return
                conn.execution_options(isolation_level=ISOLATION)
                with conn.begin():
                    yield conn
        except KeyWanted as wanted:
            fetch(self.keys, wanted)
            raise KeyFetched from None

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Read what stood at one moment, however long that takes; rows come as they are taken."""
        try:
            with translated(), self._of_process().engine.connect() as conn:
                conn.execution_options(stream_results=True, **{READS: True})
                if self.is_postgres:
                    conn.execution_options(isolation_level="REPEATABLE READ")
                with conn.begin():
                    yield conn
        except KeyWanted as wanted:
            fetch(self.keys, wanted)
            raise KeyFetched from None

    def run(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a store function in a transaction of its own, with the data keys that it needs."""
        while True:
            try:
                with self.begin() as conn:
                    return function(conn, *args, **kwargs)
            except KeyFetched:
                continue

    def run_single(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a store function whose statements are each a transaction of their own. See `run`."""
        while True:
            try:
                with self.single() as conn:
                    return function(conn, *args, **kwargs)
            except KeyFetched:
                continue

    def cut_log(self) -> int:
        """Let a file of SQLite hold nothing more of what was deleted; how many pages do yet.

        In servers that is what VACUUM is for, and no log is there for long.
        """
        if self.is_postgres:
            return 0
        from turnmill.store.sqlite import cut_log  # noqa: PLC0415  who has a server needs none

        return cut_log(self._of_process().engine)

    @contextmanager
    def apart(self) -> Iterator[Connection]:
        """Open a connection beside the pool, for whoever keeps it for long. Postgres only."""
        assert self._apart is not None
        engine = create_engine(
            engine_url(self._apart),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            connect_args=connect_args(self._apart),
        )
        dial(engine, self._apart)
        self._opened.watch(engine)
        with translated(), engine.connect() as conn:
            yield conn

    def tells(self, conn: Connection) -> bool:
        """Tell whether LISTEN is of use on a connection from `apart`.

        A pooler may hand the server's connection on after each transaction, and what it is told
        with it. Who has named a URL to listen on has chosen.
        """
        return self.listens_elsewhere or not is_pooled(conn)

    def close(self) -> None:
        """Give all connections back to the server. What lies in memory is gone with its own."""
        if self._engines is not None:
            self._engines.engine.dispose()
        if not self.can(Capability.LASTING):
            self._engines, self._closed = None, True
        if self.keys is not None:
            self.keys.store.close()

    def start_afresh(self) -> None:
        """Open connections anew: see `turnmill.forking`."""
        self._engines = None
        self._lock = threading.Lock()

    def _of_process(self) -> "_Engines":
        if (found := self._engines) is not None:
            return found
        if self._closed:
            from turnmill.grouping import Stopped  # noqa: PLC0415  seldom raised

            raise Stopped("what was kept in memory is gone: its client was closed")
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
        attach(engine.dialect, self.keys)
        self._opened.watch(engine)
        return _Engines(engine, engine.execution_options(isolation_level="AUTOCOMMIT"))


class _Engines(NamedTuple):
    engine: Engine
    single: Engine  #: of the same pool: every statement is a transaction of its own


def listening_address(url: str, listen_url: str) -> Address | None:
    """Return where to listen, or None for a store that tells nothing."""
    found = address_of(listen_url or url)
    if listen_url and found is None:
        raise InvalidSetting(
            "TURNMILL_LISTEN_URL is no postgresql:// URL",
            hint="the same database as TURNMILL_DATABASE_URL, past the pooler",
        )
    return found


def _open(
    url: URL,
    address: Address | None,
    *,
    schema: str | None,
    pool_size: int,
    overflow: int,
    generic_plans: bool,
) -> Engine:
    options_of_schema = execution_options(schema)
    if address is not None:
        engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=overflow,
            pool_timeout=30,
            isolation_level=ISOLATION,
            hide_parameters=True,
            execution_options=options_of_schema,
            connect_args=connect_args(address, generic_plans=generic_plans),
        )
        tend(engine, address)
        return engine
    from turnmill.store.sqlite import open_sqlite  # noqa: PLC0415  who has a server needs none

    return open_sqlite(
        url,
        pool_size=pool_size,
        overflow=overflow,
        execution_options=options_of_schema,
        reads=READS,
    )
