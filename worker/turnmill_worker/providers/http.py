"""One vendor over HTTP: the official SDK's address and headers on a client of our own.

The SDKs' request path costs several times what the call itself costs, and their aiohttp transport
reports a connection that was dropped after sending as one that could not be made. So the SDK says
where to, as whom and with which headers, and this module sends.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple, Protocol
from urllib.request import getproxies, proxy_bypass

import httpx2
from pydantic_core import PydanticSerializationError, to_json

from turnmill.connections.rules import is_loopback
from turnmill.domain.errors import MaybeSent, ProviderError, Rejected, Unreachable
from turnmill.per_loop import PerLoop
from turnmill.settings import max_reply_bytes
from turnmill_worker.http1.answer import Answer
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
from turnmill_worker.http1.opening import Origin
from turnmill_worker.http1.pool import Pool
from turnmill_worker.http1.reading import Bounds
from turnmill_worker.providers.inflating import ACCEPTED, Corrupt, encodings_of, inflated

DEFAULT_TIMEOUT = timedelta(minutes=10)
CONNECT_TIMEOUT = timedelta(seconds=10)
MOST_CONNECTIONS = 20_000  #: of one process; slots bound the calls well below
#: Shorter than the vendors' own, so that they rarely hang up on a request that is on its way.
KEEP_ALIVE = timedelta(seconds=30)

#: Of a refusal: it is read for its code and the first words.
_REFUSAL_BYTES_MAX = 64 * 1024
#: Bodies that are larger are read a few at a time.
_LARGE_BODY = 2**20
#: What is inflated, or parsed, without leaving the event loop: a millisecond.
AT_ONCE = 256 * 1024

#: First match wins.
_FAILURES: tuple[tuple[type[Exception], type[ProviderError], str], ...] = (
    (ConnectTimeout, Unreachable, "connect_timeout"),
    (NotConnected, Unreachable, "unreachable"),
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

    def __repr__(self) -> str:
        return f"RawAnswer(status={self.status}, <{len(self.body)} bytes>)"  # never what was said

    @property
    def accepted(self) -> bool:
        """Tell whether the vendor has done what it was asked to."""
        return 200 <= self.status < 300


class _Client(Protocol):
    """Connections of one event loop."""

    async def request(
        self, method: str, path: str, body: bytes | None, *, within: timedelta, bounds: Bounds
    ) -> Answer: ...

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
        self._reply_bytes_max = reply_bytes_max or max_reply_bytes()
        self._bounds = Bounds(
            body=self._reply_bytes_max, refusal=_REFUSAL_BYTES_MAX, large=_LARGE_BODY
        )
        self._clients: PerLoop[_Client] = PerLoop(
            self._connect, close=lambda one: one.close(), drop=lambda one: one.drop()
        )

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
        try:
            client = self._clients.here()
            answer = await client.request(method, path, body, within=within, bounds=self._bounds)
            return await self._read(answer)
        except (Failure, Corrupt, ValueError) as error:
            failure = _failure_of(error)
        raise failure  # out here, so that what the vendor said is not chained to it

    async def aclose(self) -> None:
        """Close the connections; a later call opens new ones."""
        await self._clients.close()

    async def _read(self, answer: Answer) -> RawAnswer:
        accepted = 200 <= answer.status < 300
        body = await (self._unpacked(answer) if accepted else _unpacked_refusal(answer))
        return RawAnswer(answer.status, answer.headers, body, answer.framed)

    async def _unpacked(self, answer: Answer) -> bytes:
        return await _inflated(answer, most=self._reply_bytes_max)

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
    if not encodings:
        return wire
    if len(wire) <= AT_ONCE:
        with suppress(TooLarge):  # for here
            return inflated(wire, encodings, most=min(most, AT_ONCE))
    return await asyncio.to_thread(inflated, wire, encodings, most=most)


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
