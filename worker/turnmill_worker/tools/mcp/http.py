"""HTTP to an MCP server: what goes wrong with one request is the answer to that request alone.

The SDK gives up a connection, with all calls that are under way on it, when one request of it
raises. So nothing raises here: an answer says whether the request may have been executed.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from http import HTTPStatus

import httpx2

#: Of JSON-RPC errors that no server sends, but we: outside of what is reserved for anybody.
#: A server that knows them says them without the mark.
MARK = secrets.token_hex(16)
NOT_SENT = -31_001  #: nothing was executed
LOST = -31_002  #: nobody knows
FORGOTTEN = -31_003  #: the server does not know the session, and has executed nothing
#: Of an answer, as it comes; what a tool gives has a smaller bound of its own.
MOST_BYTES = 4_000_000

_SESSION = "mcp-session-id"
_BEFORE_SENDING = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class Guarded(httpx2.AsyncBaseTransport):
    """Lets no error of a request out, and no answer that is too large."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await self._inner.handle_async_request(request)
        except _BEFORE_SENDING:
            return _answer(NOT_SENT)
        except httpx2.TransportError:
            return _answer(LOST)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()  # we said that we take none: it would have no bound
            return _answer(LOST)
        if request.method != "POST":
            return response  # notices, for as long as the connection stands; each has its bound
        bounded = httpx2.Response(
            status_code=response.status_code,
            headers=response.headers,
            stream=_Bounded(response.stream),
            extensions=response.extensions,
        )
        is_forgotten = _SESSION in request.headers and await _knows_no_session(bounded)
        return _answer(FORGOTTEN) if is_forgotten else bounded

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _knows_no_session(response: httpx2.Response) -> bool:
    """Tell whether a server refuses a request for its session: by 404, and some by 400."""
    if response.status_code == HTTPStatus.BAD_REQUEST:
        with suppress(httpx2.StreamError):
            return b"session" in (await response.aread()).lower()
    if response.status_code == HTTPStatus.NOT_FOUND:
        await response.aclose()
        return True
    return False


class _Bounded(httpx2.AsyncByteStream):
    """The body of an answer, up to a bound. Raises StreamError, which the SDK understands."""

    def __init__(self, inner: object) -> None:
        assert isinstance(inner, httpx2.AsyncByteStream)
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MOST_BYTES
        try:
            async for piece in self._inner:
                left -= len(piece)
                if left < 0:
                    raise httpx2.StreamError("the answer is too large")
                yield piece
        except httpx2.TransportError as error:
            raise httpx2.StreamError(f"the answer is cut: {type(error).__name__}") from None

    async def aclose(self) -> None:
        await self._inner.aclose()


def _answer(code: int) -> httpx2.Response:
    error = {"code": code, "message": "the server cannot be reached", "data": MARK}
    return httpx2.Response(
        HTTPStatus.SERVICE_UNAVAILABLE, json={"jsonrpc": "2.0", "id": None, "error": error}
    )
