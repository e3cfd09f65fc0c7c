"""The poller: takes what is due without having been told, so that turns need no broker.

Nothing here knows what a broker is, or how one fails. What is due, not paused, and has been left
lying for longer than a hint takes, while no hint of its lane came: that is taken, as a hint would
have had it taken.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, assert_never

from turnmill.domain.errors import StoreError
from turnmill.domain.states import Lane
from turnmill_worker.turn.bulk import claim_many, run_bulk
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.run import run_one

logger = logging.getLogger("turnmill.poller")

#: Where hints come, they take milliseconds: without any for so long, something may be amiss, and
#: what has been due for so long, nobody was told of.
_PATIENCE = timedelta(milliseconds=750)
_LOOK_EVERY = timedelta(milliseconds=250)
#: The same while it has turned out to be so.
_PATIENCE_ALONE = timedelta(milliseconds=100)
_LOOK_EVERY_ALONE = timedelta(milliseconds=100)
#: A hint has a process started somewhere, and that takes its time.
_PATIENCE_QUARANTINE = timedelta(seconds=2)
#: How long after the last turn that was taken so.
_ALONE_FOR = timedelta(seconds=5)
#: How long a wake lasts: until the dispatcher looks again.
_WAKEFUL = timedelta(seconds=1.5)
#: Turns that are taken at once: other processes look for work, too.
_HANDFUL = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What Celery's consumer tells of the hints of this process. Asked from any thread."""

    lanes: Callable[[], Collection[Lane]]  #: whose queues it consumes
    heard: Callable[[Lane], int]  #: how many have been taken from a lane's queue
    connected: Callable[[], bool]  #: to the broker


class PollerStore(Protocol):
    """What the poller needs of the store, beside what running a turn needs."""

    async def longest_waits(self) -> dict[Lane, timedelta]:
        """Return how long the first in each lane has been due and not taken."""
        ...


class Poller:
    """One asyncio task of a process with a dispatcher.

    While nothing is left lying it sleeps, and while hints come it makes no query.
    """

    def __init__(
        self,
        deps: Deps,
        ledger: PollerStore,
        hints: Hints,
        *,
        quarantine: Callable[[], Awaitable[Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`quarantine` runs what is due there, in processes of its own."""
        self._deps = deps
        self._ledger = ledger
        self._hints = hints
        self._quarantine = quarantine
        self._clock = clock
        self._counts = dict.fromkeys(Lane, 0)
        self._heard_at = dict.fromkeys(Lane, clock())
        self._looks_until = 0.0
        self._alone_until = 0.0  #: hints are not to be expected until then
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._started: set[asyncio.Task[Any]] = set()

    def listen(self) -> None:
        """Notice which lanes have had hints. From any thread, often: it costs next to nothing."""
        for lane in Lane:
            count = self._hints.heard(lane)
            if count != self._counts[lane] or self._wants_none(lane):
                self._counts[lane] = count
                self._heard_at[lane] = self._clock()

    def wake(self) -> None:
        """Look for a while: something is due, and was not taken yet. From any thread."""
        self._looks_until = self._clock() + _WAKEFUL.total_seconds()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        """Look whenever woken, until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._clock() < self._looks_until:
                try:
                    await self.look()
                except StoreError as error:
                    logger.warning("cannot look for what is due: %s; trying again", error.code)
                except Exception as error:  # noqa: BLE001
                    # The edge of this task: without it, turns would depend on the broker.
                    logger.error("looking for what is due failed: %s", type(error).__name__)
                every = _LOOK_EVERY_ALONE if self._is_alone() else _LOOK_EVERY
                await asyncio.sleep(every.total_seconds())

    async def look(self) -> None:
        """Take what has been left lying in the lanes that no hints come for."""
        self.listen()
        if not self._deps.accepting():
            return
        lanes = [one for one in self._hints.lanes() if self._is_deaf(one) and self._room(one)]
        if not lanes:
            return
        waits = await self._ledger.longest_waits()
        taken, soon = 0, False
        for lane in waits.keys() & set(lanes):
            if waits[lane] >= self._patience(lane):
                taken += await self._take(lane)
            else:
                soon = True
        if taken:
            self._note_alone()
        elif not soon:
            self._looks_until = self._alone_until  # all else is for the dispatcher to see

    def _is_deaf(self, lane: Lane) -> bool:
        return self._clock() - self._heard_at[lane] > _PATIENCE.total_seconds()

    def _patience(self, lane: Lane) -> timedelta:
        if lane is Lane.QUARANTINE:
            return _PATIENCE if self._is_alone() else _PATIENCE_QUARANTINE
        return _PATIENCE_ALONE if self._is_alone() else _PATIENCE

    def _wants_none(self, lane: Lane) -> bool:
        """Tell whether no hint is to be expected: tasks claim already, and go on while much is due.

        Without a broker that says nothing.
        """
        return lane is Lane.BULK and self._deps.slots.is_claimed_for and not self._is_alone()

    def _is_alone(self) -> bool:
        return self._clock() < self._alone_until

    def _note_alone(self) -> None:
        if not self._is_alone():
            logger.warning("no hints come: taking what is due without", extra={"action": "polling"})
        self._alone_until = self._clock() + _ALONE_FOR.total_seconds()
        self._looks_until = max(self._looks_until, self._alone_until)

    def _room(self, lane: Lane) -> int:
        """Return how many turns of the lane could start; where many share a task, 0: none could."""
        slots = self._deps.slots
        if lane is Lane.QUARANTINE:
            return 1
        if lane is Lane.BULK:
            return 0 if slots.is_claimed_for else max(slots.free(lane), int(slots.owes_bulk))
        return slots.free(lane)

    async def _take(self, lane: Lane) -> int:
        """Start what is due, and return how many tasks that took."""
        match lane:
            case Lane.INTERACTIVE:
                return await self._take_turns(lane)
            case Lane.BULK:
                self._start(run_bulk(self._deps))
                return 1
            case Lane.QUARANTINE:
                # Suspects may be due and wait for their company to have room: they take no haste.
                self._start(self._visit())
                return 0
            case _:
                assert_never(lane)

    async def _take_turns(self, lane: Lane) -> int:
        # Half of what there is room for, so that others who have room find something, too.
        wanted = min(_HANDFUL, -(-self._room(lane) // 2))
        claims = await claim_many(self._deps, lane, self._deps.slots.take(lane, most=wanted))
        for claim in claims:
            turn = self._start(run_one(claim, self._deps))
            turn.add_done_callback(lambda _: self._deps.slots.give_back())
        return len(claims)

    async def _visit(self) -> None:
        try:
            await self._quarantine()
        except Exception as error:  # noqa: BLE001
            # The edge to the operating system, which may refuse a process.
            logger.error("quarantine failed: %s", type(error).__name__)

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._started.add(task)
        task.add_done_callback(self._started.discard)
        return task
