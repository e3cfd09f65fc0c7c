"""Threads for tools that are no coroutines: so many at once, and none that anybody waits for."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

#: Calls of synchronous tools that a process runs at once.
MOST = 64


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

    def run(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run it in the place that was taken, which is free again when it has ended."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def tell(result: Any, error: BaseException | None) -> None:
            self._places.release()
            if ended.done():
                return  # nobody waits any more
            if error is None:
                ended.set_result(result)
            else:
                ended.set_exception(error)

        def run() -> None:
            result, error = None, None
            try:
                result = context.run(work)
            except BaseException as raised:  # noqa: BLE001
                # The edge to a tool: whatever it raises belongs to its call.
                error = _Raised(raised)
            try:
                loop.call_soon_threadsafe(tell, result, error)
            except RuntimeError:
                return  # the loop is gone, and with it whoever waited

        threading.Thread(target=run, name="turnmill-tool", daemon=True).start()
        return ended


class _Raised(Exception):
    """Carries what a tool has raised: no future takes a StopIteration, no loop a SystemExit."""

    def __init__(self, raised: BaseException) -> None:
        super().__init__()
        self.raised = raised


def raised_by(error: BaseException) -> BaseException:
    """Return what the tool itself has raised."""
    return error.raised if isinstance(error, _Raised) else error
