"""Connections to one origin that are kept between requests."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from turnmill_worker.http1.answer import Answer
from turnmill_worker.http1.body import Body
from turnmill_worker.http1.connection import Connection
from turnmill_worker.http1.failures import ConnectTimeout, NotConnected
from turnmill_worker.http1.listening import LISTENINGS, listening
from turnmill_worker.http1.opening import Opener, Origin
from turnmill_worker.http1.reading import Bounds
from turnmill_worker.http1.stream import Stream

#: Large bodies that are read at the same time.
_LARGE_AT_ONCE = 4
#: Connections that are opened at the same time. Of thousands of handshakes that take turns on one
#: loop none would end in time; so a few do, and the others wait as long as those get through.
_OPENED_AT_ONCE = 100
#: So many connections in use are many. One that is idle for a moment was hardly given up by then.
_MANY = 100
_A_MOMENT_S = 0.05
#: A server that says when it hangs up is asked nothing so shortly before: the two would cross.
_BEFORE_S = 1.0
#: Pieces of bodies that are made and handed over in one round of the event loop.
_PIECES_AT_ONCE = 16


class Pool:
    """Connections to one origin, of one event loop."""

    def __init__(
        self,
        origin: Origin,
        *,
        base: str,
        headers: Mapping[str, str],
        most: int,
        keep_alive: timedelta,
        connect_within: timedelta,
    ) -> None:
        """`headers`, Host among them, go with every request, and every path begins with `base`.

        `most` connections at once. Raises ValueError for a header that cannot be sent.
        """
        self._loop = asyncio.get_running_loop()
        self._opener = Opener(origin, self._loop)
        self._base = base
        self._headers = headers
        self._head = _head_of(headers)
        self._places = asyncio.Semaphore(most)
        self._openings = asyncio.Semaphore(_OPENED_AT_ONCE)
        self._opened_at = 0.0  #: when somebody last got through
        self._gave_up_at = 0.0  #: when somebody last did not, in time
        self._room = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._sending = asyncio.Semaphore(_PIECES_AT_ONCE)
        self._keep_alive = keep_alive.total_seconds()
        self._connect_within = connect_within
        self._all: set[Connection] = set()
        self._idle: deque[Connection] = deque()  #: whoever was idle for longest is the first
        self._sweeping: asyncio.TimerHandle | None = None

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | Body | None,
        *,
        within: timedelta,
        bounds: Bounds,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one request; raises a Failure. A redirection is an answer like any other.

        `headers` take the place of those that every request has.
        """
        deadline = self._loop.time() + within.total_seconds()
        head = self._head_for(method, path, body, headers)  # which may raise
        connection = self._idle_one() or await self._opened(within, deadline)
        exchange = connection.exchange(
            _with_body(head, body),
            body if isinstance(body, Body) else None,
            bounds=bounds,
            room=self._room,
            deadline=deadline,
        )
        del body  # not kept while thousands wait like this one
        answer = await exchange
        self._give_back(connection)
        return answer

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        body: bytes | Body | None,
        *,
        within: timedelta,
        silence: timedelta,
        bounds: Bounds,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Stream]:
        """Make one request and give its answer while it comes in; raises a Failure.

        It ends in time as a whole, and where nothing comes for as long as `silence`.
        """
        deadline = self._loop.time() + within.total_seconds()
        head = self._head_for(method, path, body, headers)  # which may raise
        connection = self._idle_one() or await self._opened(within, deadline)
        async with connection.stream(
            _with_body(head, body),
            body if isinstance(body, Body) else None,
            bounds=bounds,
            silence=silence.total_seconds(),
            deadline=deadline,
        ) as stream:
            yield stream
        self._give_back(connection)

    async def close(self) -> None:
        """Hang up on everybody."""
        for connection in list(self._all):
            connection.close()
        await asyncio.sleep(0)  # in which they learn of it

    def drop(self) -> None:
        """Let go of connections whose loop is gone."""
        for connection in list(self._all):
            with suppress(RuntimeError):
                connection.close()

    def _head_for(
        self,
        method: str,
        path: str,
        body: bytes | Body | None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the head of a request; raises ValueError for what cannot be sent."""
        line = f"{method} {self._base}{path} HTTP/1.1\r\n".encode("ascii")
        head = self._head if headers is None else _head_of(_put_in(self._headers, headers))
        if body is None and method == "GET":
            return b"%b%b\r\n" % (line, head)
        length = body.length if isinstance(body, Body) else len(body or b"")
        return b"%b%bContent-Length: %d\r\n\r\n" % (line, head, length)

    def _idle_one(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if self._is_fresh(connection) and (self._is_busy(connection) or connection.is_quiet):
                return connection
            connection.close()
        return None

    def _is_busy(self, connection: Connection) -> bool:
        """Tell whether it was in use a moment ago, as hundreds are: a look at each holds up all."""
        in_use = len(self._all) - len(self._idle)
        return in_use >= _MANY and self._loop.time() - connection.idle_since < _A_MOMENT_S

    def _is_fresh(self, connection: Connection) -> bool:
        kept_for = self._keep_alive
        if connection.kept_for is not None:
            kept_for = min(kept_for, connection.kept_for - _BEFORE_S)
        return connection.is_open and self._loop.time() - connection.idle_since < kept_for

    async def _opened(self, within: timedelta, deadline: float) -> Connection:
        seconds = min(within, self._connect_within).total_seconds()
        try:
            await self._stand_in_line(seconds, deadline)
            try:
                async with listening(seconds):
                    await self._places.acquire()
                    connection = await self._in_its_place()
            except TimeoutError:
                self._gave_up_at = self._loop.time()
                raise
            finally:
                self._openings.release()
            if self._loop.time() < deadline:
                return connection
            self._give_back(connection)
            failure: NotConnected = ConnectTimeout()
        except TimeoutError:
            failure = ConnectTimeout()
        except (OSError, UnicodeError) as error:
            failure = NotConnected(type(error).__name__)
        raise failure

    async def _stand_in_line(self, seconds: float, deadline: float) -> None:
        """Wait until one may open; raises TimeoutError when nobody has got through for so long.

        Where none of those who tried has given up either, it is we who were not listening.
        """
        began = self._loop.time()
        until = max(began, self._opened_at) + seconds
        while True:
            try:
                async with asyncio.timeout_at(min(until, deadline)):
                    await self._openings.acquire()
                    return
            except TimeoutError:
                now, since = self._loop.time(), max(began, self._opened_at)
                if now >= deadline or (now >= since + seconds and self._gave_up_at >= since):
                    raise
                until = max(since + seconds, now + seconds / LISTENINGS)

    async def _in_its_place(self) -> Connection:
        """Return a new connection, which gives its place back when it is gone."""
        try:
            connection = await self._opener.open(self._connection)
            if not connection.is_open:
                raise ConnectionResetError
        except BaseException:
            self._places.release()
            raise
        self._all.add(connection)
        self._opened_at = self._loop.time()
        return connection

    def _connection(self) -> Connection:
        return Connection(self._loop, self._forget, self._sending)

    def _give_back(self, connection: Connection) -> None:
        if not connection.is_open:
            return
        if self._places.locked():
            connection.close()  # somebody waits for its place
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._keep_alive, self._sweep)

    def _sweep(self) -> None:
        """Hang up where nobody has asked anything for long."""
        while self._idle and not self._is_fresh(self._idle[0]):
            self._idle.popleft().close()
        self._sweeping = None
        if self._idle:
            self._sweeping = self._loop.call_later(self._keep_alive, self._sweep)

    def _forget(self, connection: Connection) -> None:
        if connection in self._all:
            self._all.remove(connection)
            self._places.release()


def _with_body(head: bytes, body: bytes | Body | None) -> bytes:
    """Return a request with the body behind it, if that is held whole."""
    return b"%b%b" % (head, body) if isinstance(body, bytes) and body else head


def _put_in(headers: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with others in the places of those of the same names."""
    names = {name.lower() for name in others}
    kept = {name: value for name, value in headers.items() if name.lower() not in names}
    return {**kept, **others}


def _head_of(headers: Mapping[str, str]) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    if any(not line.isprintable() for line in lines):
        raise ValueError("a header holds a control character")
    return "".join(f"{line}\r\n" for line in lines).encode()
