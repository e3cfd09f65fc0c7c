"""A store for asyncio: it runs the very functions of the store, so there is no second SQL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Concatenate, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import Connection, NullPool
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from turnmill.connections.postgres import read
from turnmill.crypto.wanted import KeyWanted
from turnmill.per_loop import PerLoop
from turnmill.store.database import Database, listening_address
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

P = ParamSpec("P")
T = TypeVar("T")


class AsyncDatabase:
    """A Postgres store with a pool of connections for each event loop that it is used on."""

    def __init__(
        self,
        url: str,
        *,
        schema: str = SCHEMA,
        pool_size: int = 5,
        overflow: int = 10,
        listen_url: str = "",
        keys: "DataKeys | None" = None,
    ) -> None:
        """See `Database`."""
        self.keys = keys
        self._address = read(url)
        self._apart = listening_address(url, listen_url)
        self._listens_elsewhere = bool(listen_url)
        self._new_engine = partial(
            create_async_engine,
            engine_url(self._address),
            pool_size=pool_size,
            max_overflow=overflow,
            pool_timeout=30,
            isolation_level=ISOLATION,
            hide_parameters=True,
            execution_options=execution_options(schema),
            connect_args=connect_args(self._address),
        )
        self._engines = PerLoop(self._open, close=_Engines.close, drop=_Engines.drop)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Run a transaction: committed, or rolled back on an error. See `Database.begin`."""
        try:
            with translated():
                async with self._engines.here().engine.begin() as conn:
                    yield conn
        except KeyWanted as wanted:
            await asyncio.to_thread(fetch, self.keys, wanted)
            raise KeyFetched from None

    @asynccontextmanager
    async def single(self) -> AsyncIterator[AsyncConnection]:
        """Run statements that are each a transaction of their own. See `Database.single`."""
        try:
            with translated():
                async with self._engines.here().single.connect() as conn:
                    inner = conn.sync_connection
                    if inner is not None and is_pinned(inner):
                        yield conn
                        return
                    await conn.execution_options(isolation_level=ISOLATION)
                    async with conn.begin():
                        yield conn
        except KeyWanted as wanted:
            await asyncio.to_thread(fetch, self.keys, wanted)
            raise KeyFetched from None

    @asynccontextmanager
    async def apart(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection beside the pool, for whoever keeps it for long."""
        assert self._apart is not None
        engine = create_async_engine(
            engine_url(self._apart),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            connect_args=connect_args(self._apart),
        )
        dial(engine.sync_engine, self._apart)
        self._engines.here().opened.watch(engine.sync_engine)
        with translated():
            async with engine.connect() as conn:
                yield conn

    def tells(self, conn: AsyncConnection) -> bool:
        """Tell whether LISTEN is of use on a connection from `apart`. See `Database.tells`."""
        inner = conn.sync_connection
        return self._listens_elsewhere or (inner is not None and not is_pooled(inner))

    async def run(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a store function in a transaction of its own."""
        while True:
            try:
                async with self.begin() as conn:
                    return await conn.run_sync(function, *args, **kwargs)
            except KeyFetched:
                continue

    async def run_single(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a store function whose statements are each a transaction of their own."""
        while True:
            try:
                async with self.single() as conn:
                    return await conn.run_sync(function, *args, **kwargs)
            except KeyFetched:
                continue

    async def close(self) -> None:
        """Give all connections back to the server, those of other event loops too."""
        await self._engines.close()

    def _open(self) -> "_Engines":
        engine = self._new_engine()
        tend(engine.sync_engine, self._address)
        attach(engine.dialect, self.keys)
        opened = Opened()
        opened.watch(engine.sync_engine)
        return _Engines(engine, engine.execution_options(isolation_level="AUTOCOMMIT"), opened)


class _Engines(NamedTuple):
    """What belongs to one event loop."""

    engine: AsyncEngine
    single: AsyncEngine  #: of the same pool: every statement is a transaction of its own
    opened: Opened

    async def close(self) -> None:
        await self.engine.dispose()

    def drop(self) -> None:
        self.opened.drop()


class ThreadedDatabase:
    """A single-process store behind the same verbs: every transaction runs in a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a store function in a transaction of its own."""

        def within() -> T:
            return self._database.run(function, *args, **kwargs)

        return await asyncio.to_thread(within)

    run_single = run

    async def close(self) -> None:
        """Do nothing: whoever opened the store closes it."""
