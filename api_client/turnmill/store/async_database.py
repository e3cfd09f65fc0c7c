"""A store for asyncio: it runs the very functions of the store, so there is no second SQL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, NullPool
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from turnmill.store.database import (
    ISOLATION,
    Database,
    connect_args,
    is_pinned,
    parse_url,
    tend,
)
from turnmill.store.refusals import translated
from turnmill.store.schema_name import SCHEMA, execution_options

P = ParamSpec("P")
T = TypeVar("T")


class AsyncDatabase:
    """A Postgres store and its pool of connections, used from one event loop."""

    def __init__(
        self, url: str, *, schema: str = SCHEMA, pool_size: int = 5, overflow: int = 10
    ) -> None:
        self.url = parse_url(url)
        self.engine: AsyncEngine = create_async_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=overflow,
            pool_timeout=30,
            isolation_level=ISOLATION,
            hide_parameters=True,
            execution_options=execution_options(schema),
            connect_args=connect_args(self.url),
        )
        tend(self.engine.sync_engine)
        self._single = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Run a transaction: committed at the end, rolled back on an error."""
        with translated():
            async with self.engine.begin() as conn:
                yield conn

    @asynccontextmanager
    async def single(self) -> AsyncIterator[AsyncConnection]:
        """Run statements that are each a transaction of their own. See `Database.single`."""
        with translated():
            async with self._single.connect() as conn:
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
        """Give all connections back to the server."""
        await self.engine.dispose()


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
