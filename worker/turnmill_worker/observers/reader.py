"""Reading events for an observer: each is told, then passed; never the other way round."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from turnmill.domain.errors import StoreError
from turnmill.store.database import Database
from turnmill.store.nouns import reading
from turnmill.store.nouns.events import Event
from turnmill.store.nouns.reading import Hold
from turnmill_worker.observers.calling import BUSY, Calling
from turnmill_worker.observers.registered import Named
from turnmill_worker.providers.foreign import name_of

logger = logging.getLogger("turnmill.observers")

T = TypeVar("T")

_AT_ONCE = 200
#: Why it is parked where those who told it were lost, again and again.
LOST = "worker_lost"
#: What was told in so short a time is told again when this process is lost; see `_pass`.
_PASS_EVERY = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long and how often."""

    timeout: timedelta  #: of one call
    lease: timedelta  #: longer than a call may take
    poll: timedelta = timedelta(seconds=1)
    again: timedelta = timedelta(seconds=1)  #: after a failure, and doubled after each further one
    longest: timedelta = timedelta(minutes=1)  #: between two tries
    most_tries: int = 20  #: at one event: about a quarter of an hour

    def pause_after(self, tries: int) -> timedelta:
        """Return how long to wait after so many failures in a row."""
        return min(self.again * float(2 ** min(tries - 1, 16)), self.longest)


