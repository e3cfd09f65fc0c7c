"""The dispatcher: finds what is due, lost or overdue, and tells workers, about once a second."""

import logging
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from turnmill.domain.errors import SessionBusy, TurnmillError
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane
from turnmill.queue import TURNS_PER_HINT, Publisher
from turnmill.store.backlogs import backlogs
from turnmill.store.database import Database
from turnmill.store.due import (
    Waits,
    announce_due,
    count_due,
    expire_overdue,
    forget_announced,
    note_announced,
    overdue,
    purge_deleted,
)
from turnmill.store.leases import in_doubt, take_lost
from turnmill.store.pauses import Pauses, read_pauses
from turnmill.store.records import Head, Moved
from turnmill.waiting import settled_ids
from turnmill.wire import CANCEL_CHANNEL, WAKE_CHANNEL

logger = logging.getLogger("turnmill.dispatcher")

TICK = timedelta(seconds=1)
#: A queue is looked at this often for having run dry while more is due.
_GLANCE_SECONDS = 0.1
_CHUNK = 500


_WAITS_DRY = Waits(timedelta(milliseconds=300), timedelta(seconds=1))
_WAITS_BUSY = Waits(timedelta(seconds=2), timedelta(seconds=10))
#: A child in quarantine takes all that it can get: more hints than children are of no use.
_MOST_HINTS = {Lane.QUARANTINE: 2}


