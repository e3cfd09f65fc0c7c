"""One answer, from its first byte to its last."""

import asyncio
import re
from typing import NamedTuple

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from turnmill_worker.http1.answer import Answer, Headers
from turnmill_worker.http1.failures import CutShort, Failure, HungUp, Malformed, TimedOut, TooLarge
from turnmill_worker.http1.heads import HEAD_BYTES_MAX, Heads

FIELDS_MAX = 256
#: Bytes on the wire for each byte of a body: what chunks of a single byte take.
_OVERHEAD_MAX = 8
#: Seconds that the body of a refusal may take, whose status has said it.
REFUSAL_S = 5.0
_TIMEOUT = re.compile(rb"(?i)\btimeout\s*=\s*(\d{1,6})\b")


class Bounds(NamedTuple):
    """How much of an answer is read."""

    body: int  #: bytes of an answer that is a 2xx; a larger one is refused
    refusal: int  #: bytes of any other one; the rest is left out
    large: int  #: bytes beyond which reading waits for room


class Reading:
    """The answer to one request as it comes in: fed by its connection, awaited by its caller."""

    __slots__ = (
        "_begun",
        "_body",
        "_bounds",
        "_chunked",
        "_failure",
        "_fields",
        "_headed",
        "_heads",
        "_measured",
        "_parser",
        "_patience",
        "_seen",
        "_status",
        "_waiter",
        "complete",
        "kept_for",
        "reusable",
        "roomy",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, bounds: Bounds) -> None:
        self._waiter: asyncio.Future[None] = loop.create_future()
        self._bounds = bounds
        self._parser: HttpResponseParser | None = None  # nearly all the time nothing has come yet
        self._fields: list[tuple[bytes, bytes]] = []
        self._body = bytearray()
        self._begun: bytearray | None = None  #: of its heads, when they come in pieces
        self._heads: Heads | None = None  #: where they could not be read as they came
        self._status = 0
        self._seen = 0
        self._headed = False
        self._measured = False
        self._chunked = False
        self._failure: Failure | None = None
        self._patience: asyncio.TimerHandle | None = None  #: with the body of a refusal
        self.complete = False
        self.kept_for: int | None = None  #: seconds, as the server says; then it hangs up
        self.reusable = False  #: the connection can take another request
        self.roomy = False  #: a large body was given room

    @property
    def over(self) -> bool:
        """Tell whether nothing more is to come."""
        return self.complete or self._failure is not None

    @property
    def wants_room(self) -> bool:
        """Tell whether reading has to stop until there is room for a large body."""
        return not self.roomy and not self.over and len(self._body) > self._bounds.large

    @property
    def waiter(self) -> asyncio.Future[None]:
        """What is done as soon as it is over, or wants room."""
        return self._waiter

    def give_room(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let it be read to its end."""
        self.roomy = True
        if not self.over:
            self._waiter = loop.create_future()

    def wait_for_room(self, transport: asyncio.Transport) -> None:
        """Let the server wait until there is room."""
        transport.pause_reading()

    def let_go(self) -> None:
        """Take nothing more: parser and reading hold each other, and all that was read."""
        self._parser = None  # not left to the collector, which comes seldom
        if self._patience is not None:
            self._patience.cancel()

    def answer(self) -> Answer:
        """Return what came; raises the Failure that it came to."""
        if self._failure is not None:
            raise self._failure
        return Answer(self._status, Headers(self._fields), bytes(self._body), self._framed)

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._seen += len(data)
        self._parse(data if self._heads is None else self._heads.take(data))
        if not self.over and self._seen > self._most_bytes():
            self.fail(TooLarge() if self._headed else Malformed())
        elif self.wants_room:
            self._wake()

    def _parse(self, data: bytes) -> None:
        if self._parser is None:
            self._parser = self._made_parser()
        is_read = True
        try:
            self._parser.feed_data(data)
        except HttpParserCallbackError as error:
            cause = error.__context__
            self.fail(cause if isinstance(cause, Failure) else Malformed())
        except HttpParserUpgrade:
            self.fail(Malformed())
        except HttpParserError:
            is_read = False
        if is_read:
            self._keep(data)
        else:
            self._doubt(data)  # out here, so that what it raises has no other context

    def _keep(self, data: bytes) -> None:
        """Keep what was read of heads, while there is no whole one."""
        if self._headed or self._heads is not None:
            self._begun = None
        elif self._begun is None:
            self._begun = bytearray(data)
        else:
            self._begun += data

    def _doubt(self, data: bytes) -> None:
        """Read it again from its beginning, where it may say a length twice; or give it up."""
        said, self._begun = bytes(self._begun or b"") + data, None
        if self._headed or self._heads is not None or b"content-length" not in said.lower():
            self.fail(Malformed())
            return
        self._heads, self._parser = Heads(), None
        self._fields.clear()
        self._parse(self._heads.take(said))

    def end(self, error: Exception | None) -> None:
        """Note that the connection is gone."""
        if not self._headed:
            self.fail(HungUp())
        elif error is None and not self._chunked and not self._measured:
            self._end()  # that was how the server said that it is the end
        else:
            self.fail(CutShort())

    def fail(self, failure: Failure) -> None:
        """End it with a failure, unless it is over.

        A refusal has said by its status what it means, and is over however it ends.
        """
        self.reusable = False
        if self.over:
            return
        if self._headed and not self._is_accepted:
            self._end()
        else:
            self._failure = failure
            self._wake()

    def pass_deadline(self) -> None:
        """End it: there is no answer in time."""
        self.fail(TimedOut())

    def on_message_begin(self) -> None:
        """Called by the parser, as all that follow."""
        if self.complete:
            raise Malformed  # something comes behind the answer

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._headed:
            return  # a trailer
        if len(self._fields) >= FIELDS_MAX:
            raise Malformed
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None  # it calls
        self._status = self._parser.get_status_code()
        if self._status < 100:
            raise Malformed
        if self._status < 200:
            return
        self._headed = True
        said = self._read_framing()
        if not self._is_accepted:
            loop = self._waiter.get_loop()
            self._patience = loop.call_later(REFUSAL_S, self.pass_deadline)
        elif said > self._bounds.body:
            raise TooLarge

    def _read_framing(self) -> int:
        """Note how it says where its body ends; return the length that counts, if any."""
        said, is_coded = 0, False
        for name, value in self._fields:
            if name == b"content-length":
                self._measured, said = True, int(value)
            elif name == b"transfer-encoding":
                is_coded = True
                self._chunked = value.rpartition(b",")[2].strip().lower() == b"chunked"
            elif name == b"keep-alive" and (timeout := _TIMEOUT.search(value)):
                self.kept_for = int(timeout[1])
        if is_coded and self._measured and not self._chunked:
            raise Malformed  # by the one it ends with the connection, by the other before that
        return 0 if self._chunked else said  # chunks go before a length

    def on_body(self, piece: bytes) -> None:
        self._body += piece
        if self._is_accepted:
            if len(self._body) > self._bounds.body:
                raise TooLarge
        elif len(self._body) > self._bounds.refusal:
            raise CutShort  # by us: whatever becomes of the rest, the status has said it

    def on_message_complete(self) -> None:
        if self._status < 200:
            self._fields.clear()  # "go on", or what is known early: the answer is yet to come
            return
        assert self._parser is not None
        # Whoever says twice how long it is, in two ways, may have meant the other one.
        doubtful = self._heads is not None or (self._chunked and self._measured)
        self.reusable = self._parser.should_keep_alive() and not doubtful
        self._end()

    @property
    def _is_accepted(self) -> bool:
        return 200 <= self._status < 300

    @property
    def _framed(self) -> bool:
        return self._chunked or self._measured or self._status == 204

    def _made_parser(self) -> HttpResponseParser:
        parser = HttpResponseParser(self)
        # As the SDKs' client, and aiohttp, read them.
        parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
            # As the SDKs' client: "Connection: close" may stand in a 1xx, with the answer behind
            # it; and chunks go before a length (RFC 9112, 6.3).
            lenient_keep_alive=True,
            lenient_chunked_length=True,
        )
        return parser

    def _most_bytes(self) -> int:
        return HEAD_BYTES_MAX + (self._bounds.body * _OVERHEAD_MAX if self._headed else 0)

    def _end(self) -> None:
        self.complete = True
        self._wake()

    def _wake(self) -> None:
        if not self._waiter.done():
            self._waiter.set_result(None)
