"""How Celery's tools are shown what came of a turn: its state and its code, never its content."""

from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import Ignore
from celery.worker.request import Request

from turnmill.domain.errors import TurnFailed
from turnmill_worker.pool import AsyncTask


class Passed(Ignore):
    """This task brought no verdict: the turn is another worker's, or nobody's any more.

    Shown as REVOKED, which never hides how the turn ends, or has ended, in another task of the same
    id: whoever collects events lets SUCCESS and FAILURE stand against it, whatever their order.
    """


class Again(Exception):
    """The turn comes again: the code of the error, or its state, for the task's RETRY."""


class TurnRequest(Request):
    """A message for one turn."""

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> None:
        """Announce as revoked what brought no verdict; Celery would announce nothing at all."""
        error = _error_in(exc_info)
        if isinstance(error, Passed):
            self._announce_revoked(str(error), False, None, False)
        else:
            super().on_failure(exc_info, *args, **options)

    def on_retry(self, exc_info: Any) -> None:
        """Say the code, and send no traceback. Celery's shows the `Retry` and all in it."""
        self.send_event("task-retried", exception=repr(_error_in(exc_info).exc), traceback="")


def _error_in(exc_info: Any) -> Any:
    found = exc_info.exception
    return found.exc if isinstance(found, ExceptionWithTraceback) else found


class TurnTask(AsyncTask):
    """A task that fails when its turn does, and says so in the worker's log by the turn's line."""

    abstract = True
    Request = f"{__name__}:TurnRequest"
    #: No news to Celery, which would log a traceback at ERROR for each.
    throws = (TurnFailed,)

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Send no traceback: it would be the same lines of ours for every turn."""
        if isinstance(exc, TurnFailed):
            einfo.traceback = ""
