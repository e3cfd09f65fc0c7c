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
from turnmill_worker.bulk import claim_many, run_bulk, run_one
from turnmill_worker.turn import Deps

logger = logging.getLogger("turnmill.poller")

#: Where hints come, they take milliseconds: without any for so long, something may be amiss, and
#: what has been due for so long, nobody was told of.
_PATIENCE = timedelta(milliseconds=750)
_LOOK_EVERY = timedelta(milliseconds=250)
#: The same for as long as this has turned out to be so.
_PATIENCE_ALONE = timedelta(milliseconds=100)
_LOOK_EVERY_ALONE = timedelta(milliseconds=100)
#: How long after the last turn that was taken so.
_ALONE_FOR = timedelta(seconds=5)
#: Turns that are taken at once: other processes look for work, too.
_HANDFUL = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What Celery's consumer tells of the hints of this process. Asked from any thread."""

    lanes: Callable[[], Collection[Lane]]  #: whose queues it consumes
    heard: Callable[[Lane], int]  #: how many have been taken from a lane's queue
    elsewhere: Callable[[], int]  #: how many tasks the pool runs in processes of its own


class Ledger(Protocol):
    """What the poller needs of the store, beside what running a turn needs."""

    async def longest_waits(self) -> dict[Lane, timedelta]:
        """Return how long the first in each lane has been due and not taken."""
        ...


class Poller:
    """One asyncio task of a process with a dispatcher. Costs no query while hints come."""

    def __init__(
        self, deps: Deps, ledger: Ledger, hints: Hints, *, quarantine: Callable[[], Awaitable[Any]]
    ) -> None:
        """`quarantine` runs what is due there, in processes of its own."""
        self._deps = deps
        self._ledger = ledger
        self._hints = hints
        self._quarantine = quarantine
        self._counts = dict.fromkeys(Lane, 0)
        self._heard_at = dict.fromkeys(Lane, time.monotonic())
        self._due = False
        self._alone_until = 0.0  #: hints are not to be expected until then
        self._started: set[asyncio.Task[Any]] = set()
        self._turns = 0  #: tasks that run turns, among those

    def wake(self) -> None:
        """Something is due and was not taken yet. From any thread."""
        self._due = True

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            every = _LOOK_EVERY_ALONE if self._is_alone() else _LOOK_EVERY
            await asyncio.sleep(every.total_seconds())
            try:
                await self.look()
            except StoreError as error:
                logger.warning("cannot look for what is due: %s; trying again", error.code)
            except Exception as error:  # noqa: BLE001
                # The edge of this task: without it, turns would depend on the broker.
                logger.error("looking for what is due failed: %s", type(error).__name__)

    async def look(self) -> None:
        """Take what has been left lying in the lanes that no hints come for."""
        self._listen()
        if not self._due or not self._deps.keep_on():
            return
        lanes = [one for one in self._hints.lanes() if self._is_deaf(one) and self._room(one)]
        if not lanes:
            return
        self._due = False
        waits = await self._ledger.longest_waits()
        patience = _PATIENCE_ALONE if self._is_alone() else _PATIENCE
        taken = 0
        for lane in lanes:
            if waits.get(lane, timedelta(0)) >= patience:
                taken += await self._take(lane)
        if taken:
            self._note_alone()
        # What is younger comes into question soon; all else is for the dispatcher to see.
        soon = any(waits[lane] < patience for lane in lanes if lane in waits)
        self._due |= soon or self._is_alone()

    def _listen(self) -> None:
        """Notice which lanes have had hints since the last look."""
        for lane in Lane:
            count = self._hints.heard(lane)
            if count != self._counts[lane]:
                self._counts[lane] = count
                self._heard_at[lane] = time.monotonic()

    def _is_deaf(self, lane: Lane) -> bool:
        return time.monotonic() - self._heard_at[lane] > _PATIENCE.total_seconds()

    def _is_alone(self) -> bool:
        return time.monotonic() < self._alone_until

    def _note_alone(self) -> None:
        if not self._is_alone():
            logger.warning("no hints come: taking what is due without", extra={"action": "polling"})
        self._alone_until = time.monotonic() + _ALONE_FOR.total_seconds()

    def _room(self, lane: Lane) -> int:
        """Return how many tasks for the lane could start."""
        slots = self._deps.slots
        if lane is Lane.QUARANTINE:
            return 1
        if lane is Lane.BULK and slots.is_claimed_for:
            return 0
        unused = slots.total - self._hints.elsewhere() - self._turns
        return max(0, min(slots.free(lane), unused))

    async def _take(self, lane: Lane) -> int:
        """Start what is due, and return how many tasks that took."""
        match lane:
            case Lane.INTERACTIVE:
                return await self._take_turns(lane)
            case Lane.BULK:
                self._run_turns(run_bulk(self._deps))
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
            turn = self._run_turns(run_one(claim, self._deps))
            turn.add_done_callback(lambda _: self._deps.slots.give_back())
        return len(claims)

    async def _visit(self) -> None:
        await self._quarantine()

    def _run_turns(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        self._turns += 1
        task = self._start(work)
        task.add_done_callback(self._one_less)
        return task

    def _one_less(self, _: asyncio.Task[Any]) -> None:
        self._turns -= 1

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._started.add(task)
        task.add_done_callback(self._started.discard)
        return task
