"""A server that comes with the stack, alone in a test or under the supervisor."""

from abc import ABC, abstractmethod
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Self

from turnmill_worker.stack import logfile, ports
from turnmill_worker.stack.errors import DidNotStart
from turnmill_worker.stack.home import Home
from turnmill_worker.stack.process import Child, Program, wait_until

START_TIMEOUT = timedelta(seconds=30)
STOP_TIMEOUT = timedelta(seconds=5)


class EmbeddedServer(ABC):
    """Start, stop, kill and restart; the data in the home stay, and so does the port.

    Start it from the main thread: it ends with the thread that started it.
    """

    name: ClassVar[str]
    usual_port: ClassVar[int]

    def __init__(self, home: Path, *, port: int | None = None) -> None:
        self.home = Home(home)
        self.home.make()
        self._port = port  #: None: that of the last run, else the usual one, else any
        self._was_ready = False
        self._child: Child | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """With user and password, as its clients take it. It stands once the server is ready."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the files that the server needs before its first run."""

    @abstractmethod
    def _program(self) -> Program:
        """Return what to run on `self.port`."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Ask the server, without waiting for it."""

    def welcome(self) -> None:
        """Make, once the server is ready, what its clients expect to find. May be repeated."""
        self._was_ready = True
        self.home.remember_port(self.name, self.port)

    def program(self) -> Program:
        """Return what to run. The port may move until the server was ready, then it stands."""
        if not self._was_ready:
            self._port = ports.choose(self.port)
        return self._program()

    @property
    def port(self) -> int:
        if self._port is None:
            self._port = self.home.remembered_port(self.name) or self.usual_port
        return self._port

    @property
    def pid(self) -> int:
        if self._child is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._child.pid

    def start(self) -> Self:
        """Return when the server answers; raises DidNotStart."""
        self.prepare()
        self._run()
        return self

    def stop(self) -> None:
        """End it in good order; what it promised to keep is kept."""
        if self._child is None:
            return
        child, self._child = self._child, None
        child.ask_to_stop()
        wait_until(lambda: child.poll() is not None, timeout=STOP_TIMEOUT)
        child.kill()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def restart(self) -> Self:
        """Start it again after `stop` or `kill`, on the same port."""
        self.stop()
        self._run()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        child = self._child = Child.spawn(self.program())
        wait_until(lambda: child.poll() is not None or self.is_ready(), timeout=START_TIMEOUT)
        if child.poll() is not None or not self.is_ready():
            self.kill()
            tail = logfile.tail(child.program.log)
            raise DidNotStart(f"{self.name} did not start", log_tail=tail)
        self.welcome()
