"""Celery's scheduler, which also says how it does: see `turnmill health beat`."""

import errno
import logging
import shelve
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery.beat import PersistentScheduler

from turnmill.alive import State
from turnmill.connections.broker_causes import Cause, cause_of
from turnmill.settings import Settings
from turnmill_worker.process.alive import Noting

logger = logging.getLogger("turnmill.beat")

#: Longer than a tick takes and sleeps, with a broker that nobody answers at.
_EVERY_SECONDS = 10.0
_TIMEOUT_SECONDS = 2.0
#: Bytes that a schedule takes at the most, by far.
_ROOM = 2**16
_FULL = (errno.ENOSPC, errno.EDQUOT)


class TellingScheduler(PersistentScheduler):
    """Writes down after each look at the schedule whether it could send what is due."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._noting = Noting(Settings.from_env(), "beat", every=_EVERY_SECONDS, path=None)
        self._is_noted = True  #: when it sent what
        self._is_in_memory = False
        super().__init__(*args, **kwargs)
        self.max_interval: float = min(self.max_interval, _EVERY_SECONDS)
        self._asked_at = -_EVERY_SECONDS
        self._obstacle: Cause | None = None  #: why the broker did not answer when last asked

    def setup_schedule(self) -> None:
        """Read what was sent when; where that cannot be noted, begin anew, in memory."""
        self._noting.note(State.STARTING)
        try:
            self._try_to_note()
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._say_it_is_not_noted(error)
            self._is_in_memory = True
        super().setup_schedule()

    def _try_to_note(self) -> None:
        """Raise OSError where it has no room: Celery would take its file for a broken one."""
        tried = Path(f"{self.schedule_filename}.tried")
        try:
            tried.parent.mkdir(mode=0o700, exist_ok=True)
            tried.write_bytes(bytes(_ROOM))
        finally:
            with suppress(OSError):
                tried.unlink(missing_ok=True)

    def _open_schedule(self) -> Any:
        if self._is_in_memory:
            return shelve.Shelf({}, writeback=True)
        return super()._open_schedule()

    def sync(self) -> None:
        """Note what was sent when. A full disk keeps nothing from being sent."""
        try:
            super().sync()
            self._is_noted = True
        except OSError as error:
            self._store.writeback = True  # it forgets to write again what it could not write
            self._say_it_is_not_noted(error)

    def _say_it_is_not_noted(self, error: OSError) -> None:
        if self._is_noted:  # once, until it can be noted again
            logger.warning(
                "when jobs were sent cannot be noted in %s: %s; a beat that starts anew sends them"
                " again, and each runs once for its time",
                self.schedule_filename,
                error.strerror,
            )
        self._is_noted = False

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Send what is due, and say whether the broker answers."""
        if time.monotonic() - self._asked_at >= _EVERY_SECONDS / 2:
            self._asked_at = time.monotonic()
            if self._broker_is_away():
                self._noting.note(State.WAITING, "the broker does not answer")
                return _TIMEOUT_SECONDS  # what is due stays due
            self._noting.note(State.READY, "sending what is due")
        return super().tick(*args, **kwargs)

    def close(self) -> None:
        """Write down what was sent when, and end."""
        try:
            super().close()
        except OSError as error:
            self._say_it_is_not_noted(error)
        self._noting.remove()

    def _broker_is_away(self) -> bool:
        """Ask the broker, and tell the log where that comes out otherwise than the last time."""
        found, before = self._why_no_answer(), self._obstacle
        self._obstacle = found
        if found is not None and found != before:
            logger.warning("the broker does not answer: %s; what is due stays due", found)
        if found is None and before is not None:
            logger.warning("the broker answers again: what has become due is sent")
        return found is not None

    def _why_no_answer(self) -> Cause | None:
        # A connection of its own: the one that beat sends on is asked when something is due, and
        # a client library may wait on it for minutes.
        options = dict(self.app.conf.broker_transport_options or {})
        options |= {"socket_timeout": _TIMEOUT_SECONDS, "socket_connect_timeout": _TIMEOUT_SECONDS}
        try:
            with self.app.connection_for_write(
                connect_timeout=_TIMEOUT_SECONDS, transport_options=options
            ) as connection:
                connection.connect()
                connection.channel().close()
        except Exception as error:  # noqa: BLE001
            # The edge to the client libraries of all brokers.
            return cause_of(error)
        return None
