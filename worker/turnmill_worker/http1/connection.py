"""One connection, on which one request after another is answered."""

import asyncio
import select
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import cast

from turnmill_worker.http1.answer import Answer
from turnmill_worker.http1.body import Body
from turnmill_worker.http1.failures import NotConnected, TimedOut
from turnmill_worker.http1.reading import Bounds, Reading
from turnmill_worker.http1.remains import unread
from turnmill_worker.http1.stream import Stream

#: Of a request that is larger, so much is handed over at a time.
_PIECE = 256 * 1024
#: The same over TLS: as long as it lives, a connection keeps a buffer for the largest piece.
_RECORD = 16 * 1024


class Connection(asyncio.Protocol):
    """A connection that is open, or was."""

    __slots__ = (
        "_drained",
        "_ended",
        "_loop",
        "_lost",
        "_piece",
        "_reading",
        "_sending",
        "_transport",
        "idle_since",
        "kept_for",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        lost: Callable[["Connection"], None],
        sending: asyncio.Semaphore,
    ) -> None:
        """`lost` is called once, when it is gone; `sending` is passed for each piece of a body."""
        self._loop = loop
        self._lost = lost
        self._sending = sending
        self._transport: asyncio.Transport | None = None
        self._piece = _PIECE
        self._reading: Reading | None = None
        self._drained: asyncio.Future[None] | None = None  #: while the server takes no more
        self._ended = False  #: the server has said its last; over TLS the transport stands a while
        self.idle_since = 0.0
        self.kept_for: int | None = None  #: seconds, as the server has said with its last answer

    @property
    def is_open(self) -> bool:
        """Tell whether a request can be sent on it, as far as we know."""
        transport = self._transport
        return transport is not None and not self._ended and not transport.is_closing()

    @property
    def is_quiet(self) -> bool:
        """Tell whether nothing has come that the loop, which may be busy, has not read so far.

        Before a request that is the server's end, or what nobody has asked for: the request would
        be lost in the one, and take the other for its answer.
        """
        if self._transport is None or not self.is_open:
            return False
        sock = self._transport.get_extra_info("socket")
        if sock is None:
            return True  # asyncio knows transports without one
        come = select.poll()
        come.register(sock.fileno(), select.POLLIN)
        return not come.poll(0)

    async def exchange(
        self,
        request: bytes,
        body: Body | None = None,
        *,
        bounds: Bounds,
        room: asyncio.Semaphore,
        deadline: float,
    ) -> Answer:
        """Send the request and return its answer; raises a Failure. `deadline` is the loop's.

        A `body` that is sent in pieces follows the request; what it raises is raised. Whatever
        happens but an answer, and a cancellation too, closes the connection.
        """
        reading = self._reading = Reading(self._loop, bounds)
        timer = self._loop.call_at(deadline, reading.pass_deadline)
        whole = False
        try:
            whole = await self._written(request, reading)
            del request  # it has left: whoever waits for an answer keeps no question
            if body is not None and whole:
                whole = await self._streamed(body, reading, deadline)
            if not reading.over:
                await reading.waiter
            if reading.wants_room:
                await self._read_on(reading, room, deadline)
            return reading.answer()
        finally:
            timer.cancel()
            self._end(reading, whole=whole)

    @asynccontextmanager
    async def stream(
        self,
        request: bytes,
        body: Body | None = None,
        *,
        bounds: Bounds,
        silence: float,
        deadline: float,
    ) -> AsyncIterator[Stream]:
        """Send the request and give its answer as soon as its head is here. See `exchange`.

        Whoever leaves before its end closes the connection.
        """
        reading = self._reading = Stream(self._loop, bounds, silence=silence)
        timer = self._loop.call_at(deadline, reading.pass_deadline)
        whole = False
        try:
            whole = await self._written(request, reading)
            if body is not None and whole:
                whole = await self._streamed(body, reading, deadline)
            await reading.begun()
            yield reading
        finally:
            timer.cancel()
            self._end(reading, whole=whole)

    def close(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop, as all that follow."""
        self._transport = cast(asyncio.Transport, transport)
        if transport.get_extra_info("sslcontext") is not None:
            self._piece = _RECORD

    def data_received(self, data: bytes) -> None:
        reading = self._reading
        if reading is None:
            self.close()  # it speaks without having been asked
            return
        reading.feed(data)
        if reading.wants_room and self._transport is not None:
            reading.wait_for_room(self._transport)

    def eof_received(self) -> None:
        self._ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reading is not None:
            self._take_remains(self._reading, exc)
            self._reading.end(exc)
        self._transport = None  # asyncio's cannot always be closed once more
        self.resume_writing()
        self._lost(self)

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def _take_remains(self, reading: Reading, exc: Exception | None) -> None:
        """Read the answer of a server that hung up on a request which it did not want to the end.

        Sending more fails then, before we have read what it said. Over TLS that was seen to.
        """
        if exc is None or self._transport is None or self._piece == _RECORD:
            return
        for data in unread(self._transport):
            if reading.over:
                return
            reading.feed(data)

    async def _streamed(self, body: Body, reading: Reading, deadline: float) -> bool:
        """Hand the body over as it comes; False when an answer, or the deadline, came before."""
        try:
            async with asyncio.timeout_at(deadline), aclosing(body.pieces()) as pieces:
                while True:
                    # Hundreds send at the same time, and none for long: the loop goes on between.
                    async with self._sending:
                        piece = await anext(pieces, None)
                        if piece is None:
                            return True
                        if self._transport is not None:
                            self._transport.write(piece)
                        await asyncio.sleep(0)
                    if not await self._taken(reading):
                        return False
        except TimeoutError:
            reading.fail(TimedOut())
            return False

    async def _written(self, request: bytes, reading: Reading) -> bool:
        """Hand the request over; False when an answer came before all of it had left."""
        transport = self._transport
        if transport is None:
            reading.fail(NotConnected())  # it was lost before
            return False
        view, most = memoryview(request), self._piece
        for start in range(0, len(view), most):
            transport.write(view[start : start + most])
            if self._drained is not None and not await self._taken(reading):
                return False
            if reading.over or transport.is_closing():
                return False
        return True

    async def _taken(self, reading: Reading) -> bool:
        """Wait until the server takes more; False when it has answered."""
        if self._drained is not None:
            await asyncio.wait([self._drained, reading.waiter], return_when=asyncio.FIRST_COMPLETED)
        return not reading.over

    def _end(self, reading: Reading, *, whole: bool) -> None:
        self._reading = None
        self.kept_for = reading.kept_for
        reading.let_go()
        if not (reading.complete and reading.reusable and whole):
            self.close()

    async def _read_on(self, reading: Reading, room: asyncio.Semaphore, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline), room:
                reading.give_room(self._loop)
                if self._transport is not None and self.is_open:
                    self._transport.resume_reading()
                if not reading.over:
                    await reading.waiter
        except TimeoutError:
            reading.fail(TimedOut())
