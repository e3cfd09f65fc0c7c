"""A broker that can be broken in every way that one of Redis' kind breaks, between two hellos.

with BreakableSystem(servers) as system:
    with system.broken("frozen"):
        ...
"""

import selectors
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tests.chaos.system import System
from turnmill.wire import LANE_QUEUES, UPKEEP_QUEUE

_LOOPBACK = "127.0.0.1"
_CHUNK = 65536


class Line:
    """The way to the broker: bytes are passed on, or swallowed, or nobody picks up."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._swallows = False
        self._selector = selectors.DefaultSelector()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._connecting: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((_LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @contextmanager
    def swallowing(self) -> Iterator[None]:
        """Accept connections and bytes, and let nothing through in either direction."""
        self._swallows = True
        try:
            yield
        finally:
            self._swallows = False

    @contextmanager
    def unanswered(self) -> Iterator[None]:
        """Let nobody connect: the first packet of a connection is dropped, and all others too."""
        with self.swallowing(), ExitStack() as stack:
            with self._lock:
                self._selector.unregister(self._listener)
                self._listener.close()
            deaf = stack.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            deaf.bind((_LOOPBACK, self.port))
            deaf.listen(0)
            for _ in range(4):  # its queue is full: the kernel drops what comes
                caller = stack.enter_context(socket.socket())
                caller.setblocking(False)
                caller.connect_ex((_LOOPBACK, self.port))
            yield
        with self._lock:
            self._listener = socket.create_server((_LOOPBACK, self.port))
            self._selector.register(self._listener, selectors.EVENT_READ)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        for one in [self._listener, *self._pairs]:
            one.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                ready = [key.fileobj for key, _ in self._selector.select(timeout=0.005)]
                for one in ready:
                    if one is self._listener:
                        self._connect()
                    elif isinstance(one, socket.socket) and one in self._pairs:
                        self._pass_on(one)
            self._closed.wait(0.0005)

    def _connect(self) -> None:
        caller, _ = self._listener.accept()
        server = socket.socket()
        self._pairs[caller], self._pairs[server] = server, caller
        if self._swallows:
            self._selector.register(caller, selectors.EVENT_READ)
            return
        # A server that was frozen for long lets nobody connect, and the kernel asks it again after
        # a second, two, four: who calls meanwhile waits by himself, and those after him do not.
        server.setblocking(False)
        server.connect_ex((_LOOPBACK, self._target))
        self._selector.register(server, selectors.EVENT_WRITE)
        self._connecting.add(server)

    def _connected(self, server: socket.socket) -> None:
        caller = self._pairs[server]
        self._connecting.remove(server)
        if server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._hang_up(server, caller)
            return
        server.setblocking(True)
        self._selector.modify(server, selectors.EVENT_READ)
        self._selector.register(caller, selectors.EVENT_READ)

    def _pass_on(self, one: socket.socket) -> None:
        if one in self._connecting:
            self._connected(one)
            return
        other = self._pairs[one]
        try:
            data = one.recv(_CHUNK)
            if data and not self._swallows:
                other.sendall(data)
        except OSError:
            data = b""
        if not data:
            self._hang_up(one, other)

    def _hang_up(self, *both: socket.socket) -> None:
        for one in both:
            self._pairs.pop(one, None)
            with suppress(KeyError, ValueError):
                self._selector.unregister(one)
            one.close()


@dataclass
class BreakableSystem(System):
    """A system whose broker is reached through a line of its own."""

    line: Line = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.line = Line(self.servers.valkey.port)

    @property
    def broker_url(self) -> str:
        parts = urlsplit(self.servers.valkey.url)
        place = parts.netloc.rpartition(":")[0]
        return urlunsplit(parts._replace(netloc=f"{place}:{self.line.port}"))

    def broken(self, kind: str) -> AbstractContextManager[None]:
        """Break the broker in this way for a while."""
        return KINDS[kind](self)

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)
        self.line.close()


@contextmanager
def _killed(system: BreakableSystem) -> Iterator[None]:
    system.servers.valkey.kill()
    try:
        yield
    finally:
        system.servers.valkey.restart()


@contextmanager
def _frozen(system: BreakableSystem) -> Iterator[None]:
    with system.servers.frozen_redis():
        yield


@contextmanager
def _told(system: BreakableSystem, *commands: str, mended_by: str) -> Iterator[None]:
    """Break it by what it is told."""
    with system.servers.redis() as connection:
        for command in commands:
            connection.execute_command(*command.split())
        try:
            yield
        finally:
            connection.execute_command(*mended_by.split())


def _full(system: BreakableSystem) -> AbstractContextManager[None]:
    return _told(system, "CONFIG SET maxmemory 1", mended_by="CONFIG SET maxmemory 0")


def _read_only(system: BreakableSystem) -> AbstractContextManager[None]:
    """A replica of something that is not there, as after a failover that went wrong."""
    return _told(system, f"REPLICAOF {_LOOPBACK} 1", mended_by="REPLICAOF NO ONE")


def _wrongly_keyed(system: BreakableSystem) -> AbstractContextManager[None]:
    """Somebody else uses the names of the queues for something else."""
    queues = (*LANE_QUEUES.values(), UPKEEP_QUEUE)
    taken = [f"SET {queue} something" for queue in queues]
    return _told(system, *taken, mended_by=f"DEL {' '.join(queues)}")


def _littered(system: BreakableSystem) -> AbstractContextManager[None]:
    """What lies in the queues is no message, and there is much of it."""
    queues = LANE_QUEUES.values()
    litter = [f"LPUSH {queue} {'litter ' * 1000}" for queue in queues]
    return _told(system, *litter, mended_by="PING")


@contextmanager
def _locked(system: BreakableSystem) -> Iterator[None]:
    """Another password: who is connected is thrown out, too."""
    with system.servers.redis() as connection:
        password = connection.config_get("requirepass")["requirepass"]
        connection.config_set("requirepass", "another")
        connection.client_kill_filter(_type="normal")
        connection.client_kill_filter(_type="pubsub")
        try:
            yield
        finally:
            connection.config_set("requirepass", password)


def _forbidden(system: BreakableSystem) -> AbstractContextManager[None]:
    """The user may no longer do what hints need."""
    return _told(system, "ACL SETUSER default -@list", mended_by="ACL SETUSER default +@all")


def _black_holed(system: BreakableSystem) -> AbstractContextManager[None]:
    return system.line.swallowing()


def _unreachable(system: BreakableSystem) -> AbstractContextManager[None]:
    return system.line.unanswered()


KINDS: Mapping[str, Callable[[BreakableSystem], AbstractContextManager[None]]] = MappingProxyType(
    {
        "killed": _killed,
        "frozen": _frozen,
        "black-holed": _black_holed,
        "unreachable": _unreachable,
        "full": _full,
        "read-only": _read_only,
        "wrongly keyed": _wrongly_keyed,
        "littered": _littered,
        "locked": _locked,
        "forbidden": _forbidden,
    }
)
