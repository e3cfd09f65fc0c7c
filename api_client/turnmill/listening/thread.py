"""Waiting for turns to end: Postgres tells us, and a slow poll is the net under it."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import inf
from typing import Any

from turnmill.domain.errors import StoreError
from turnmill.domain.ids import TurnId, as_uuid
from turnmill.forking import in_child
from turnmill.store.database import Database
from turnmill.store.nouns import turns
from turnmill.wire import SETTLED_CHANNEL

logger = logging.getLogger("turnmill.listening.thread")

#: How often the store is asked about all turns waited for, where it can also tell us.
POLL_SECONDS = 1.0
#: Where it cannot (SQLite).
FAST_POLL_SECONDS = 0.02
#: At most so many turns are asked about in one statement.
POLL_CHUNK = 1000
#: A connection that listens is kept for this long after the last waiter.
IDLE_SECONDS = 30.0
#: How long the thread listens before it looks whether it was closed.
_SLICE_SECONDS = 0.1
#: Nobody waits longer at a stretch: what a lock or a loop takes for a time has a bound.
_LONGEST_SECONDS = 3600.0
#: Until it listens, for whoever has so long.
LISTENING_SECONDS = 2.0


class Deadline:
    """How long somebody is willing to wait, on a clock that nobody sets."""

    def __init__(self, timeout: float | timedelta | None) -> None:
        """`timeout` is in seconds or a timedelta; None is without end, what is below 0 is 0."""
        self.seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        self._at = inf if self.seconds is None else time.monotonic() + self.seconds

    @property
    def left(self) -> float:
        """Return the seconds that are left, at most an hour: ask again then."""
        return max(0.0, min(self._at - time.monotonic(), _LONGEST_SECONDS))

    @property
    def passed(self) -> bool:
        """Tell whether nothing is left."""
        return self.left <= 0


class Waiter:
    """One thread and one connection for all turns that a process waits for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._closed = threading.Event()
        self.start_afresh()
        in_child(self)

    def start_afresh(self) -> None:
        """Begin with nobody who waits, and without a thread: see `turnmill.forking`."""
        self._events: dict[TurnId, list[threading.Event]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._listening = threading.Event()
        closed, self._closed = self._closed.is_set(), threading.Event()
        if closed:
            self._closed.set()

    @contextmanager
    def expecting(self, turn_id: TurnId, deadline: Deadline) -> Iterator[threading.Event]:
        """Yield an event that is set whenever the turn may have ended.

        Clear it, then look at the turn's state: what ends meanwhile is not missed. A wake-up is a
        hint; who still has no answer waits for the next.
        """
        event = threading.Event()
        if deadline.passed:
            yield event  # one look needs nobody who listens
            return
        with self._lock:
            self._events.setdefault(turn_id, []).append(event)
            self._start()
        self._listening.wait(timeout=min(LISTENING_SECONDS, deadline.left))
        try:
            yield event
        finally:
            with self._lock:
                self._events[turn_id].remove(event)
                if not self._events[turn_id]:
                    del self._events[turn_id]

    def close(self) -> None:
        """Stop the thread; those who still wait run into their timeouts."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._listening.clear()
            self._thread = threading.Thread(target=self._run, name="turnmill-wait", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        watch = self._listen if self._database.is_postgres else self._poll_only
        while not self._closed.is_set():
            try:
                if watch():
                    return
            except Exception as error:  # noqa: BLE001
                # The edge of this thread: whoever waits must be able to go on after an outage.
                logger.warning("cannot listen for results: %s", type(error).__name__)
                self._listening.set()
                # A stand-by tells nobody, a full server has no connection for it: we still ask.
                self._poll()
                if self._gone_idle(0.0 if self._events else IDLE_SECONDS):
                    return
                self._closed.wait(POLL_SECONDS)

    def _listen(self) -> bool:
        """Wake waiters until nobody has waited for a while; True then."""
        with self._database.apart() as conn:
            conn.exec_driver_sql(f"LISTEN {SETTLED_CHANNEL}")
            return self._follow(conn.connection.driver_connection)

    def _follow(self, driver: Any) -> bool:
        self._poll()
        self._listening.set()
        idle_since = polled_at = time.monotonic()
        while not self._closed.is_set():
            for notice in driver.notifies(timeout=_SLICE_SECONDS, stop_after=1):
                self._wake(settled_ids(notice.payload))
            now = time.monotonic()
            if self._events:
                idle_since = now
            if now - polled_at >= POLL_SECONDS:
                self._poll()
                polled_at = now
            if self._gone_idle(now - idle_since):
                return True
        return True

    def _poll_only(self) -> bool:
        self._listening.set()
        while not self._closed.wait(FAST_POLL_SECONDS):
            self._poll()
            if self._gone_idle(0.0 if self._events else IDLE_SECONDS):
                return True
        return True

    def _gone_idle(self, seconds: float) -> bool:
        """Give the thread and its connection back; a later waiter starts them again."""
        if seconds < IDLE_SECONDS:
            return False
        with self._lock:
            if self._events:
                return False
            self._thread = None
            return True

    def _poll(self) -> None:
        waiting = list(self._events)
        for start in range(0, len(waiting), POLL_CHUNK):
            try:
                with self._database.single() as conn:
                    self._wake(turns.finished(conn, waiting[start : start + POLL_CHUNK]))
            except StoreError as error:
                logger.warning("cannot ask for results: %s", error.code)
                return

    def _wake(self, turn_ids: Iterable[TurnId]) -> None:
        with self._lock:
            for turn_id in turn_ids:
                for event in self._events.get(turn_id, ()):
                    event.set()


def settled_ids(payload: str) -> list[TurnId]:
    """Return the ids in a notification of settled turns."""
    found = (as_uuid(text) for text in payload.split(","))
    return [TurnId(one) for one in found if one is not None]
