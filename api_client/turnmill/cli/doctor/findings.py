"""What a check of `turnmill doctor` comes to, and how checks are run."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

from turnmill.domain.errors import StoreError, TurnmillError

if TYPE_CHECKING:
    from turnmill.settings import Settings
    from turnmill.store.database import Database


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"  #: worth knowing; nothing is wrong
    WRONG = "wrong"
    SKIPPED = "skipped"  #: could not be looked at, for something else is wrong


class Area(IntEnum):
    """What a check is about: the number is the exit code, and the first one in this order wins."""

    SETTINGS = 10
    DATABASE = 11
    SCHEMA = 12
    BROKER = 13
    WORKERS = 14
    WORK = 15  #: turns or jobs stand still, or have failed
    OTHER = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    check: str = ""
    level: Level
    what: str
    code: str = ""  #: of the cause, where something is wrong or worth knowing
    fix: str = ""  #: a command or a setting


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSays:
    """What a worker says of itself when it is asked."""

    name: str
    version: str = ""  #: empty: of a version that does not say
    revision: str = ""  #: of the schema, the newest that it knows
    providers: frozenset[str] = frozenset()  #: that are installed there
    lacks: Mapping[str, str] = field(default_factory=dict)  #: provider → variable that is not set
    lanes: frozenset[str] = frozenset()  #: whose hints it takes
    slots: int = 0
    open_files: int = 0  #: the most that it may have


@dataclass(slots=True, kw_only=True)
class Examination:
    """What is examined. A check may note here what later ones build on."""

    settings: Settings
    environ: Mapping[str, str] = field(repr=False)
    flower_url: str = field(default="", repr=False)  #: of the system that runs in the home
    database: Database | None = None  #: once it was reached, at this version's schema
    broker_silent: bool = False  #: it was asked, and cannot be used
    workers: Sequence[WorkerSays] | None = None  #: once they were asked


Findings = Iterator[Finding]


@dataclass(frozen=True, slots=True)
class Check:
    """Something that is looked at, for so long."""

    look: Callable[[Examination], Findings]
    area: Area = Area.OTHER
    within: timedelta = timedelta(seconds=4)


def run_check(name: str, check: Check, examination: Examination) -> Findings:
    """Run one check; whatever goes wrong in it is a finding, and the next one runs.

    It has a thread of its own: no library is trusted to keep its time. One that hangs is left
    behind, and dies with the process.
    """
    found: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()

    def look() -> None:
        for finding in _found(check, examination):
            found.put(finding)
        found.put(None)

    threading.Thread(target=look, name=f"doctor-{name}", daemon=True).start()
    deadline = time.monotonic() + check.within.total_seconds()
    while True:
        try:
            finding = found.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            yield dataclasses.replace(_out_of_time(check), check=name)
            return
        if finding is None:
            return
        yield dataclasses.replace(finding, check=name)


def _found(check: Check, examination: Examination) -> Findings:
    try:
        yield from check.look(examination)
    except StoreError as error:
        yield wrong(str(error), error.hint, code=error.reason or error.code)
    except TurnmillError as error:
        yield wrong(str(error), error.hint, code=error.code)
    except Exception as error:  # noqa: BLE001
        # The edge of a check: a diagnosis that dies of what it was to find is none.
        what = f"it could not be looked at: {type(error).__name__}"
        yield wrong(what, "report it, with this line", code="unforeseen")


def _out_of_time(check: Check) -> Finding:
    return wrong(
        f"no answer within {check.within.total_seconds():.0f} s",
        "is it overloaded, or does a firewall drop what is sent there?",
        code="timeout",
    )


def ok(what: str) -> Finding:
    """Say that it is as it should be."""
    return Finding(level=Level.OK, what=what)


def note(what: str, fix: str = "", *, code: str = "") -> Finding:
    """Say something worth knowing."""
    return Finding(level=Level.NOTE, what=what, fix=fix, code=code)


def wrong(what: str, fix: str, *, code: str) -> Finding:
    """Say what is wrong and how to mend it."""
    return Finding(level=Level.WRONG, what=what, fix=fix, code=code)


def skipped(what: str) -> Finding:
    """Say why it was not looked at."""
    return Finding(level=Level.SKIPPED, what=what)
