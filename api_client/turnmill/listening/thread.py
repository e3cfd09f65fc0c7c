"""Listening on a thread: for turns to end, and for what dispatchers are told."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import inf
from typing import Any

from turnmill.domain.errors import StoreError
from turnmill.domain.ids import TurnId
from turnmill.forking import in_child
from turnmill.listening.notices import (
    POOLED_POLL_SECONDS,
    TOLD_POLL_SECONDS,
    UNTOLD_POLL_SECONDS,
    Notice,
    notice_of,
    reason_of,
)
from turnmill.listening.watchlist import LISTENING_SECONDS, Deadline, Watchlist
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
from turnmill.store.dialing import KEPT_IDLE
from turnmill.store.nouns import turns
from turnmill.wire import SETTLED_CHANNEL

logger = logging.getLogger("turnmill.waiting")

#: How long a thread listens before it looks whether it was closed.
SLICE_SECONDS = 0.1
#: A URL to listen on that leads nowhere is tried again after so long.
_TRY_AGAIN_SECONDS = 30.0


class Listener:
    """A connection on which Postgres tells of turns. For one thread."""

    #: How often to ask all the same: a notice may be lost.
    poll_seconds = TOLD_POLL_SECONDS
    is_over = False  #: it ends by an error of the driver's

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def hear(self, seconds: float = SLICE_SECONDS, *, most: int = 1) -> Sequence[Notice]:
        """Return what was told when `seconds` are over, or about `most` notices have come."""
        return [notice_of(one) for one in self._driver.notifies(timeout=seconds, stop_after=most)]


class Untold:
    """Where nothing is told: who listens looks often."""

    def __init__(self, poll_seconds: float, *, lasts: float = inf) -> None:
        """After `lasts` seconds it is time to try to listen again."""
        self.poll_seconds = poll_seconds
        self._ends_at = time.monotonic() + lasts

    @property
    def is_over(self) -> bool:
        """Tell whether to call `listen` again."""
        return time.monotonic() > self._ends_at

    def hear(self, seconds: float = SLICE_SECONDS, *, most: int = 1) -> Sequence[Notice]:
        """Return nothing, after a while."""
        time.sleep(min(seconds, self.poll_seconds))
        return ()


@contextmanager
def listen(database: Database, channels: Sequence[str]) -> Iterator[Listener | Untold]:
    """Yield a listener on a connection of its own, which is closed at the end.

    Behind a pooler nothing would be heard there: the connection is given back at once. Where a URL
    to listen on leads nowhere, everything else goes on without being told.
    """
    with ExitStack() as stack:
        try:
            conn = stack.enter_context(database.apart())
        except StoreError as error:
            if not database.listens_elsewhere:
                raise
            logger.warning("TURNMILL_LISTEN_URL: %s; asking instead", reason_of(error))
            found: Listener | Untold = Untold(POOLED_POLL_SECONDS, lasts=_TRY_AGAIN_SECONDS)
        else:
            if database.tells(conn):
                found = listener_on(conn, channels)
            else:
                stack.close()
                found = Untold(POOLED_POLL_SECONDS)
        yield found


def listener_on(conn: Any, channels: Sequence[str]) -> Listener:
    """Listen on a connection that commits each statement."""
    conn.exec_driver_sql(KEPT_IDLE)
    for channel in channels:
        conn.exec_driver_sql(f"LISTEN {channel}")
    return Listener(conn.connection.driver_connection)


class Waiter:
    """One thread and one connection for all turns that a process waits for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._closed = threading.Event()
        self.start_afresh()
        in_child(self)

    def start_afresh(self) -> None:
        """Begin with nobody who waits, and without a thread: see `turnmill.forking`."""
        self._watchlist = Watchlist[threading.Event]()
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
            self._watchlist.add(turn_id, event)
            self._start()
        self._listening.wait(timeout=min(LISTENING_SECONDS, deadline.left))
        try:
            yield event
        finally:
            with self._lock:
                self._watchlist.remove(turn_id, event)

    def close(self) -> None:
        """Stop the thread; those who still wait run into their timeouts."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._listening.clear()
            self._watchlist.began(time.monotonic())
            self._thread = threading.Thread(target=self._run, name="turnmill-wait", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._listen()
            except Exception as error:  # noqa: BLE001
                # The edge of this thread: whoever waits must be able to go on after an outage.
                logger.warning("cannot listen for results: %s", reason_of(error))
                # A stand-by tells nobody, a full server has no connection for it: we still ask.
                self._listening.set()
                self._ask(every=0.0)
                self._closed.wait(TOLD_POLL_SECONDS)
            if self._gone_idle():
                return

    def _listen(self) -> None:
        """Wake those who wait until nobody has waited for a while."""
        if not self._database.can(Capability.NOTIFY):
            self._follow(Untold(UNTOLD_POLL_SECONDS))
            return
        with listen(self._database, [SETTLED_CHANNEL]) as listener:
            self._follow(listener)

    def _follow(self, listener: Listener | Untold) -> None:
        self._ask(every=0.0)  # for what ended before anybody listened
        self._listening.set()
        while not (self._closed.is_set() or listener.is_over):
            for notice in listener.hear():
                self._wake(notice.turn_ids)
            self._ask(every=listener.poll_seconds)
            with self._lock:
                if self._watchlist.is_idle(time.monotonic()):
                    return

    def _gone_idle(self) -> bool:
        """Give the thread back; a later waiter starts another one."""
        with self._lock:
            if not self._watchlist.is_idle(time.monotonic()):
                return False
            self._thread = None
            return True

    def _ask(self, *, every: float) -> None:
        with self._lock:
            asked = list(self._watchlist.to_ask(time.monotonic(), every=every))
        for turn_ids in asked:
            try:
                with self._database.single() as conn:
                    self._wake(turns.finished(conn, turn_ids))
            except StoreError as error:
                logger.warning("cannot ask for results: %s", reason_of(error))
                return

    def _wake(self, turn_ids: Iterable[TurnId]) -> None:
        with self._lock:
            self._watchlist.wake(turn_ids)


def happens(event: threading.Event, seconds: float) -> bool:
    """Wait for the event, and tell whether it came in time."""
    return event.wait(seconds)
