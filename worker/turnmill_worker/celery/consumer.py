"""Celery's consumer, in a worker that outlives its broker."""

import logging
import time
import warnings
from typing import Any

from billiard.exceptions import WorkerLostError
from celery.exceptions import CPendingDeprecationWarning
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

from turnmill.connections.broker_causes import cause_of

logger = logging.getLogger("turnmill.broker")

#: Between two beginnings: a broker that accepts a connection and refuses all else is not stormed.
_LEAST_SECONDS = 1.0
_SLICE_SECONDS = 0.1
#: What no other connection can mend.
_FATAL = (WorkerLostError, MemoryError)
#: A message with something else where a text, a number or a list should be.
_UNREADABLE = (AttributeError, LookupError, RecursionError, TypeError, ValueError)

logger = logging.getLogger("turnmill.consumer")


class SteadyConsumer(Consumer):
    """Begins anew whatever the broker does.

    Celery's ends the worker on an error that is not about the connection: a broker that is full,
    that became a replica, that knows a queue's key as something else, that forbids a command. Of
    a worker that takes its turns from the database that would end turns that are none of the
    broker's business.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.connection_errors = (Exception,)
        self._began_at = 0.0

    def create_task_handler(self, *args: Any, **options: Any) -> Any:
        """Return Celery's, which lets go of what it cannot read instead of beginning anew."""
        take = super().create_task_handler(*args, **options)

        def on_task_received(message: Any) -> Any:
            try:
                return take(message)
            except _UNREADABLE as error:
                logger.warning("a message is dropped: %s", type(error).__name__)
                return message.ack_log_error(logger, self.connection_errors)

        return on_task_received

    def connect(self) -> Any:
        """Connect, however long that takes."""
        self._began_at = time.monotonic()
        return super().connect()

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Say so, and take a breath."""
        super().on_connection_error_before_connected(exc)
        self._breathe()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Drop the connection, and take a breath."""
        if isinstance(exc, _FATAL):
            raise exc
        cause = cause_of(exc)  # Celery names the class only, which is one for most of them
        logger.warning("the broker cannot be used: %s; %s", cause.what, cause.remedy)
        with warnings.catch_warnings():  # of what Celery 6 will do with tasks that we have none of
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)
        self._breathe()

    def _breathe(self) -> None:
        while time.monotonic() - self._began_at < _LEAST_SECONDS:
            maybe_shutdown()
            time.sleep(_SLICE_SECONDS)
