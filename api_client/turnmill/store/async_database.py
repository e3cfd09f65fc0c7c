"""A store for asyncio: it runs the very functions of the store, so there is no second SQL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import Connection, NullPool
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from turnmill.per_loop import PerLoop
from turnmill.store.database import (
    ISOLATION,
    Database,
    connect_args,
    is_pinned,
    parse_url,
    tend,
)
from turnmill.store.opened import Opened
from turnmill.store.refusals import translated
from turnmill.store.schema_name import SCHEMA, execution_options

P = ParamSpec("P")
T = TypeVar("T")


class AsyncDatabase:
    """A Postgres store with a pool of connections for each event loop that it is used on."""

    def __init__(
        self, url: str, *, schema: str = SCHEMA, pool_size: int = 5, overflow: int = 10
    ) -> None:
        self.url = parse_url(url)
        self._new_engine = partial(
            create_async_engine,
            self.url,
            pool_size=pool_size,
            max_overflow=overflow,
            pool_timeout=30,
            isolation_level=ISOLATION,
            hide_parameters=True,
            execution_options=execution_options(schema),
            connect_args=connect_args(self.url),
        )
        self._engines = PerLoop(self._open, close=_Engines.close, drop=_Engines.drop)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Run a transaction: committed at the end, rolled back on an error."""
        with translated():
            async with self._engines.here().engine.begin() as conn:
                yield conn

    @asynccontextmanager
    async def single(self) -> AsyncIterator[AsyncConnection]:
        """Run statements that are each a transaction of their own. See `Database.single`."""
        with translated():
            async with self._engines.here().single.connect() as conn:
                inner = conn.sync_connection
                if inner is not None and is_pinned(inner):
                    yield conn
                    return
                await conn.execution_options(isolation_level=ISOLATION)
                async with conn.begin():
                    yield conn

    @asynccontextmanager
    async def apart(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection beside the pool, for whoever keeps it for long."""
        engine = create_async_engine(
            self.url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            connect_args=connect_args(self.url),
        )
        self._engines.here().opened.watch(engine.sync_engine)
        with translated():
            async with engine.connect() as conn:
                yield conn

    async def run(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a store function in a transaction of its own."""
        async with self.begin() as conn:
            return await conn.run_sync(function, *args, **kwargs)

    async def run_single(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a store function whose statements are each a transaction of their own."""
        async with self.single() as conn:
            return await conn.run_sync(function, *args, **kwargs)

    async def close(self) -> None:
        """Give all connections back to the server, those of other event loops too."""
        await self._engines.close()

    def _open(self) -> "_Engines":
        engine = self._new_engine()
        tend(engine.sync_engine)
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
            with self._database.begin() as conn:
                return function(conn, *args, **kwargs)

        return await asyncio.to_thread(within)

    run_single = run

    async def close(self) -> None:
        """Do nothing: whoever opened the store closes it."""
