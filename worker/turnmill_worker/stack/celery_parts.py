"""The parts of the stack that are Celery's: workers, beat and Flower."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import quote

from turnmill_worker.stack import environments, ports
from turnmill_worker.stack.home import Home
from turnmill_worker.stack.process import Program

FLOWER_PORT = 5555
#: A flowerconfig.py in the working directory is not what is meant: it could open Flower.
FLOWER_CONFIG = f"--conf={os.devnull}"

#: What Flower keeps in memory: the last tasks. 10,000 turns are about 75 MB there.
FLOWER_BOUNDS = ("--max-tasks=10000", "--max-workers=100")


@dataclass(frozen=True, slots=True, kw_only=True)
class CelerySetup:
    """What every one of them is told."""

    home: Home
    app: str
    database_url: str = field(repr=False)
    viewer_url: str = field(repr=False)  #: of the role that reads no content; empty: there is none
    broker_url: str = field(repr=False)
    call_grace: timedelta

    def environment(self, narrow: Callable[[Mapping[str, str]], dict[str, str]]) -> dict[str, str]:
        """Return what one of them is told; `narrow` leaves of it what that one needs."""
        told = {
            "TURNMILL_DATABASE_URL": self.database_url,
            "TURNMILL_VIEWER_URL": self.viewer_url,
            "TURNMILL_BROKER_URL": self.broker_url,
            "TURNMILL_HOME": str(self.home.path),
            "TURNMILL_GRACE": str(self.call_grace.total_seconds()),
        }
        return narrow({**os.environ, **told})

    def command(self, program: str, *arguments: str) -> tuple[str, ...]:
        return command_of(program, *arguments, app=self.app)


def command_of(program: str, *arguments: str, app: str) -> tuple[str, ...]:
    """Return the command that runs one of Celery's programs."""
    module = "turnmill_worker" if program in {"worker", "beat"} else "celery"
    # -P: somebody's own celery.py in the working directory is not what is meant.
    return (sys.executable, "-P", "-m", module, "-A", app, program, *arguments)


class WorkerPart:
    """One worker process."""

    def __init__(self, setup: CelerySetup, *, number: int, concurrency: int) -> None:
        self.name = f"worker{number}"
        self._setup = setup
        self._concurrency = concurrency

    def program(self) -> Program:
        options = (f"--concurrency={self._concurrency}", "--loglevel=INFO")
        # Gossip and mingle find other workers; nobody needs them, and they cost a second.
        quick = ("--without-gossip", "--without-mingle")
        # Flower runs beside it, and would ask for events a few seconds after the first turns.
        watched = ("--events",)
        return Program(
            name=self.name,
            argv=self._setup.command(
                "worker", f"--hostname={self.name}@%h", *options, *quick, *watched
            ),
            log=self._setup.home.log(self.name),
            env=self._setup.environment(environments.of_worker),
            hurry_signal=signal.SIGQUIT,
            tells_ready=True,
        )

    def is_ready(self) -> bool:
        return False  # it tells

    def welcome(self) -> None:
        """Nothing is missing: it takes turns by itself."""


class BeatPart:
    """The clock of the schedule."""

    name = "beat"

    def __init__(self, setup: CelerySetup) -> None:
        self._setup = setup

    def program(self) -> Program:
        schedule = self._setup.home.folder("beat") / "schedule"
        return Program(
            name=self.name,
            argv=self._setup.command("beat", f"--schedule={schedule}", "--loglevel=INFO"),
            log=self._setup.home.log(self.name),
            env=self._setup.environment(environments.of_beat),
            tells_ready=True,
        )

    def is_ready(self) -> bool:
        return False  # it tells

    def welcome(self) -> None:
        """Nothing is missing."""


@dataclass(frozen=True, slots=True)
class FlowerLogin:
    """Who may look at Flower."""

    user: str
    password: str = field(repr=False)


class FlowerPart:
    """The window on tasks and workers; closed to whoever has no password."""

    name = "flower"

    def __init__(self, setup: CelerySetup, *, login: FlowerLogin) -> None:
        self._setup = setup
        self._login = login
        self._was_ready = False
        self._port = setup.home.remembered_port(self.name) or FLOWER_PORT

    @property
    def url(self) -> str:
        """With user and password, as browsers and HTTP clients take it."""
        user, password = quote(self._login.user, safe=""), quote(self._login.password, safe="")
        return f"http://{user}:{password}@{ports.LOOPBACK}:{self._port}"

    def program(self) -> Program:
        if not self._was_ready:
            self._port = ports.choose(self._port)
        login = f"{self._login.user}:{self._login.password}"
        listen = (f"--address={ports.LOOPBACK}", f"--port={self._port}")
        return Program(
            name=self.name,
            argv=self._setup.command("flower", FLOWER_CONFIG, *FLOWER_BOUNDS, *listen),
            log=self._setup.home.log(self.name),
            # Not on the command line, which is seen by everybody.
            env=self._setup.environment(environments.of_flower) | {environments.FLOWER_AUTH: login},
            # It keeps nothing, and asked politely its threads can hold it up for seconds.
            stop_signal=signal.SIGKILL,
            tells_ready=True,  # once it hears the workers
        )

    def is_ready(self) -> bool:
        return False  # it tells

    def welcome(self) -> None:
        self._was_ready = True
        self._setup.home.remember_port(self.name, self._port)