class Dispatcher:
    """One thread and one connection. Any number of dispatchers may run at once."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        *,
        slots: int,
        lease: timedelta,
        on_cancel: Callable[[Sequence[TurnId]], None],
        bulk_places: Callable[[], int] = lambda: sys.maxsize,
        on_doubt: Callable[[], None] = lambda: None,
        on_kept: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_doubt` is called when some worker seems to be about to lose its leases.

        `on_kept` is called while vendors keep, or still work on, what nobody needs any more.
        `bulk_places` tells how many more tasks of the bulk lane are of use to this process.
        """
        self._database = database
        self._publisher = publisher
        self._slots = slots
        self._lease = lease
        self._on_cancel = on_cancel
        self._bulk_places = bulk_places
        self._on_doubt = on_doubt
        self._on_kept = on_kept
        self._stopped = threading.Event()
        self._draining = threading.Event()
        self._thread = threading.Thread(target=self._run, name="turnmill-dispatch", daemon=True)
        #: Lanes with more that is due than was published, and the providers that it is for.
        self._more: dict[Lane, Sequence[str]] = {}
        self.ticks = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def resize(self, slots: int) -> None:
        """Announce as much as keeps so many slots busy."""
        self._slots = slots

    def drain(self) -> None:
        """Announce nothing any more: this process will not run it. Leases are still watched."""
        self._draining.set()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def tick(self) -> None:
        """Look once at everything. Each step is a transaction of its own."""
        heads: list[Head] = []
        with self._database.single() as conn:
            found = overdue(conn)
            pauses = read_pauses(conn)
            doubtful = not self._draining.is_set() and in_doubt(conn, lease=self._lease)
            waiting = backlogs(conn)
        if found.lost:
            heads += self._repeat(lambda conn: take_lost(conn, lease=self._lease, limit=_CHUNK))
        if found.expired:
            heads += self._repeat(lambda conn: expire_overdue(conn, limit=_CHUNK))
        if found.deleted:
            with self._database.begin() as conn:
                purge_deleted(conn)
        if doubtful:
            self._on_doubt()
        if found.kept and not self._draining.is_set():
            self._on_kept()
        if not self._draining.is_set():
            self._publisher.announce(heads)
            self._announce(waiting, pauses)
        self.ticks += 1

    def _repeat(self, step: Callable[[Any], Moved]) -> list[Head]:
        """Run a step until it moves less than a chunk, at most a few times in a tick."""
        heads: list[Head] = []
        for _ in range(20):
            try:
                with self._database.begin() as conn:
                    moved = step(conn)
            except SessionBusy:
                break  # in the next tick; all else that is due must not wait for it
            heads += moved.heads
            if moved.turns < _CHUNK // 2:
                break
        return heads

    def _announce(self, waiting: Sequence[tuple[Lane, str]], pauses: Pauses) -> None:
        self._more.clear()
        for lane in Lane:
            providers = [
                provider
                for at, provider in waiting
                if at is lane and provider not in pauses.providers
            ]
            if providers and lane not in pauses.lanes:
                self._fill(lane, providers)

    def _fill(self, lane: Lane, providers: Sequence[str]) -> None:
        """Bring the lane's queue to about twice the slots, from the oldest heads on.

        Of the bulk lane only as many hints are published as tasks are of use here.
        """
        depth = self._publisher.depth(lane)
        if depth is None:
            return
        per_hint = TURNS_PER_HINT.get(lane, 1)
        room = self._wanted(lane) - depth
        if lane is Lane.BULK:
            room = min(room, self._bulk_places())
        if room <= 0:
            self._more[lane] = providers
            return
        if lane is Lane.INTERACTIVE:
            heads = self._choose(lane, providers, limit=room, depth=depth)
            self._publish_noted(heads, bounded=False)
        else:
            heads = self._count(lane, providers, limit=room * per_hint)
            self._publisher.announce(heads, bounded=False)
        # A hint of the bulk lane may be used up by a worker that has no room.
        if len(heads) >= room * per_hint or (heads and lane is Lane.BULK):
            self._more[lane] = providers

    def _wanted(self, lane: Lane) -> int:
        """Return how many hints keep the slots of this process busy for a while."""
        hints = max(1, 2 * self._slots // TURNS_PER_HINT.get(lane, 1))
        return min(hints, _MOST_HINTS.get(lane, hints))

    def _publish_noted(self, heads: Sequence[Head], *, bounded: bool) -> None:
        """Publish heads that were noted as announced; take the notes back if that fails."""
        if self._publisher.announce(heads, bounded=bounded) < len(heads):
            with self._database.single() as conn:
                forget_announced(conn, heads)

    def _choose(
        self, lane: Lane, providers: Sequence[str], *, limit: int, depth: int
    ) -> list[Head]:
        with self._database.single() as conn:
            return announce_due(
                conn,
                lane,
                providers=providers,
                limit=limit,
                hints=depth,
                waits=_WAITS_BUSY,
                dry=_WAITS_DRY,
                among=2 * self._slots,
            )

    def _count(self, lane: Lane, providers: Sequence[str], *, limit: int) -> list[Head]:
        """Return stand-ins for the due heads of a lane whose hints name no turn."""
        with self._database.single() as conn:
            due = count_due(conn, lane, providers=providers, limit=limit)
        return [
            Head(turn_id=TurnId(UUID(int=0)), session_id=SessionId(UUID(int=0)), lane=lane)
        ] * due

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._watch()
            except TurnmillError as error:
                logger.warning("dispatcher: %s; trying again", error.code)
            except Exception as error:  # noqa: BLE001
                # The edge of this thread: without it, nothing lost would be found again.
                logger.error("dispatcher failed: %s; trying again", type(error).__name__)
            self._stopped.wait(1.0 + random.random())

    def _watch(self) -> None:
        """Tick and listen on one connection until something fails or we are stopped."""
        with self._database.apart() as conn:
            conn.exec_driver_sql(f"LISTEN {WAKE_CHANNEL}")
            conn.exec_driver_sql(f"LISTEN {CANCEL_CHANNEL}")
            driver: Any = conn.connection.driver_connection
            while not self._stopped.is_set():
                self.tick()
                self._listen_until(driver, time.monotonic() + _with_jitter(TICK))

    def _listen_until(self, driver: Any, end: float) -> None:
        while not self._stopped.is_set() and (left := end - time.monotonic()) > 0:
            for notice in driver.notifies(timeout=min(left, _GLANCE_SECONDS), stop_after=100):
                self._on_notice(notice.channel, settled_ids(notice.payload))
            self._refill()

    def _on_notice(self, channel: str, turn_ids: list[TurnId]) -> None:
        if channel == CANCEL_CHANNEL:
            self._on_cancel(turn_ids)
            return
        if turn_ids and not self._draining.is_set():
            with self._database.single() as conn:
                heads = note_announced(conn, turn_ids)
            self._publish_noted(heads, bounded=True)

    def _refill(self) -> None:
        """Fill up again, before the next tick, what has been emptied meanwhile."""
        if self._draining.is_set():
            return
        for lane, providers in list(self._more.items()):
            if self._is_dry(lane):
                del self._more[lane]
                self._fill(lane, providers)

    def _is_dry(self, lane: Lane) -> bool:
        if lane is Lane.BULK and self._bulk_places() < 1:
            return False
        depth = self._publisher.depth(lane)
        return depth is not None and depth <= self._wanted(lane) // 4


def _with_jitter(period: timedelta) -> float:
    return period.total_seconds() * (0.8 + 0.4 * random.random())
