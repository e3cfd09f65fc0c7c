"""Calling an observer: one event at a time, for so long and no longer, whatever it does."""

import asyncio
import inspect
from datetime import timedelta

from turnmill.store.nouns.events import Event
from turnmill_worker.observers.port import Observer
from turnmill_worker.providers.foreign import name_of
from turnmill_worker.threads import Threads

#: What came of a call that did not return in time, and of one while that still runs.
LATE, BUSY = "timeout", "still_running"


class Calling:
    """One observer, called on the loop or on a thread of its own."""

    def __init__(self, observer: Observer, *, name: str, timeout: timedelta) -> None:
        self._observer = observer
        self._timeout = timeout.total_seconds()
        self._on_loop = any(map(inspect.iscoroutinefunction, (observer, type(observer).__call__)))
        self._call: asyncio.Task[str | None] | None = None
        self._threads = Threads(1, name=f"observer-{name}")

    async def tell(self, event: Event) -> str | None:
        """Tell it; returns None when it is done with the event, or the name of what went wrong.

        What does not end is left behind, and only one such call: until it ends, all others fail.
        """
        if self._is_busy:
            return BUSY
        self._call = asyncio.create_task(self._outcome(event))
        try:
            done, _ = await asyncio.wait({self._call}, timeout=self._timeout)
        finally:
            self._call.cancel()
        return self._call.result() if done else LATE

    @property
    def _is_busy(self) -> bool:
        return self._threads.are_busy or (self._call is not None and not self._call.done())

    async def _outcome(self, event: Event) -> str | None:
        try:
            if self._on_loop:
                answer: object = self._observer(event)
            else:
                ran = await self._threads.call(lambda: self._observer(event))
                if ran.raised is not None:
                    return name_of(ran.raised)
                answer = ran.result
            if inspect.isawaitable(answer):
                await answer
        except BaseException as error:  # noqa: BLE001
            # The edge to other people's code: not even its wish to exit is ours.
            return name_of(error)
        return None
