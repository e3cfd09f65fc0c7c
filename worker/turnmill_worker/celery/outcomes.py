"""How Celery's tools are shown what came of a turn: its state and its code, never its content."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from celery.worker.request import Request

from turnmill.domain.errors import TurnFailed
from turnmill_worker.pool import AsyncTask

_AGAIN = "comes again: "
_PASSED = "no verdict: "


@dataclass(frozen=True, slots=True, repr=False)
class Passed:
    """This task brought no verdict: the turn is another worker's, or nobody's any more.

    Shown as REVOKED, which never hides how the turn ends, or has ended, in another task of the same
    id: whoever collects events lets SUCCESS and FAILURE stand against it, whatever their order.
    """

    why: str

    def __repr__(self) -> str:
        return f"{_PASSED}{self.why}"


@dataclass(frozen=True, slots=True, repr=False)
class Again:
    """The turn comes again, for this code of an error or from this state: shown as RETRY."""

    why: str

    def __repr__(self) -> str:
        return f"{_AGAIN}{self.why}"


#: What a task may return to be shown as something else than a success. It is returned and not
#: raised: of each exception Celery keeps a copy of the traceback, some 35 kB, until the collector
#: comes, and in a busy worker one task in ten is a hint of what another one runs.
Shown = Passed | Again

_REVOKED: Mapping[str, Any] = MappingProxyType(
    {"terminated": False, "signum": None, "expired": False}
)


class TurnRequest(Request):
    """A message for one turn."""

    _message: Any
    _on_ack: Any
    _on_reject: Any

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Begin. Of the message, which is acknowledged by now, nothing is kept while a turn waits.

        It holds as much as the request does: three kilobytes of each of thousands.
        """
        super().on_accepted(pid, time_accepted)
        if self.acknowledged:
            self._message = self._on_ack = self._on_reject = None

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002  Celery's name
        """Tell of a success what it was: `result` is what the task has returned, in words."""
        said = str(fields.get("result"))
        if type != "task-succeeded" or not said.startswith((_AGAIN, _PASSED)):
            super().send_event(type, **fields)
        elif said.startswith(_PASSED):
            super().send_event("task-revoked", **_REVOKED)
        else:
            error = f"Again({said.removeprefix(_AGAIN)!r})"
            super().send_event("task-retried", exception=error, traceback="")


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
