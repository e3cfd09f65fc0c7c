"""An answer that is taken piece by piece, while it comes in."""

import asyncio

from turnmill_worker.http1.answer import Headers
from turnmill_worker.http1.failures import CutShort, TimedOut, TooLarge
from turnmill_worker.http1.reading import Bounds, Reading


class Stream(Reading):
    """The answer to one request: fed by its connection, taken by its caller.

    What nobody takes is kept up to `large` bytes; then the server has to wait. The bound on a body
    counts all that came.
    """

    __slots__ = ("_heard", "_loop", "_paused", "_silence", "_timer", "_total", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, bounds: Bounds, *, silence: float) -> None:
        """With its head the answer begins; from then on `silence` seconds without a byte end it."""
        super().__init__(loop, bounds)
        self._loop = loop
        self._silence = silence
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None  #: that waits for us to take something
        self._total = 0

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._status

    @property
    def headers(self) -> Headers:
        """The fields of its head."""
        return Headers(self._fields)

    @property
    def framed(self) -> bool:
        """False: only that the server hangs up says that this is the end."""
        return self._framed

    async def begun(self) -> None:
        """Wait for the head; raises a Failure where none comes."""
        while not (self._headed or self.over):
            await self._news()
        if self._failure is not None and not self._headed:
            raise self._failure

    async def next(self) -> bytes:
        """Return what came since, or wait for it; b"" at the end. Raises a Failure."""
        while not self._body:
            if self._failure is not None:
                raise self._failure
            if self.complete:
                return b""
            await self._news()
        taken = bytes(self._body)
        self._body.clear()
        if self._transport is not None:
            self._heard = self._loop.time()
            transport, self._transport = self._transport, None
            transport.resume_reading()
        return taken

    async def ends_within(self, seconds: float) -> None:
        """Pass over what is left, for as long: a connection that was read to its end is kept."""
        try:
            async with asyncio.timeout(seconds):
                while not self.over:
                    self._body.clear()
                    await self._news()
        except TimeoutError:
            return

    def wait_for_room(self, transport: asyncio.Transport) -> None:
        """Let the server wait until somebody has taken what is here."""
        transport.pause_reading()
        self._transport = transport

    @property
    def wants_room(self) -> bool:
        return not self.over and len(self._body) > self._bounds.large

    def let_go(self) -> None:
        super().let_go()
        if self._timer is not None:
            self._timer.cancel()

    def feed(self, data: bytes) -> None:
        self._heard = self._loop.time()
        super().feed(data)
        if self._headed:
            if self._timer is None:
                self._listen()
            self._wake()

    def on_body(self, piece: bytes) -> None:
        self._total += len(piece)
        if self._is_accepted and self._total > self._bounds.body:
            raise TooLarge
        if not self._is_accepted and self._total > self._bounds.refusal:
            raise CutShort  # by us: whatever becomes of the rest, the status has said it
        self._body += piece

    def _listen(self) -> None:
        """End it when nothing has been heard for long; while we let it wait, that is our doing."""
        now = self._loop.time()
        due = (now if self._transport is not None else self._heard) + self._silence
        if due <= now:
            self.fail(TimedOut())
        else:
            self._timer = self._loop.call_at(due, self._listen)

    async def _news(self) -> None:
        if self._waiter.done():
            self._waiter = self._loop.create_future()
        if not self.over:
            await self._waiter
