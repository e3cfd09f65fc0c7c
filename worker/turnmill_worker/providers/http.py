"""One vendor over HTTP: the official SDK's address and headers on aiohttp's own client.

The SDKs' request path costs several times what the call itself costs, and their aiohttp transport
reports a connection that was dropped after sending as one that could not be made. So the SDK says
where to, as whom and with which headers, and this module sends.
"""

import asyncio
import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from aiohttp.client_proto import ResponseHandler
from pydantic_core import PydanticSerializationError, to_json

from turnmill.domain.errors import MaybeSent, ProviderError, Rejected, Unreachable
from turnmill.per_loop import PerLoop
from turnmill.settings import max_reply_bytes
from turnmill_worker.providers.inflating import (
    ACCEPTED,
    Corrupt,
    CutShort,
    TooLarge,
    encodings_of,
    inflated,
)
from turnmill_worker.providers.small_tls import small_buffers

DEFAULT_TIMEOUT = timedelta(minutes=10)
CONNECT_TIMEOUT = timedelta(seconds=10)
MOST_CONNECTIONS = 20_000  #: of one process; slots bound the calls well below
#: Shorter than the vendors' own, so that they rarely hang up on a request that is on its way.
KEEP_ALIVE = timedelta(seconds=30)

#: Of one header with its name: as much as the SDKs' client reads of all together.
HEADER_BYTES_MAX = 100 * 1024
HEADERS_MAX = 256

_LARGE_BODY = 2**20
#: Bodies larger than that, of all calls together, that are read at the same time.
_LARGE_AT_ONCE = 4
#: Of a refusal: it is read for its code and the first words.
_REFUSAL_BYTES_MAX = 64 * 1024
#: What is inflated, or parsed, without leaving the event loop: a millisecond.
AT_ONCE = 256 * 1024

#: First match wins. Whatever is not here happened after bytes could have left.
_FAILURES: tuple[tuple[type[Exception], type[ProviderError], str], ...] = (
    (aiohttp.InvalidURL, Rejected, "invalid_url"),
    (aiohttp.NonHttpUrlClientError, Rejected, "invalid_url"),
    (aiohttp.ClientHttpProxyError, Unreachable, "proxy_refused"),
    (aiohttp.ConnectionTimeoutError, Unreachable, "connect_timeout"),
    (aiohttp.ClientConnectorError, Unreachable, "unreachable"),
    (TimeoutError, MaybeSent, "timeout"),
    (aiohttp.ClientPayloadError, MaybeSent, "truncated"),
    (CutShort, MaybeSent, "truncated"),
    (TooLarge, Rejected, "reply_too_large"),
    # It has answered: asking again would be paid again, and be answered in the same way.
    (Corrupt, Rejected, "unreadable_reply"),
    (aiohttp.ClientResponseError, Rejected, "unreadable_reply"),
    (aiohttp.ClientError, MaybeSent, "disconnected"),
    (OSError, MaybeSent, "disconnected"),
    (ValueError, Rejected, "invalid_url"),
)


class RawAnswer(NamedTuple):
    """What came back, read to its end."""

    status: int
    headers: Mapping[str, str]  #: names in any case
    body: bytes  #: inflated; of a refusal perhaps only its beginning
    framed: bool = True  #: False: the server hung up, and only that said that this is the end

    @property
    def accepted(self) -> bool:
        """Tell whether the vendor has done what it was asked to."""
        return 200 <= self.status < 300


