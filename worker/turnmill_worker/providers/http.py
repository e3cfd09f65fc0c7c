"""One vendor over HTTP: the official SDK's address and headers on a client of our own.

The SDKs' request path costs several times what the call itself costs, and their aiohttp transport
reports a connection that was dropped after sending as one that could not be made. So the SDK says
where to, as whom and with which headers, and this module sends.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from typing import Any, NamedTuple, Protocol
from urllib.request import getproxies, proxy_bypass

import httpx2
from pydantic_core import PydanticSerializationError, to_json

from turnmill.connections.rules import is_loopback
from turnmill.domain.errors import MaybeSent, NotSent, ProviderError, Rejected, Unreachable
from turnmill.per_loop import PerLoop
from turnmill.settings import max_reply_bytes
from turnmill_worker.http1.answer import Answer, Headers
from turnmill_worker.http1.body import Body
from turnmill_worker.http1.failures import (
    ConnectTimeout,
    CutShort,
    Failure,
    HungUp,
    Malformed,
    NotConnected,
    TimedOut,
    TooLarge,
    WrongLength,
)
from turnmill_worker.http1.opening import Origin
from turnmill_worker.http1.pool import Pool
from turnmill_worker.http1.reading import Bounds
from turnmill_worker.providers.allowances import heard
from turnmill_worker.providers.inflating import ACCEPTED, Corrupt, Inflating, encodings_of, inflated

DEFAULT_TIMEOUT = timedelta(minutes=10)
CONNECT_TIMEOUT = timedelta(seconds=10)
MOST_CONNECTIONS = 20_000  #: of one process; slots bound the calls well below
#: Shorter than the vendors' own, so that they rarely hang up on a request that is on its way.
KEEP_ALIVE = timedelta(seconds=30)

#: There is nothing to be inflated, whatever its headers say.
_NO_CONTENT = 204
#: Of a refusal: it is read for its code and the first words.
_REFUSAL_BYTES_MAX = 64 * 1024
#: Bodies that are larger are read a few at a time.
_LARGE_BODY = 2**20
#: Bytes of a stream for each byte that may be kept: a piece of a word comes in an event of 300.
_AROUND_PIECES = 32
#: Between two pieces of a stream: models think, but most vendors say meanwhile that they are there.
SILENCE = timedelta(minutes=5)
#: What is inflated, or parsed, without leaving the event loop: a millisecond.
AT_ONCE = 256 * 1024

#: First match wins.
_FAILURES: tuple[tuple[type[Exception], type[ProviderError], str], ...] = (
    (ConnectTimeout, Unreachable, "connect_timeout"),
    (NotConnected, Unreachable, "unreachable"),
    (WrongLength, NotSent, "body_changed"),
    (TimedOut, MaybeSent, "timeout"),
    (CutShort, MaybeSent, "truncated"),
    (HungUp, MaybeSent, "disconnected"),
    # It has answered: asking again would be paid again, and be answered in the same way.
    (TooLarge, Rejected, "reply_too_large"),
    (Malformed, Rejected, "unreadable_reply"),
    (Corrupt, Rejected, "unreadable_reply"),
    (ValueError, Rejected, "invalid_url"),
)


class RawAnswer(NamedTuple):
    """What came back, read to its end."""

    status: int
    headers: Mapping[str, str]  #: names in any case
    body: bytes  #: inflated; of a refusal perhaps only its beginning
    framed: bool = True  #: False: the server hung up, and only that said that this is the end
    #: what the events of a stream amount to; of the body there is what could not be read, if any
    payload: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"RawAnswer(status={self.status}, <{len(self.body)} bytes>)"  # never what was said

    @property
    def accepted(self) -> bool:
        """Tell whether the vendor has done what it was asked to."""
        return 200 <= self.status < 300


class _Stream(Protocol):
    """An answer that comes in."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    @property
    def framed(self) -> bool: ...

    async def next(self) -> bytes: ...

    async def ends_within(self, seconds: float) -> None: ...


