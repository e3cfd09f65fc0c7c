"""Keeping one part of the stack running: started, ready, dead, started again."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from turnmill_worker.stack import logfile
from turnmill_worker.stack.errors import DidNotStart
from turnmill_worker.stack.process import Child, Program


class Part(Protocol):
    """Something that the stack runs."""

    @property
    def name(self) -> str: ...

    def program(self) -> Program:
        """Return what to run; asked before each start."""
        ...

    def is_ready(self) -> bool:
        """Ask it, where the program does not tell by itself."""
        ...

    def welcome(self) -> None:
        """Called each time it has become ready."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often and how soon a part that died is started again."""

    first_pause: timedelta = timedelta(milliseconds=200)  #: doubles with each death in a row
    longest_pause: timedelta = timedelta(seconds=10)
    deaths: int = 5  #: in a row, before it was ready: then it is given up
    start: timedelta = timedelta(seconds=60)  #: not ready after this long counts as a death

    def pause_after(self, deaths: int) -> timedelta:
        """Return how long to wait after death number `deaths` in a row."""
        doubled: timedelta = self.first_pause * 2 ** (max(1, deaths) - 1)
        return min(doubled, self.longest_pause)


def how_it_ended(code: int) -> str:
    """Say what an exit code means: a negative one is the number of a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal, which has no name
        return f"was ended by signal {-code}"


class Watch:
    """One part under supervision. `look` is called often, from the main thread, and never waits."""

    def __init__(
        self,
        part: Part,
        *,
        patience: Patience,
        on_start: Callable[[Child], None],
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`on_start` is given each child; `say` a line on each that has to be started again."""
        self.part = part
        self.ready = False
        self.child: Child | None = None
        self._patience = patience
        self._on_start = on_start
        self._say = say
        self._restarts = 0
        self._deaths = 0  #: in a row, before it was ready
        self._due = time.monotonic()  #: of the next start, or the end of patience with this one

    @property
    def pid(self) -> int | None:
        return None if self.child is None else self.child.pid

    def look(self) -> None:
        """Do what is to be done now; raises DidNotStart when it died too often."""
        child = self.child
        if child is None:
            if time.monotonic() >= self._due:
                self._start()
        elif (code := child.poll()) is not None:
            self._count_death(child, how_it_ended(code))
        elif not self.ready:
            self._see_whether_ready(child)

    def end(self) -> None:
        """Kill what is left of it."""
        if self.child is not None:
            self.child.kill()
        self.child = None
        self.ready = False

    def _start(self) -> None:
        self.child = Child.spawn(self.part.program())
        self._due = time.monotonic() + self._patience.start.total_seconds()
        self._on_start(self.child)

    def _see_whether_ready(self, child: Child) -> None:
        if child.told_ready() if child.program.tells_ready else self.part.is_ready():
            self.ready = True
            self.part.welcome()
        elif time.monotonic() > self._due:
            child.kill()
            self._count_death(child, "was not ready in time")

    def _count_death(self, child: Child, how: str) -> None:
        # The end of one that was ready is no failed start: the row begins anew.
        self._deaths = 0 if self.ready else self._deaths + 1
        self.end()
        if self._deaths >= self._patience.deaths:
            raise DidNotStart(
                f"{self.part.name} died {self._deaths} times before it was ready",
                log_tail=logfile.tail(child.program.log),
                hint=_where_to_look(child.program.log),
            )
        self._restarts += 1
        self._say(
            f"{self.part.name} {how}; starting it again (restart {self._restarts});"
            f" {_where_to_look(child.program.log)}"
        )
        pause = self._patience.pause_after(self._deaths)
        self._due = time.monotonic() + pause.total_seconds()


def _where_to_look(log: Path) -> str:
    full = "there is no room on the disk of its log: make some. " if logfile.lacks_room(log) else ""
    return f"{full}its log: {log}"
