"""Recalling: what turns wait for is there before its time, and they come, few at first."""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from datetime import timedelta
from typing import Any

from turnmill.domain.errors import StoreError
from turnmill.store.line.recall import recall
from turnmill.store.records import Head
from turnmill_worker.gates.rows import Rows

logger = logging.getLogger("turnmill.gates")

#: What is waited for, the provider and the model.
_Named = tuple[frozenset[str], str, str]

_FIRST, _MOST = 16, 500
_PAUSE = timedelta(milliseconds=250)
#: What was claimed at the moment of a look is seen at the next one.
_LOOKS = 3


class Recalling:
    """Tasks that recall, one for each thing waited for. Other processes may do the same."""

    def __init__(self, rows: Rows, announce: Callable[[Head], None]) -> None:
        self._rows = rows
        self._announce = announce
        self._tasks: dict[_Named, asyncio.Task[None]] = {}

    def all(
        self,
        waits_for: Collection[str],
        *,
        provider: str,
        model: str,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> None:
        """Recall all that wait, while it goes on."""
        named = (frozenset(waits_for), provider, model)
        if named in self._tasks:
            return
        self._begin(named, self._all(*named, goes_on))

    def once(self, waits_for: Collection[str], *, provider: str, model: str, limit: int) -> None:
        """Recall up to `limit` of those that wait, beside what goes on."""
        named = (frozenset(waits_for), provider, model)
        if named not in self._tasks:
            self._begin(named, self._once(*named, limit))

    async def some(
        self, waits_for: Collection[str], *, provider: str, model: str, limit: int
    ) -> int:
        """Recall up to `limit` of those that wait; return how many came."""
        try:
            heads = await self._rows.write(
                recall, waits_for, provider=provider, model=model, limit=limit
            )
        except StoreError as error:
            logger.warning("cannot recall turns: %s; they come in their own time", error.code)
            return 0
        for head in heads:
            self._announce(head)
        return len(heads)

    async def stop(self) -> None:
        """Recall no more."""
        for task in list(self._tasks.values()):
            task.cancel()

    def _begin(self, named: _Named, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks[named] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda _: self._tasks.pop(named, None))

    async def _once(self, waits_for: frozenset[str], provider: str, model: str, limit: int) -> None:
        await self.some(waits_for, provider=provider, model=model, limit=limit)

    async def _all(
        self,
        waits_for: frozenset[str],
        provider: str,
        model: str,
        goes_on: Callable[[], bool],
    ) -> None:
        limit, looks = _FIRST, _LOOKS
        while looks and goes_on():
            came = await self.some(waits_for, provider=provider, model=model, limit=limit)
            looks = _LOOKS if came else looks - 1
            limit = min(limit * 2, _MOST)
            await asyncio.sleep(_PAUSE.total_seconds())