class _Client(Protocol):
    """Connections of one event loop."""

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Body | None,
        *,
        within: timedelta,
        bounds: Bounds,
        headers: Mapping[str, str] | None = None,
    ) -> Coroutine[Any, Any, Answer]: ...

    def stream(
        self,
        method: str,
        path: str,
        body: bytes | Body | None,
        *,
        within: timedelta,
        silence: timedelta,
        bounds: Bounds,
        headers: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager["_Stream"]: ...

    async def close(self) -> None: ...

    def drop(self) -> None: ...


class Vendor:
    """A keep-alive pool of connections to one base URL, with one set of headers."""

    def __init__(
        self,
        *,
        base_url: str,
        headers: Callable[[], Mapping[str, str]],
        reply_bytes_max: int | None = None,
    ) -> None:
        """`headers` is asked once on each event loop that connections belong to.

        A larger answer is refused; TURNMILL_MAX_REPLY_BYTES counts unless a bound is given.
        """
        self._base_url = base_url.rstrip("/") + "/"
        self._headers = headers
        self.reply_bytes_max = reply_bytes_max or max_reply_bytes()
        self._bounds = Bounds(
            body=self.reply_bytes_max, refusal=_REFUSAL_BYTES_MAX, large=_LARGE_BODY
        )
        self._stream_bounds = self._bounds._replace(body=self.reply_bytes_max * _AROUND_PIECES)
        self._clients: PerLoop[_Client] = PerLoop(
            self._connect, close=lambda one: one.close(), drop=lambda one: one.drop()
        )

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | Body | None = None,
        *,
        within: timedelta = DEFAULT_TIMEOUT,
        headers: Mapping[str, str] | None = None,
    ) -> RawAnswer:
        """Make one request, with a body from `encoded`, and read its answer, whatever the status.

        A body in pieces raises what it raises: it has not left whole, and was executed by nobody.
        `headers` take the place of those that every request has.
        Raises Unreachable when nothing has left, MaybeSent when something may have and the answer
        did not arrive whole, Rejected when it arrived and is too large or cannot be read.
        """
        try:
            client = self._clients.here()
            asking = client.request(
                method, path, body, within=within, bounds=self._bounds, headers=_also(body, headers)
            )
            del body  # whoever waits for an answer keeps no question
            return await self._read(await asking)
        except (Failure, Corrupt, ValueError) as error:
            failure = _failure_of(error)
        raise failure  # out here, so that what the vendor said is not chained to it

    async def stream(
        self,
        path: str,
        body: bytes | Body | None,
        take: Callable[["Incoming"], Awaitable[RawAnswer]],
        *,
        within: timedelta = DEFAULT_TIMEOUT,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
        most: int | None = None,
    ) -> RawAnswer:
        """Ask, and return what `take` makes of the answer as it comes in. See `call`.

        An answer other than 2xx is read and returned as it is there. `within` bounds the whole;
        where nothing comes for SILENCE, it ends too. `most` bytes may come in all, of what is many
        replies; otherwise as many as one reply may have around it.
        """
        in_all = most or self._stream_bounds.body
        try:
            client = self._clients.here()
            async with client.stream(
                method,
                path,
                body,
                within=within,
                silence=SILENCE,
                bounds=self._stream_bounds._replace(body=in_all),
                headers=_also(body, headers),
            ) as stream:
                if 200 <= stream.status < 300:
                    heard(stream.headers)
                    return await take(Incoming(stream, most=self.reply_bytes_max, in_all=in_all))
                return await self._read(await _refused(stream))
        except (Failure, Corrupt, ValueError) as error:
            failure = _failure_of(error)
        raise failure

    async def aclose(self) -> None:
        """Close the connections; a later call opens new ones."""
        await self._clients.close()

    async def _read(self, answer: Answer) -> RawAnswer:
        heard(answer.headers)
        accepted = 200 <= answer.status < 300
        body = await (self._unpacked(answer) if accepted else _unpacked_refusal(answer))
        return RawAnswer(answer.status, answer.headers, body, answer.framed)

    async def _unpacked(self, answer: Answer) -> bytes:
        return await _inflated(answer, most=self.reply_bytes_max)

    def _connect(self) -> _Client:
        headers = {**self._headers(), "Accept-Encoding": ACCEPTED}
        proxy = _proxy_for(self._base_url)
        url = httpx2.URL(self._base_url)
        if proxy is None and url.scheme in ("http", "https") and url.host and not url.userinfo:
            encrypted = url.scheme == "https"
            return Pool(
                Origin(
                    host=url.raw_host.decode("ascii"),
                    port=url.port or (443 if encrypted else 80),
                    # The same roots of trust as the SDK's own client.
                    tls=httpx2.create_ssl_context() if encrypted else None,
                ),
                base=url.raw_path.decode("ascii"),
                headers={"Host": url.netloc.decode("ascii"), **headers},
                most=MOST_CONNECTIONS,
                keep_alive=KEEP_ALIVE,
                connect_within=CONNECT_TIMEOUT,
            )
        # Rare, and aiohttp takes a tenth of a second to import.
        from turnmill_worker.providers.proxied import Proxied  # noqa: PLC0415

        return Proxied(
            self._base_url,
            proxy=proxy,
            headers=headers,
            most=MOST_CONNECTIONS,
            keep_alive=KEEP_ALIVE,
            connect_within=CONNECT_TIMEOUT,
        )


