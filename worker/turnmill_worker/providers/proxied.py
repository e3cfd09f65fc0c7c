"""A vendor behind a proxy, or at an address of an unusual form: aiohttp knows how to get there."""

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import timedelta
from functools import lru_cache
from typing import Any

import aiohttp
import httpx2

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
)
from turnmill_worker.http1.reading import FIELDS_MAX, REFUSAL_S, Bounds
from turnmill_worker.providers.connector import Connector, Unreadable

_LARGE_REQUEST = 2**20
#: Of one header with its name: as much as the SDKs' client reads of all together.
_HEADER_BYTES_MAX = 100 * 1024

#: First match wins. Whatever is not here happened after bytes could have left.
_FAILURES: tuple[tuple[type[Exception], type[Failure]], ...] = (
    (aiohttp.ClientHttpProxyError, NotConnected),
    (aiohttp.ConnectionTimeoutError, ConnectTimeout),
    (aiohttp.ClientConnectorError, NotConnected),
    (TimeoutError, TimedOut),
    (aiohttp.ClientPayloadError, CutShort),
    (aiohttp.ClientResponseError, Malformed),
    (Unreadable, Malformed),
    (aiohttp.ClientError, HungUp),
    (OSError, HungUp),
)


class Proxied:
    """Connections to one vendor, of one event loop: as `http1.pool.Pool`, by way of aiohttp."""

    def __init__(
        self,
        base_url: str,
        *,
        proxy: str | None,
        headers: Mapping[str, str],
        most: int,
        keep_alive: timedelta,
        connect_within: timedelta,
    ) -> None:
        """`base_url` ends where a path begins; with a `proxy`, calls go through it."""
        self._base_url = base_url
        self._connect_within = connect_within
        self._session = aiohttp.ClientSession(
            connector=Connector(
                limit=most,
                keepalive_timeout=keep_alive.total_seconds(),
                # The same roots of trust as the SDK's own client.
                ssl=httpx2.create_ssl_context() if base_url.startswith("https:") else True,
            ),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # it has no bound: 0.4 MB of gzip may hold 400 MB
            max_line_size=_HEADER_BYTES_MAX,
            max_field_size=_HEADER_BYTES_MAX,
            max_headers=FIELDS_MAX,
            proxy=proxy,
        )

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
        """Make one request; raises a Failure, and ValueError for an address that is none."""
        async with await self._begun(method, path, body, within, headers) as response:
            try:
                return await _answer(response, bounds)
            except (aiohttp.ClientError, OSError) as error:
                failure = _failure_of(error)
        raise failure  # out here, so that what it says of the vendor is not chained to it

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
    ) -> AsyncIterator["_Stream"]:
        """Make one request and give its answer while it comes in. See `Pool.stream`."""
        async with await self._begun(method, path, body, within, headers) as response:
            yield _Stream(response, bounds, silence=silence)

    async def _begun(
        self,
        method: str,
        path: str,
        body: bytes | Body | None,
        within: timedelta,
        headers: Mapping[str, str] | None,
    ) -> aiohttp.ClientResponse:
        sending = _Sending(body) if isinstance(body, Body) else None
        also = dict(headers or {})
        if sending is not None:
            also["Content-Length"] = str(sending.body.length)
        try:
            return await self._session.request(
                method,
                self._base_url + path,
                data=_held(body) if sending is None else sending.pieces(),
                headers=also or None,
                allow_redirects=False,
                timeout=_timeouts(within, self._connect_within),
            )
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise ValueError("no address") from None
        except (aiohttp.ClientError, OSError) as error:
            failure: Exception = _failure_of(error)
        if sending is not None and sending.error is not None:
            failure = sending.error  # not all has left, and that is why
        raise failure

    async def close(self) -> None:
        """Hang up on everybody."""
        await self._session.close()

    def drop(self) -> None:
        """Let go of connections whose loop is gone; their sockets close as they are collected."""
        closing = self._session.close()
        with suppress(StopIteration):
            closing.send(None)
        closing.close()


class _Sending:
    """A body in pieces as it is sent, and what it has raised."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.error: Exception | None = None

    async def pieces(self) -> AsyncGenerator[bytes | memoryview, None]:
        """Yield the body."""
        try:
            async with aclosing(self.body.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
        except Exception as error:
            self.error = error
            raise


def _held(body: bytes | Body | None) -> Any:
    """Return a body that is held whole, in a form of which no copy is made where it is large."""
    if isinstance(body, bytes) and len(body) > _LARGE_REQUEST:
        return io.BytesIO(body)
    return body


class _Stream:
    """An answer that is taken piece by piece: as `http1.stream.Stream`."""

    def __init__(
        self, response: aiohttp.ClientResponse, bounds: Bounds, *, silence: timedelta
    ) -> None:
        self._response = response
        self._bounds = bounds
        self._silence = silence.total_seconds()
        self._total = 0
        self.status = response.status
        fields, self.framed = _head_of(response)
        self.headers = Headers(fields)

    async def next(self) -> bytes:
        """Return what came since, or wait for it; b"" at the end. Raises a Failure."""
        accepted = 200 <= self.status < 300
        most = self._bounds.body if accepted else self._bounds.refusal
        try:
            async with asyncio.timeout(self._silence if accepted else REFUSAL_S):
                piece = await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            failure = _failure_of(error)
        else:
            self._total += len(piece)
            if self._total <= most:
                return piece
            failure = TooLarge()
        if accepted:
            raise failure
        return b""  # the status of a refusal has said it, whatever becomes of the rest

    async def ends_within(self, seconds: float) -> None:
        """Pass over what is left, for as long: a connection that was read to its end is kept."""
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(seconds):
                while await self._response.content.readany():
                    pass


async def _answer(response: aiohttp.ClientResponse, bounds: Bounds) -> Answer:
    accepted = 200 <= response.status < 300
    most = bounds.body if accepted else bounds.refusal
    if accepted and (response.content_length or 0) > most:
        raise TooLarge
    wire = bytearray()
    try:
        async with asyncio.timeout(None if accepted else REFUSAL_S):
            while len(wire) <= most and (piece := await response.content.readany()):
                wire += piece
    except (aiohttp.ClientError, OSError):
        if accepted:
            raise
        # The status of a refusal has said it, whatever becomes of the rest.
    if accepted and len(wire) > most:
        raise TooLarge
    fields, framed = _head_of(response)
    return Answer(response.status, Headers(fields), bytes(wire), framed)


def _head_of(response: aiohttp.ClientResponse) -> tuple[list[tuple[bytes, bytes]], bool]:
    """Return the fields of its head, and whether they say where it ends."""
    fields = [(name.lower(), value) for name, value in response.raw_headers]
    named = {name for name, _ in fields}
    framed = bool(named & {b"content-length", b"transfer-encoding"}) or response.status == 204
    return fields, framed


def _failure_of(error: Exception) -> Failure:
    kind = next(failure for raised, failure in _FAILURES if isinstance(error, raised))
    return kind(type(error).__name__)


@lru_cache(maxsize=64)
def _timeouts(total: timedelta, connect_within: timedelta) -> aiohttp.ClientTimeout:
    connect = min(total, connect_within).total_seconds()
    return aiohttp.ClientTimeout(total=total.total_seconds(), connect=connect, sock_connect=connect)
