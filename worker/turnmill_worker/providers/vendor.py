"""One vendor over HTTP: the official SDK's address and headers on aiohttp's own client.

The SDKs' request path costs several times what the call itself costs, and their aiohttp transport
reports a connection that was dropped after sending as one that could not be made. So the SDK says
where to, as whom and with which headers, and this module sends.
"""

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from pydantic_core import PydanticSerializationError, to_json

from turnmill.domain.errors import MaybeSent, ProviderError, Rejected, Unreachable
from turnmill.per_loop import PerLoop

DEFAULT_TIMEOUT = timedelta(minutes=10)
CONNECT_TIMEOUT = timedelta(seconds=10)
MOST_CONNECTIONS = 20_000  #: of one process; slots bound the calls well below
#: Shorter than the vendors' own, so that they rarely hang up on a request that is on its way.
KEEP_ALIVE = timedelta(seconds=30)

_LARGE_BODY = 2**20

#: First match wins. Whatever is not here happened after bytes could have left.
_FAILURES: tuple[tuple[type[Exception], type[ProviderError], str], ...] = (
    (aiohttp.InvalidURL, Rejected, "invalid_url"),
    (aiohttp.NonHttpUrlClientError, Rejected, "invalid_url"),
    (aiohttp.ConnectionTimeoutError, Unreachable, "connect_timeout"),
    (aiohttp.ClientConnectorError, Unreachable, "unreachable"),
    (TimeoutError, MaybeSent, "timeout"),
    (aiohttp.ClientPayloadError, MaybeSent, "truncated"),
    (aiohttp.ClientError, MaybeSent, "disconnected"),
    (OSError, MaybeSent, "disconnected"),
    (ValueError, Rejected, "invalid_url"),
)


class Answer(NamedTuple):
    """What came back, read to its end."""

    status: int
    headers: Mapping[str, str]  #: names in any case
    body: bytes


class Vendor:
    """A keep-alive pool of connections to one base URL, with one set of headers."""

    def __init__(self, *, base_url: str, headers: Callable[[], Mapping[str, str]]) -> None:
        """`headers` is asked once on each event loop that connections belong to."""
        self._base_url = base_url.rstrip("/") + "/"
        self._headers = headers
        self._sessions = PerLoop(self._connect, close=aiohttp.ClientSession.close, drop=_drop)

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        within: timedelta = DEFAULT_TIMEOUT,
    ) -> Answer:
        """Make one request, with a body from `encoded`, and read its answer, whatever the status.

        Raises Unreachable when nothing has left, MaybeSent when something may have.
        """
        session = self._sessions.here()
        try:
            async with session.request(
                method,
                self._base_url + path,
                data=io.BytesIO(body) if body and len(body) > _LARGE_BODY else body,
                allow_redirects=False,
                timeout=_timeouts(within),
            ) as response:
                return Answer(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = _failure_of(error)
        raise failure  # out here, so that the vendor's exception and its text are not chained to it

    async def aclose(self) -> None:
        """Close the connections; a later call opens new ones."""
        await self._sessions.close()

    def _connect(self) -> aiohttp.ClientSession:
        encrypted = self._base_url.startswith("https:")
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=MOST_CONNECTIONS,
                keepalive_timeout=KEEP_ALIVE.total_seconds(),
                # The same roots of trust as the SDK's own client.
                ssl=httpx2.create_ssl_context() if encrypted else True,
            ),
            headers=self._headers(),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy_for(self._base_url),
        )


def _drop(session: aiohttp.ClientSession) -> None:
    """Let go of connections whose event loop is gone; their sockets close as they are collected."""
    closing = session.close()
    with suppress(StopIteration):
        closing.send(None)
    closing.close()


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
