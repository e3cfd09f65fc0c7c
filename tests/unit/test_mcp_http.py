"""What goes wrong with one request to an MCP server is the answer to that request."""

from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from turnmill_worker.tools.mcp.http import FORGOTTEN, LOST, MOST_BYTES, NOT_SENT, Guarded

pytestmark = pytest.mark.anyio
URL = "http://server.example/mcp"


async def asked(
    answer: Callable[[httpx2.Request], httpx2.Response], *, session: str = ""
) -> httpx2.Response:
    headers = {"mcp-session-id": session} if session else {}
    async with httpx2.AsyncClient(transport=Guarded(httpx2.MockTransport(answer))) as client:
        return await client.post(URL, json={}, headers=headers)


def fails(error: type[Exception]) -> Callable[[httpx2.Request], httpx2.Response]:
    def answer(request: httpx2.Request) -> httpx2.Response:
        raise error("no")

    return answer


def code_of(response: httpx2.Response) -> int:
    code: int = response.json()["error"]["code"]
    return code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (httpx2.ConnectError, NOT_SENT),
        (httpx2.ConnectTimeout, NOT_SENT),
        (httpx2.PoolTimeout, NOT_SENT),
        (httpx2.ReadError, LOST),
        (httpx2.ReadTimeout, LOST),
        (httpx2.RemoteProtocolError, LOST),
    ],
)
async def test_an_error_beneath_says_whether_anything_was_sent(
    error: type[Exception], code: int
) -> None:
    assert code_of(await asked(fails(error))) == code


@pytest.mark.parametrize(
    ("status", "text", "session", "is_forgotten"),
    [
        (404, "gone", "s1", True),
        (404, "gone", "", False),
        (400, "Bad Request: No valid session ID provided", "s1", True),
        (400, '{"error": {"code": -32602}}', "s1", False),
        (500, "session", "s1", False),
    ],
)
async def test_a_server_that_does_not_know_the_session_is_told_from_one_that_refuses(
    status: int, text: str, session: str, *, is_forgotten: bool
) -> None:
    response = await asked(lambda _: httpx2.Response(status, text=text), session=session)
    assert (response.status_code == 503) is is_forgotten
    if is_forgotten:
        assert code_of(response) == FORGOTTEN
    else:
        assert (response.status_code, response.text) == (status, text)


async def test_an_answer_has_a_bound_and_is_never_unpacked() -> None:
    with pytest.raises(httpx2.StreamError):
        await asked(lambda _: httpx2.Response(200, content=b"x" * (MOST_BYTES + 1)))
    packed = httpx2.Response(200, content=b"x", headers={"content-encoding": "gzip"})
    packed.stream = httpx2.ByteStream(b"x")
    assert code_of(await asked(lambda _: packed)) == LOST


async def test_an_answer_that_is_cut_is_an_error_of_its_own_stream() -> None:
    class Cut(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"half"
            raise httpx2.ReadError("no")

    with pytest.raises(httpx2.StreamError):
        await asked(lambda _: httpx2.Response(200, stream=Cut()))
