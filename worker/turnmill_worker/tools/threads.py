"""Threads for tools that are no coroutines: so many at once, and none that anybody waits for."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

#: Calls of synchronous tools that a process runs at once.
MOST = 64


@dataclass(frozen=True, slots=True)
class Ran:
    """What a call has returned, or raised."""

    result: Any = field(repr=False)
    raised: BaseException | None = field(repr=False)


class Threads:
    """A bounded number of threads, each for one call.

    A thread cannot be stopped. One that outlasts its call keeps its place until it has ended, and
    holds up neither the event loop nor the exit of the process.
    """

    def __init__(self, most: int = MOST) -> None:
        self._places = asyncio.Semaphore(most)

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
        context = contextvars.copy_context()

        def tell(ran: Ran) -> None:
            self._places.release()
            if not ended.done():
                ended.set_result(ran)

        def run() -> None:
            try:
                ran = Ran(context.run(work), None)
            except BaseException as raised:  # noqa: BLE001
                # The edge to a tool: whatever it raises belongs to its call.
                ran = Ran(None, raised)
            with suppress(RuntimeError):  # the loop is gone, and with it whoever waited
                loop.call_soon_threadsafe(tell, ran)

        threading.Thread(target=run, name="turnmill-tool", daemon=True).start()
        return ended
