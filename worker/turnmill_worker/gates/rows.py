"""The rows behind the gates, asked beside the event loop."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from turnmill.store.database import Database

T = TypeVar("T")


class Rows:
    """The store, as gates ask it."""

    def __init__(self, database: Database, *, owner: str) -> None:
        self._database = database
        self.owner = owner  #: of permits and probes; gone with this process

    async def write(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """Do it in a transaction of its own; raises StoreError."""

        def run() -> T:
            with self._database.begin() as conn:
                return function(conn, *args, **options)

        return await asyncio.to_thread(run)

    async def read(self, *functions: Callable[..., Any]) -> list[Any]:
        """Return what each of them reads, on one connection; raises StoreError."""

        def run() -> list[Any]:
            with self._database.single() as conn:
                return [function(conn) for function in functions]

        return await asyncio.to_thread(run)