class _Connector(aiohttp.TCPConnector):
    # Not `connect`: most calls take a connection that is open already, and need no buffer.
    async def _create_connection(self, *args: Any, **kwargs: Any) -> ResponseHandler:
        with small_buffers():
            return await super()._create_connection(*args, **kwargs)


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
        self._reply_bytes_max = reply_bytes_max or max_reply_bytes()
        self._pools = PerLoop(self._connect, close=_Pool.close, drop=_Pool.drop)

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        within: timedelta = DEFAULT_TIMEOUT,
    ) -> RawAnswer:
        """Make one request, with a body from `encoded`, and read its answer, whatever the status.

        Raises Unreachable when nothing has left, MaybeSent when something may have and the answer
        did not arrive whole, Rejected when it arrived and is too large or cannot be read.
        """
        pool = self._pools.here()
        try:
            async with pool.session.request(
                method,
                self._base_url + path,
                data=io.BytesIO(body) if body and len(body) > _LARGE_BODY else body,
                allow_redirects=False,
                timeout=_timeouts(within),
            ) as response:
                return await self._answer(response, pool)
        except (aiohttp.ClientError, OSError, ValueError, TooLarge, CutShort, Corrupt) as error:
            failure = _failure_of(error)
        raise failure  # out here, so that the vendor's exception and its text are not chained to it

    async def aclose(self) -> None:
        """Close the connections; a later call opens new ones."""
        await self._pools.close()

    async def _answer(self, response: aiohttp.ClientResponse, pool: "_Pool") -> RawAnswer:
        accepted = 200 <= response.status < 300
        body = await (self._body_of(response, pool) if accepted else _refusal_of(response))
        return RawAnswer(response.status, response.headers, body, _is_framed(response))

    async def _body_of(self, response: aiohttp.ClientResponse, pool: "_Pool") -> bytes:
        most = self._reply_bytes_max
        if (response.content_length or 0) > most:
            raise TooLarge
        wire = bytearray()
        await _read_into(wire, response, most=min(most, _LARGE_BODY))
        if len(wire) > _LARGE_BODY:
            async with pool.large:
                await _read_into(wire, response, most=most)
        if len(wire) > most:
            raise TooLarge
        return await _inflated(bytes(wire), response, most=most)

    def _connect(self) -> "_Pool":
        encrypted = self._base_url.startswith("https:")
        session = aiohttp.ClientSession(
            connector=_Connector(
                limit=MOST_CONNECTIONS,
                keepalive_timeout=KEEP_ALIVE.total_seconds(),
                # The same roots of trust as the SDK's own client.
                ssl=httpx2.create_ssl_context() if encrypted else True,
            ),
            headers={**self._headers(), "Accept-Encoding": ACCEPTED},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # it has no bound: 0.4 MB of gzip may hold 400 MB
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=HEADERS_MAX,
            proxy=_proxy_for(self._base_url),
        )
        return _Pool(session, asyncio.Semaphore(_LARGE_AT_ONCE))


class _Pool(NamedTuple):
    """What belongs to one event loop."""

    session: aiohttp.ClientSession
    large: asyncio.Semaphore  #: large bodies that are read at once

    async def close(self) -> None:
        await self.session.close()

    def drop(self) -> None:
        """Let go of connections whose loop is gone; their sockets close as they are collected."""
        closing = self.session.close()
        with suppress(StopIteration):
            closing.send(None)
        closing.close()


async def _read_into(wire: bytearray, response: aiohttp.ClientResponse, *, most: int) -> None:
    """Read on, to the end or until `wire` holds more than `most` bytes."""
    while len(wire) <= most and (piece := await response.content.readany()):
        wire += piece


async def _inflated(wire: bytes, response: aiohttp.ClientResponse, *, most: int) -> bytes:
    named = response.headers.getall("Content-Encoding", None)
    encodings = encodings_of(",".join(named)) if named else ()
    if not encodings:
        return wire
    if len(wire) <= AT_ONCE:
        with suppress(TooLarge):  # for here
            return inflated(wire, encodings, most=min(most, AT_ONCE))
    return await asyncio.to_thread(inflated, wire, encodings, most=most)


async def _refusal_of(response: aiohttp.ClientResponse) -> bytes:
    """Return the beginning of the body, whatever becomes of the rest: the status has said it."""
    wire = bytearray()
    with suppress(aiohttp.ClientError, OSError):
        await _read_into(wire, response, most=_REFUSAL_BYTES_MAX)
    try:
        return await _inflated(bytes(wire[:_REFUSAL_BYTES_MAX]), response, most=2**20)
    except (TooLarge, CutShort, Corrupt):
        return b""


def _is_framed(response: aiohttp.ClientResponse) -> bool:
    headers = response.headers
    return "Content-Length" in headers or "Transfer-Encoding" in headers or response.status == 204


def encoded(body: Mapping[str, Any]) -> bytes:
    """Return the body as JSON; raises Rejected for what has no form there.

    Done by the provider, so that of a call in flight only these bytes are kept.
    """
    try:
        return to_json(body)
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
            return meaning(code, detail=type(error).__name__)
    raise error


@lru_cache(maxsize=64)
def _timeouts(total: timedelta) -> aiohttp.ClientTimeout:
    connect = min(total, CONNECT_TIMEOUT).total_seconds()
    return aiohttp.ClientTimeout(total=total.total_seconds(), connect=connect, sock_connect=connect)


def _proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for `url`.

    Asked once: aiohttp's `trust_env` would ask, on a thread, for every call.
    """
    target = httpx2.URL(url)
    if proxy_bypass(target.host):
        return None
    proxies = getproxies()
    return proxies.get(target.scheme) or proxies.get("all")
