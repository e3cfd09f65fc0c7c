"""A whole system on a home of its own, which is removed with everything in it at the end."""

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from turnmill.running_home import READY_FILE
from turnmill_worker.stack import logfile
from turnmill_worker.stack.errors import DidNotStart
from turnmill_worker.stack.home import Home
from turnmill_worker.stack.process import Child, Program, wait_until

_START_WITHIN = timedelta(seconds=120)
_STOP_WITHIN = timedelta(seconds=15)
_LOOK_EVERY = 0.02
#: Slow enough to be seen, and that turns of different users run side by side.
_MOCK_LATENCY = "0.1-0.4"
_CONCURRENCY = 100
#: Of the mock, which nobody sends a bill for: US dollars for a million tokens.
_PRICES = {"mock/*": {"input": 1_000, "output": 2_000}}
#: Around every call of it, for the chapter on layers.
LAYER = "log"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The running system, as its ready line tells it."""

    database_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    flower_url: str = field(repr=False)
    pid: int
    home: Path

    @property
    def tab_url(self) -> str:
        """Return where Flower shows turns."""
        return f"{self.flower_url}/turnmill"


class ThrowAway:
    """A `turnmill up` that was started, and maybe is not ready yet."""

    def __init__(self, child: Child, home: Home) -> None:
        self._child = child
        self._home = home

    def ready(self, say: Say) -> System:
        """Wait until it is, telling what it does meanwhile. Raises DidNotStart."""
        deadline = time.monotonic() + _START_WITHIN.total_seconds()
        log, told = self._home.log("up"), ""
        while (system := self._noted()) is None:
            line = logfile.tail(log, lines=1)
            if line != told:
                say(line)
                told = line
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise DidNotStart("the system did not start", log_tail=logfile.tail(log), hint="")
            time.sleep(_LOOK_EVERY)
        return system

    def end(self) -> None:
        """Stop everything, and return when it is gone."""
        self._child.ask_to_stop()
        wait_until(lambda: self._child.poll() is not None, timeout=_STOP_WITHIN)
        self._child.kill()

    def _noted(self) -> System | None:
        try:
            found: dict[str, Any] = json.loads((self._home.path / READY_FILE).read_text())
        except (FileNotFoundError, ValueError):  # not there, or just being written
            return None
        found.pop("event")
        return System(home=self._home.path, **found)


@contextmanager
def throw_away(*, keep: bool, say: Say) -> Iterator[ThrowAway]:
    """Start `turnmill up` on a new home; at the end stop it and remove everything, or keep it.

    What was interrupted is not kept. Call it from the main thread.
    """
    home = _new_home()
    with _interrupted_by_term():
        started: ThrowAway | None = None
        kept = False
        try:
            started = ThrowAway(Child.spawn(_up(home, keep=keep)), home)
            yield started
            kept = keep
        finally:
            if not kept:
                _ignore_signals()  # nothing keeps it from cleaning up
                say("stopping")
                if started is not None:
                    started.end()
                home.discard()


def _new_home() -> Home:
    path = Path(tempfile.mkdtemp(prefix="turnmill-demo-"))
    if os.geteuid() == 0:
        path.chmod(0o711)  # root's Postgres runs as another user, who has to pass through
    return Home(path)


def _up(home: Home, *, keep: bool) -> Program:
    # Whatever else is set up here is left alone: the demo brings its own servers.
    env = {name: value for name, value in os.environ.items() if not name.startswith("TURNMILL_")}
    prices = home.path / "prices.json"
    prices.write_text(json.dumps(_PRICES))
    env |= {
        "TURNMILL_MOCK_LATENCY": _MOCK_LATENCY,
        "TURNMILL_LAYERS": LAYER,
        "TURNMILL_PRICES": str(prices),
    }
    options = ("--json", "--home", str(home.path), "--concurrency", str(_CONCURRENCY))
    return Program(
        name="up",
        argv=(sys.executable, "-m", "turnmill.cli", "up", *options),
        log=home.log("up"),
        env=env,
        orphan_signal=None if keep else signal.SIGTERM,
    )


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _interrupted_by_term() -> Iterator[None]:
    """Take TERM and HUP for Ctrl-C, so that they leave nothing behind either."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    before[signal.SIGINT] = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
