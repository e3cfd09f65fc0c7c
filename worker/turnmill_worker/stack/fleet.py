"""All parts of the stack together: looked at in turns, and stopped in groups."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from turnmill_worker.stack import leftovers, logfile
from turnmill_worker.stack.home import Home
from turnmill_worker.stack.process import Child
from turnmill_worker.stack.wakeup import Wakeup
from turnmill_worker.stack.watch import Part, Patience, Watch

HURRY_GRACE = timedelta(seconds=1)  #: between the last warning and the kill

_BUSY_PAUSE = timedelta(milliseconds=20)  #: while something starts or stops
_CALM_PAUSE = timedelta(seconds=1)  #: otherwise; a child that ends cuts it short
_LOG_CHECK = timedelta(minutes=1)


class StopRequested(BaseException):
    """A signal, or `Stack.request_stop`. Not an error: it unwinds what is being started."""


class Fleet:
    """The parts that are to run. Used from the main thread."""

    def __init__(
        self, home: Home, wakeup: Wakeup, *, patience: Patience, say: Callable[[str], None]
    ) -> None:
        self._home = home
        self._wakeup = wakeup
        self._patience = patience
        self._say = say
        self._watches: list[Watch] = []
        self._logs_due = time.monotonic()
        self._disk_is_full = False

    def add(self, part: Part) -> Watch:
        """Start a part, and keep it running from now on."""
        watch = Watch(part, patience=self._patience, on_start=self._record, say=self._say)
        self._watches.append(watch)
        watch.look()
        return watch

    def until(self, condition: Callable[[], bool]) -> None:
        """Keep everything running until `condition`; raises StopRequested or DidNotStart."""
        while not condition():
            self._check_stop()
            for watch in self._watches:
                watch.look()
            self._bound_logs()
            calm = all(watch.ready for watch in self._watches)
            if not condition():
                self._wakeup.sleep(_CALM_PAUSE if calm else _BUSY_PAUSE)

    def until_ready(self, watches: Sequence[Watch]) -> None:
        """Return when all of them are ready at once."""
        self.until(lambda: all(watch.ready for watch in watches))

    def stay(self) -> None:
        """Keep everything running until StopRequested or DidNotStart."""
        self.until(lambda: False)

    def stop(self, *, grace: timedelta, keep: Sequence[Watch] = ()) -> None:
        """End all parts but `keep`: asked, hurried, killed. A second Ctrl-C ends the patience."""
        ending = [watch for watch in self._watches if watch not in keep]
        children = [watch.child for watch in ending if watch.child is not None]
        for child in children:
            child.ask_to_stop()
        if not self._all_end(children, within=grace):
            for child in children:
                child.hurry()
            self._all_end(children, within=HURRY_GRACE)
        for watch in ending:
            watch.end()
        self._watches = list(keep)

    def _all_end(self, children: Sequence[Child], *, within: timedelta) -> bool:
        deadline = time.monotonic() + within.total_seconds()
        while any(child.poll() is None for child in children):
            if time.monotonic() > deadline or self._wakeup.stop_requests > 1:
                return False
            self._wakeup.sleep(_BUSY_PAUSE)
        return True

    def _check_stop(self) -> None:
        if self._wakeup.stop_requests:
            raise StopRequested

    def _record(self, child: Child) -> None:
        # Without it, only a supervisor that is killed somewhere else than on Linux leaves a child.
        with suppress(OSError):
            leftovers.record(self._home, child)

    def _bound_logs(self) -> None:
        if time.monotonic() < self._logs_due:
            return
        self._logs_due = time.monotonic() + _LOG_CHECK.total_seconds()
        logs = [self._home.log(watch.part.name) for watch in self._watches]
        for log in logs:
            with suppress(OSError):
                logfile.keep_small(log)
        self._say_whether_there_is_room(logs)

    def _say_whether_there_is_room(self, logs: Sequence[Path]) -> None:
        is_full = any(logfile.lacks_room(log) for log in logs)
        if is_full and not self._disk_is_full:
            self._say(
                f"the disk of {logs[0].parent} is full: what runs goes on, and nothing is logged"
                " until there is room"
            )
        elif self._disk_is_full and not is_full:
            self._say(f"there is room on the disk of {logs[0].parent} again")
        self._disk_is_full = is_full
