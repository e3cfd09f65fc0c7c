"""A thread that handles in one go whatever has piled up since it last looked."""

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Generic, TypeVar

from turnmill.domain.errors import StoreError
from turnmill.forking import in_child

logger = logging.getLogger("turnmill.grouping")

#: Where so many more are to be expected, a group is let pile up.
_WORTHWHILE = 8
#: So many get their results in one round of an event loop: what else is ready there comes between.
_AT_ONCE = 20

Item = TypeVar("Item")
Result = TypeVar("Result")

_Job = tuple[asyncio.Future[Result] | None, Item]
_Told = tuple[asyncio.Future[Result], Result | BaseException]


class Stopped(StoreError):
    """The thread has ended, and nothing is handled any more."""

    code = "stopped"
    hint = "the client, or the worker, was closed: make another one"


def _weightless(item: Any) -> int:
    return 0


class Grouped(Generic[Item, Result]):
    """Passes items from event loops to `handle`, many at a time.

    While `handle` works, items pile up, and what is submitted in one round of a loop comes
    together; a lone item is handled at once. Only where nobody waits for any of them, as many come
    in and `gathers` is given, the thread lets them pile up for so long before it takes the next
    group. `handle` returns one result for each item, in order, an exception where an item has
    none; what it raises, everybody in the group gets.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[Sequence[Item]], Sequence[Result | BaseException]],
        *,
        most: int,
        weigh: Callable[[Item], int] = _weightless,
        heaviest: int = 1,
        gathers: timedelta = timedelta(0),
    ) -> None:
        """A group holds `most` items, and takes no more once it weighs `heaviest`.

        `gathers` is how long the next group may pile up, where many come in.
        """
        self._name = name
        self._handle = handle
        self._most = most
        self._gathers = gathers.total_seconds()
        self._weigh = weigh
        self._heaviest = heaviest
        self._stopped = False
        self.start_afresh()
        in_child(self)

    def start_afresh(self) -> None:
        """Begin with nothing, and without a thread until somebody submits."""
        self._inbox: queue.SimpleQueue[_Job[Result, Item] | None] = queue.SimpleQueue()
        #: by event loop, what was submitted in this round of it
        self._gathered: dict[asyncio.AbstractEventLoop, deque[_Job[Result, Item]]] = {}
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._stopping = threading.Event()
        self._taken_at = float("-inf")  #: when the last group was taken
        self._pace = 0.0  #: how many came in a second, between that and the one before

    async def submit(self, item: Item) -> Result:
        """Return the item's result. Cancelling the wait does not take the item back.

        Raises Stopped after `stop`.
        """
        return await self.begin(item)

    def begin(self, item: Item) -> asyncio.Future[Result]:
        """Return what has the item's result once there is one; see `submit`."""
        if self._stopped:
            raise Stopped
        if self._thread is None:
            self._start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        gathered = self._gathered.get(loop)
        if gathered is None:
            gathered = self._gathered[loop] = deque()
            loop.call_soon(self._hand_over, loop)
        gathered.append((future, item))
        return future

    def give(self, item: Item) -> None:
        """Hand an item over whose result nobody waits for; once we have stopped, it is dropped."""
        with suppress(Stopped):
            if self._thread is None:
                self._start()
            if not self._stopped:
                self._inbox.put((None, item))

    def stop(self) -> None:
        """Handle what is left, then end the thread. Who came too late gets Stopped."""
        with self._starting:
            self._stopped, thread = True, self._thread
        self._stopping.set()
        for gathered in list(self._gathered.values()):
            self._put(gathered)
        self._inbox.put(None)
        if thread is not None:
            thread.join(timeout=30.0)
        while (thread is None or not thread.is_alive()) and (late := self._at_once(1)):
            self._tell(late, [Stopped()])

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the thread have what was submitted in this round, as one group where it can be one.

        The thread would wake with the first of them, and handle that alone.
        """
        gathered = self._gathered.pop(loop, None) or deque()  # of a parent: nothing is ours
        if self._stopped and (self._thread is None or not self._thread.is_alive()):
            self._tell(gathered, [Stopped()] * len(gathered))
        else:
            self._put(gathered)

    def _put(self, gathered: "deque[_Job[Result, Item]]") -> None:
        with suppress(IndexError):  # from two threads, where one stops what the other submits to
            while True:
                self._inbox.put(gathered.popleft())

    def _start(self) -> None:
        with self._starting:
            if self._stopped:
                raise Stopped
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"turnmill-{self._name}", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            try:
                results: Sequence[Result | BaseException] = self._handle(
                    [item for _, item in group]
                )
            except Exception as error:  # noqa: BLE001
                # The edge of this thread: the error belongs to those who wait.
                results = [error] * len(group)
            self._tell(group, results)
            del group, results  # nothing is kept while nobody submits

    def _tell(
        self, group: Sequence[_Job[Result, Item]], results: Sequence[Result | BaseException]
    ) -> None:
        told: dict[asyncio.AbstractEventLoop, list[_Told[Result]]] = {}
        for (future, _), result in zip(group, results, strict=True):
            if future is None:
                if isinstance(result, BaseException):
                    logger.error("%s: %s; nobody waits for it", self._name, type(result).__name__)
                continue
            told.setdefault(future.get_loop(), []).append((future, result))
        for loop, results_there in told.items():
            try:
                loop.call_soon_threadsafe(_deliver, loop, results_there)
            except RuntimeError:
                logger.warning("the event loop is gone; %d results dropped", len(results_there))

    def _next_group(self) -> list[_Job[Result, Item]] | None:
        if self._pace * self._gathers >= _WORTHWHILE and self._inbox.qsize() < self._most // 2:
            self._stopping.wait(self._gathers)
        first = self._inbox.get()
        if first is None:
            return None
        group = [first, *self._at_once(self._most - 1, weight=self._weigh(first[1]))]
        if self._gathers:
            before, self._taken_at = self._taken_at, time.monotonic()
            self._pace = len(group) / (self._taken_at - before + 1e-9)
        return group

    def _at_once(self, most: int, *, weight: int = 0) -> list[_Job[Result, Item]]:
        """Return up to `most` jobs that wait already, for a group that weighs so much."""
        found: list[_Job[Result, Item]] = []
        while len(found) < most and weight < self._heaviest:
            try:
                job = self._inbox.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._inbox.put(None)
                break
            weight += self._weigh(job[1])
            found.append(job)
        return found


def _deliver(loop: asyncio.AbstractEventLoop, told: Sequence[_Told[Result]]) -> None:
    if len(told) > _AT_ONCE:
        loop.call_soon(_deliver, loop, told[_AT_ONCE:])
    for future, result in told[:_AT_ONCE]:
        if future.done():
            continue  # nobody waits any more
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
