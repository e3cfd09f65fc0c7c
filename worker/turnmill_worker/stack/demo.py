"""`turnmill demo`: real conversations through the real queue, on a home that is thrown away."""

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from turnmill.cli.running_home import READY_FILE
from turnmill.client import Client, Turn
from turnmill.domain.errors import KeyMissing, TurnTimeout
from turnmill.domain.states import UNFINISHED, TurnState
from turnmill.store.records import SessionRecord
from turnmill_worker.providers.registry import ProviderRegistry
from turnmill_worker.stack import logfile
from turnmill_worker.stack.demo_script import (
    CONVERSATIONS,
    MODELS,
    PAID_LINES,
    PAID_PROMPT,
    Conversation,
    Line,
)
from turnmill_worker.stack.errors import DidNotStart
from turnmill_worker.stack.home import Home
from turnmill_worker.stack.process import Child, Program, wait_until

_START_WITHIN = timedelta(seconds=120)
_ANSWERED_WITHIN = timedelta(minutes=5)
_STOP_WITHIN = timedelta(seconds=15)
_LOOK_EVERY = 0.1
#: Slow enough to be seen, and that turns of different users run side by side.
_MOCK_LATENCY = "0.1-0.4"
_CONCURRENCY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The running system, as its ready line tells it."""

    database_url: str
    broker_url: str
    flower_url: str
    pid: int
    home: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A conversation that took place."""

    script: Conversation
    session: SessionRecord
    turns: Sequence[tuple[Line, Turn]]


@contextmanager
def running_system(*, keep: bool, say: Callable[[str], None]) -> Iterator[System]:
    """Start `turnmill up` on a new home; at the end stop it and remove everything, or keep it.

    What was interrupted is never kept. Raises DidNotStart.
    """
    home = _new_home()
    child: Child | None = None
    with _interrupted_by_term():
        done = False
        try:
            child = Child.spawn(_up(home, keep=keep))
            yield _await_ready(child, home, say=say)
            done = True
        finally:
            if not (done and keep):
                say("stopping")
                _throw_away(child, home)


def require_key(provider: str) -> None:
    """Raise KeyMissing when the provider cannot be asked from here."""
    if variable := ProviderRegistry().missing_key(provider):
        raise KeyMissing(hint=f"set {variable}, or leave --provider out: the mock needs no key")


def play(client: Client, *, provider: str, model: str | None) -> list[Played]:
    """Send every line of every conversation, without waiting for any reply."""
    played = [
        Played(script=script, session=session, turns=[])
        for script in CONVERSATIONS
        for session in [_new_session(client, script, provider=provider, model=model)]
    ]
    return [_sent(client, one) for one in played]


def wait_for(client: Client, *, total: int, draw: Callable[[int, str], None]) -> None:
    """Tell `draw` how many turns are final and what the others do, until all of them are.

    Raises TurnTimeout.
    """
    deadline = time.monotonic() + _ANSWERED_WITHIN.total_seconds()
    while True:
        states = [turn.state for turn in client.turns.list(states=tuple(UNFINISHED), limit=1000)]
        told = [f"{states.count(state)} {state}" for state in TurnState if state in states]
        draw(total - len(states), ", ".join(told))
        if not states:
            return
        if time.monotonic() > deadline:
            raise TurnTimeout(f"{len(states)} turns are unfinished")
        time.sleep(_LOOK_EVERY)


def _new_session(
    client: Client, script: Conversation, *, provider: str, model: str | None
) -> SessionRecord:
    asked = "mock" if script.is_staged else provider
    return client.sessions.create(
        user_id=script.user,
        provider=asked,
        model=(None if script.is_staged else model) or MODELS.get(asked, asked),
        system_prompt=None if asked == "mock" else PAID_PROMPT,
    )


def _sent(client: Client, one: Played) -> Played:
    paid = one.session.provider != "mock"
    lines = one.script.lines[:PAID_LINES] if paid else one.script.lines
    turns = [(line, client.send(one.session, line.text, **line.options)) for line in lines]
    return Played(script=one.script, session=one.session, turns=turns)


def _new_home() -> Home:
    path = Path(tempfile.mkdtemp(prefix="turnmill-demo-"))
    if os.geteuid() == 0:
        path.chmod(0o711)  # root's Postgres runs as another user, who has to pass through
    return Home(path)


def _up(home: Home, *, keep: bool) -> Program:
    # Whatever else is set up here is left alone: the demo brings its own servers.
    env = {name: value for name, value in os.environ.items() if not name.startswith("TURNMILL_")}
    env["TURNMILL_MOCK_LATENCY"] = _MOCK_LATENCY
    options = ("--json", "--home", str(home.path), "--concurrency", str(_CONCURRENCY))
    return Program(
        name="up",
        argv=(sys.executable, "-m", "turnmill.cli", "up", *options),
        log=home.log("up"),
        env=env,
        orphan_signal=None if keep else signal.SIGTERM,
    )


def _await_ready(child: Child, home: Home, *, say: Callable[[str], None]) -> System:
    deadline = time.monotonic() + _START_WITHIN.total_seconds()
    noted, told = home.path / READY_FILE, ""
    while not noted.exists():
        line = logfile.tail(home.log("up"), lines=1)
        if line != told:
            say(line)
            told = line
        if child.poll() is not None or time.monotonic() > deadline:
            raise DidNotStart(
                "the system did not start", log_tail=logfile.tail(home.log("up")), hint=""
            )
        time.sleep(0.02)
    found: dict[str, Any] = json.loads(noted.read_text())
    found.pop("event")
    return System(home=home.path, **found)


def _throw_away(child: Child | None, home: Home) -> None:
    """Stop everything and remove the home; further signals do not keep it from that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if child is not None:
        child.ask_to_stop()
        wait_until(lambda: child.poll() is not None, timeout=_STOP_WITHIN)
        child.kill()
    home.discard()


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
