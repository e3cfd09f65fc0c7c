"""Heartbeats: keeping the leases of the turns that this process really holds."""

import logging
import threading
from datetime import timedelta

from turnmill.domain.errors import TurnmillError
from turnmill.store.database import Database
from turnmill.store.line.leases import extend
from turnmill_worker.layers import clock
from turnmill_worker.turn.in_hand import InHand

logger = logging.getLogger("turnmill.heartbeat")

_CHUNK = 2000
#: After a beat that failed: leases run out meanwhile.
_AGAIN_SECONDS = 1.0


class Heartbeat:
    """One thread and one connection; beats four times in a lease."""

    def __init__(self, database: Database, in_hand: InHand, *, lease: timedelta) -> None:
        self._database = database
        self._in_hand = in_hand
        self._lease = lease
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="turnmill-heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Call it after the last verdict was written."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def beat(self) -> None:
        """Extend all leases in hand, and stop the calls that nobody waits for any more."""
        pairs = self._in_hand.pairs()
        for start in range(0, len(pairs), _CHUNK):
            chunk = pairs[start : start + _CHUNK]
            asked_at = clock.now()
            with self._database.single() as conn:
                found = extend(conn, chunk, lease=self._lease)
            ends = asked_at + self._lease.total_seconds()
            self._in_hand.extended(
                (pair for pair in chunk if pair[0] in found.extended), until=ends
            )
            self._in_hand.lost(pair for pair in chunk if pair[0] in found.gone)
            self._in_hand.cancelled(pair for pair in chunk if pair[0] in found.cancelled)

    def _run(self) -> None:
        period = self._lease.total_seconds() / 4
        pause = period
        while not self._stopped.wait(pause):
            pause = min(_AGAIN_SECONDS, period)
            try:
                self.beat()
                pause = period
            except TurnmillError as error:
                logger.warning("heartbeat: %s; trying again", error.code)
            except Exception as error:  # noqa: BLE001
                # The edge of this thread: without it every turn in hand would be lost.
                logger.error("heartbeat failed: %s; trying again", type(error).__name__)
