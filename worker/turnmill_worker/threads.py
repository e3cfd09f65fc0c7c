"""Threads for code of others that is no coroutine: so many at once, and none that is waited for.

Never `asyncio.to_thread`: its few threads are those that rows are written on, and a function that
hangs would keep one of them for good.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from turnmill_worker.providers.decimals import apart


@dataclass(frozen=True, slots=True)
class Ran:
    """What a call has returned, or raised."""

    result: Any = field(repr=False)
    raised: BaseException | None = field(repr=False)


def ran_here(work: Callable[[], Any]) -> Ran:
    """Run it on this thread, and return what became of it."""
    try:
        return Ran(work(), None)
    except BaseException as raised:  # noqa: BLE001
        # The edge to code of others: whatever it raises belongs to its call.
        return Ran(None, raised)


class Threads:
    """A bounded number of threads, each for one call.

    A thread cannot be stopped. One that outlasts its call keeps its place until it has ended, and
    holds up neither the event loop nor the exit of the process.
    """

    def __init__(self, most: int, *, name: str) -> None:
        self._places = asyncio.Semaphore(most)
        self._name = name

    @property
    def are_busy(self) -> bool:
        """Tell whether every place is taken."""
        return self._places.locked()

    async def call(self, work: Callable[[], Any]) -> Ran:
        """Run it as soon as there is a place; who is cancelled meanwhile leaves it behind."""
        await self.take()
        return await self.run(work)

    async def take(self) -> None:
        """Take a place for one call: wait until there is one."""
        await self._places.acquire()

    def give_back(self) -> None:
        """Give back a place that was not used."""
        self._places.release()

    def run(self, work: Callable[[], Any]) -> asyncio.Future[Ran]:
        """Run it in the place that was taken, which is free again when it has ended."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Ran] = loop.create_future()
        context = apart()

        def tell(ran: Ran) -> None:
            self._places.release()
            if not ended.done():
                ended.set_result(ran)

        def run() -> None:
            ran = ran_here(partial(context.run, work))
            with suppress(RuntimeError):  # the loop is gone, and with it whoever waited
                loop.call_soon_threadsafe(tell, ran)

        try:
            threading.Thread(target=run, name=f"turnmill-{self._name}", daemon=True).start()
        except RuntimeError:  # this machine gives no more threads
            self._places.release()
            raise
        return ended