class Reader:
    """Tells one observer of all events, while no other process does."""

    def __init__(self, named: Named, database: Database, *, owner: str, pace: Pace) -> None:
        self._name = named.reader
        self._share = named.share
        self._named = named.asked.named
        self._calling = Calling(named.observer, name=named.name, timeout=pace.timeout)
        self._database = database
        self._owner = owner
        self._pace = pace
        self._hold: Hold | None = None
        self._until = 0.0  #: our hold may be another's from then on
        self._told: Event | None = None  #: and not passed yet
        self._passed_at = 0.0
        self._stopping = self._last_look = False
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look now, if it is ours to look. On the loop's thread."""
        if self._hold is not None:  # who waits for another process to end need not hurry
            self._woken.set()

    def stop(self, *, after_a_last_look: bool = False) -> None:
        """Begin no other call, or none once there is nothing left. On the loop's thread."""
        self._stopping = not after_a_last_look
        self._last_look = True
        self._woken.set()

    async def run(self) -> None:
        """Read until it is stopped, through outages; then let another process go on."""
        try:
            while not self._stopping:
                self._woken.clear()
                last = self._last_look
                if await self._attempted(self._look):
                    continue
                if last:
                    break
                await self._rest()
        finally:
            await self._attempted(self._give_back)

    async def _look(self) -> bool:
        """Tell what has happened; False when there is nothing, or nothing for us to do."""
        hold = self._hold or await self._take()
        if hold is None or not await self._pass():
            return False
        if not await self._on(reading.waits, hold) and self._left > self._pace.lease / 2:
            return False
        began = time.monotonic()
        lease = self._pace.lease
        page = await self._on(reading.read, hold, limit=_AT_ONCE, lease=lease, share=self._share)
        if page is None:
            return self._lose()
        self._keep_from(began)
        if not await self._tell(page.events):
            return False
        last = page.events[-1].place if page.events else 0
        if self._stopping or page.upto == last:
            return bool(page.events)
        # What comes behind it is others' business.
        return await self._on(reading.skip, hold, page.upto) or bool(page.events)

    async def _tell(self, found: Sequence[Event]) -> bool:
        for event in found:
            if self._stopping:
                break
            if self._left <= self._pace.timeout and not await self._pass(extend=True):
                return False
            if not await self._tell_one(event):
                return False
        return await self._pass()

    async def _tell_one(self, event: Event) -> bool:
        """Tell of one event; False when it is to be told again."""
        hold = self._hold
        assert hold is not None
        if hold.tries >= self._pace.most_tries:
            return await self._park(event, hold, because=LOST)
        failed = await self._calling.tell(replace(event, kind=self._named(event.kind)))
        if failed is not None:
            await self._fail(event, failed)
            return False
        self._told = event
        # After a failure, or the loss of who told before us, it has to be known which one it was.
        if hold.tries or time.monotonic() > self._passed_at + _PASS_EVERY:
            return await self._pass()
        return True

    async def _take(self) -> Hold | None:
        began = time.monotonic()
        lease = self._pace.lease
        self._hold = await self._on(reading.hold, self._name, owner=self._owner, lease=lease)
        self._told = None
        self._keep_from(began)
        return self._hold

    async def _pass(self, *, extend: bool = False) -> bool:
        """Note what was told; False when the reader is another's by now, who tells it again."""
        hold, told = self._hold, self._told
        assert hold is not None
        if told is None:
            return not extend or await self._extend(hold)
        began = time.monotonic()
        if not await self._on(reading.passed, hold, told, lease=self._pace.lease):
            return self._lose()
        self._keep_from(began)
        self._told, self._passed_at = None, began
        self._hold = replace(hold, tries=0)
        return True

    async def _extend(self, hold: Hold) -> bool:
        began = time.monotonic()
        if not await self._on(reading.extend, hold, lease=self._pace.lease):
            return self._lose()
        self._keep_from(began)
        return True

    async def _fail(self, event: Event, failed: str) -> None:
        hold = self._hold
        assert hold is not None
        if self._told is not None and not await self._pass():
            return
        tries = hold.tries + 1
        if failed == BUSY:  # nothing is given up without having been tried
            tries = min(tries, self._pace.most_tries - 1)
        if tries >= self._pace.most_tries:
            await self._park(event, hold, because=failed)
            return
        pause = self._pace.pause_after(tries)
        self._lose()
        await self._on(reading.failed, hold, tries=tries, again=pause)
        self._warn(
            f"did not take {event.kind}: {failed}; try {tries},"
            f" the next in {pause.total_seconds():g} s",
            event,
        )

    async def _park(self, event: Event, hold: Hold, *, because: str) -> bool:
        """Tell it nothing any more, until somebody releases it; what comes is kept for it."""
        self._lose()
        await self._on(reading.park, hold, because=because)
        self._warn(
            f"is parked: {self._pace.most_tries} tries to tell it of {event.kind} came to nothing;"
            " `turnmill observers release` goes on with it",
            event,
        )
        return False

    def _warn(self, what: str, event: Event) -> None:
        logger.warning(
            "%s %s (turn %s)",
            self._name,
            what,
            event.turn_id,
            extra={"action": "observer_failed", "turn_id": str(event.turn_id)},
        )

    async def _give_back(self) -> bool:
        hold = self._hold
        if hold is not None and await self._pass():
            await self._on(reading.give_back, hold)
        return False

    def _lose(self) -> bool:
        self._hold = self._told = None
        return False

    def _keep_from(self, began: float) -> None:
        self._until = began + self._pace.lease.total_seconds()

    @property
    def _left(self) -> timedelta:
        return timedelta(seconds=self._until - time.monotonic())

    async def _on(self, verb: Callable[..., T], *args: object, **options: object) -> T:
        """Do something in a transaction of its own."""

        def work() -> T:
            with self._database.begin() as conn:
                return verb(conn, *args, **options)

        return await asyncio.to_thread(work)

    async def _attempted(self, step: Callable[[], Coroutine[Any, Any, bool]]) -> bool:
        try:
            return await step()
        except StoreError as error:
            logger.warning("%s: %s; trying again", self._name, error.code)
        except Exception as error:  # noqa: BLE001
            # The edge of this task: without it, nobody would be told any more.
            logger.error("%s: %s; trying again", self._name, name_of(error))
        return False

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pace.poll.total_seconds()):
                await self._woken.wait()
