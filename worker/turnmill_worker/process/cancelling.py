"""Cancelling: the calls are closed whose turns somebody wants to end, wherever they run.

A notice is a hint. The rows decide: whoever can connect can notify. One that was missed is made up
for by a look at all that is in hand, and by heartbeats.
"""

import logging
import threading
import time
from collections.abc import Sequence
from datetime import timedelta

from turnmill.domain.errors import TurnmillError
from turnmill.domain.ids import TurnId
from turnmill.listening.notices import turns_on
from turnmill.listening.thread import SLICE_SECONDS, Untold, listen
from turnmill.store.database import Database
from turnmill.store.line.leases import cancel_requested
from turnmill.wire import CANCEL_CHANNEL
from turnmill_worker.turn.in_hand import InHand

logger = logging.getLogger("turnmill.cancelling")

#: A claim stands in the store before it is in hand: what was named meanwhile is remembered.
_REMEMBERED = timedelta(seconds=3)
_MOST_REMEMBERED = 10_000
_NOTICES = 100
_AGAIN_SECONDS = 1.0


class Cancelling:
    """Closes calls by what the rows say. Used by one thread."""

    def __init__(self, database: Database, in_hand: InHand) -> None:
        self._database = database
        self._in_hand = in_hand
        self._named: dict[TurnId, float] = {}  # whose cancelling we were told of: until then

    def told(self, turn_ids: Sequence[TurnId]) -> None:
        """Look at these turns as soon as they are in hand."""
        until = time.monotonic() + _REMEMBERED.total_seconds()
        if len(self._named) < _MOST_REMEMBERED:  # else heartbeats find them
            self._named |= dict.fromkeys(turn_ids, until)
        self.look()

    def look(self) -> None:
        """Look at those that were named, of which some may have come into hand."""
        if not self._named:
            return
        now = time.monotonic()
        held = self._in_hand.held(self._named)
        self._close(held)
        for one in held:
            del self._named[one]
        self._named = {one: until for one, until in self._named.items() if until > now}

    def look_at_all(self) -> None:
        """Look at all that is in hand: notices may have been missed."""
        self._close([turn_id for turn_id, _ in self._in_hand.pairs()])

    def _close(self, held: Sequence[TurnId]) -> None:
        if held:
            with self._database.single() as conn:
                wanted = cancel_requested(conn, held)
            self._in_hand.cancelled(wanted)  # under that fence only


class CancelWatch:
    """The thread of a process that has no dispatcher, such as one in quarantine."""

    def __init__(self, database: Database, in_hand: InHand) -> None:
        """`database` is for this thread alone."""
        self._database = database
        self._cancelling = Cancelling(database, in_hand)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="turnmill-cancel", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and close its connections."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        self._database.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._watch()
            except TurnmillError as error:
                logger.warning("cannot listen for cancels: %s; trying again", error.code)
            except Exception as error:  # noqa: BLE001
                # The edge of this thread: heartbeats notice meanwhile, only later.
                logger.warning("not listening for cancels: %s; trying again", type(error).__name__)
            self._stopped.wait(_AGAIN_SECONDS)

    def _watch(self) -> None:
        with listen(self._database, [CANCEL_CHANNEL]) as listener:
            self._cancelling.look_at_all()
            while not (self._stopped.is_set() or listener.is_over):
                notices = listener.hear(SLICE_SECONDS, most=_NOTICES)
                self._cancelling.told(turns_on(CANCEL_CHANNEL, notices))
                if isinstance(listener, Untold):
                    self._stopped.wait(_AGAIN_SECONDS)
                    self._cancelling.look_at_all()
