"""Reading ahead: while some results are taken, the next ones are read, and no more than those."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from turnmill_worker.providers.batch_port import Answered, Take


class Ahead:
    """Hands results on, some at a time and in order; whoever gives more waits for those before.

    At the end of the block all were taken. A failure is raised there, or by the next `take`.
    """

    def __init__(self, take: Take) -> None:
        self._take = take
        self._work: asyncio.Future[None] | None = None

    async def take(self, some: Sequence[Answered]) -> None:
        """Let these be taken as soon as those before them are."""
        await self._taken()
        self._work = asyncio.ensure_future(self._take(some))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self._taken()
        elif self._work is not None:  # it is on its way: nobody else begins before it has ended
            await asyncio.gather(self._work, return_exceptions=True)

    async def _taken(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            await work