class Incoming:
    """An answer with a 2xx that comes in, inflated."""

    def __init__(self, stream: _Stream, *, most: int, in_all: int | None = None) -> None:
        """`most` bytes of it may be kept; what is around them is bounded too (`in_all`)."""
        self.status = stream.status
        self.headers = stream.headers
        self.framed = stream.framed
        self.most = most
        self._stream = stream
        named = self.headers.all_of("content-encoding")
        self._inflating = Inflating(encodings_of(",".join(named)) if named else ())
        self._inflated: Iterator[bytes] = iter(())
        self._left = in_all or most * _AROUND_PIECES

    @property
    def says_stream(self) -> bool:
        """Tell whether it is called a stream of events."""
        return "event-stream" in self.headers.get("content-type", "").lower()

    async def next(self) -> bytes:
        """Return what comes next; b"" at the end. Raises a Failure, or Corrupt."""
        while True:
            for piece in self._inflated:
                self._left -= len(piece)
                if self._left < 0:
                    raise TooLarge
                if piece:
                    return piece
            wire = await self._stream.next()
            if not wire:
                if not self._inflating.is_whole:
                    raise CutShort
                return b""
            self._inflated = self._inflating.feed(wire)

    async def document(self, beginning: bytes) -> RawAnswer:
        """Return the whole of it."""
        body = bytearray(beginning)
        while piece := await self.next():
            body += piece
            if len(body) > self.most:
                raise TooLarge
        return RawAnswer(self.status, self.headers, bytes(body), self.framed)

    async def ends_within(self, seconds: float) -> None:
        """Pass over what is left, for as long."""
        await self._stream.ends_within(seconds)


def _also(body: bytes | Body | None, headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Return the headers that this request has beside, or in the place of, those of every one."""
    if isinstance(body, Body) and body.content_type:
        return {**(headers or {}), "Content-Type": body.content_type}
    return headers


async def _refused(stream: _Stream) -> Answer:
    wire = bytearray()
    while piece := await stream.next():
        wire += piece
    return Answer(stream.status, stream.headers, bytes(wire), stream.framed)


async def _unpacked_refusal(answer: Answer) -> bytes:
    """Return the beginning of the body, whatever becomes of the rest: the status has said it."""
    beginning = answer._replace(body=answer.body[:_REFUSAL_BYTES_MAX])
    try:
        return await _inflated(beginning, most=2**20)
    except (TooLarge, CutShort, Corrupt):
        return b""


async def _inflated(answer: Answer, *, most: int) -> bytes:
    wire = answer.body
    named = answer.headers.all_of("content-encoding")
    encodings = encodings_of(",".join(named)) if named else ()
    if not encodings or answer.status == _NO_CONTENT:
        return wire
    if len(wire) <= AT_ONCE:
        with suppress(TooLarge):  # for here
            return inflated(wire, encodings, most=min(most, AT_ONCE))
    return await asyncio.to_thread(inflated, wire, encodings, most=most)


def encoded(body: Mapping[str, Any]) -> bytes:
    """Return the body as JSON, null for what is no number; raises Rejected for what has no form.

    Done by the provider, so that of a call in flight only these bytes are kept.
    """
    try:
        return to_json(body, inf_nan_mode="null")
    except PydanticSerializationError as error:
        detail = type(error).__name__
    raise Rejected("unencodable", detail=detail)


def headers_of(*given: Mapping[str, object]) -> dict[str, str]:
    """Return the headers of an SDK's client, as it sends them with a first attempt."""
    named = {name: value for headers in given for name, value in headers.items()}
    sent = {name: value for name, value in named.items() if isinstance(value, str)}
    return {**sent, "x-stainless-retry-count": "0"}


def _failure_of(error: Exception) -> ProviderError:
    for kind, meaning, code in _FAILURES:
        if isinstance(error, kind):
            return meaning(
                code, detail=str(error) if kind is NotConnected else type(error).__name__
            )
    raise error


def _proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for `url`.

    None for this machine's own addresses: at a proxy they would be the proxy's, and what was
    allowed to be sent without TLS because it stays here would go there.
    """
    target = httpx2.URL(url)
    if is_loopback(target.host) or proxy_bypass(target.host):
        return None
    proxies = getproxies()
    return proxies.get(target.scheme) or proxies.get("all")
