"""The two ways to a vendor, our own client and aiohttp: whatever a server does, they say the same.

A server here sends bytes as they stand, in pieces of any size, early, late, never, and goes on or
hangs up. What comes of it decides whether a turn is asked again, and so whether it is paid twice.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from turnmill_worker.providers.proxied import Proxied

pytestmark = pytest.mark.anyio

BOUNDS = Bounds(body=2**20, refusal=1000, large=2**16)
SOON = timedelta(seconds=0.2)
LONG = timedelta(seconds=20)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nParis"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"

Client = Pool | Proxied
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """Answers the requests of each connection with these bytes, one piece after another."""

    answers: Sequence[Sequence[bytes]] = ((OK,),)
    hang_up: bool = False
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)  #: a client hung up

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer as was said; the last answer stands for all that follow."""
        self.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError), closing(writer):
            while True:
                self.requests.append(await whole_request(reader))
                said = self.answers[min(len(self.requests), len(self.answers)) - 1]
                for piece in said:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if self.hang_up:
                    return
        self.left.set()


async def whole_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    return head + await reader.readexactly(length)


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**24) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def direct(
    port: int, *, host: str = "127.0.0.1", most: int = 100, tls: bool = False
) -> AsyncIterator[Client]:
    pool = Pool(
        Origin(host, port, ssl.create_default_context() if tls else None),
        base="/v1/",
        headers={"Host": f"{host}:{port}", "X-Key": "k"},
        most=most,
        keep_alive=timedelta(seconds=30),
        connect_within=timedelta(seconds=0.5),
    )
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def through_aiohttp(
    port: int, *, host: str = "127.0.0.1", most: int = 100, tls: bool = False
) -> AsyncIterator[Client]:
    client = Proxied(
        f"{'https' if tls else 'http'}://{host}:{port}/v1/",
        proxy=None,
        headers={"X-Key": "k"},
        most=most,
        keep_alive=timedelta(seconds=30),
        connect_within=timedelta(seconds=0.5),
    )
    try:
        yield client
    finally:
        await client.close()


ways = pytest.mark.parametrize("client_at", [direct, through_aiohttp])
ClientAt = Callable[..., AbstractAsyncContextManager[Client]]


async def ask(client: Client, body: bytes = b"{}", *, within: timedelta = LONG) -> Answer:
    return await client.request("POST", "responses", body, within=within, bounds=BOUNDS)


@ways
@pytest.mark.parametrize(
    ("said", "hang_up", "framed"),
    [
        ([OK], False, True),
        ([OK[:20], OK[20:]], False, True),
        ([CHUNKED, b"2\r\nPa\r\n3\r\nris\r\n0\r\n\r\n"], False, True),
        ([CHUNKED, b"5;why=not\r\nParis\r\n0\r\nX-Trailer: 1\r\n\r\n"], False, True),
        ([UNTIL_CLOSE, b"Par", b"is"], True, False),
        ([b"HTTP/1.0 200 OK\r\n\r\nParis"], True, False),
        ([b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nParis"], True, True),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", OK], False, True),
        ([b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3, OK], False, True),
        ([b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nParis"], False, True),
        ([b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nParis"], False, True),
        ([b"HTTP/1.1 200 OK\r\nX-Policy: " + b"x" * 60_000 + b"\r\n", OK[17:]], False, True),
    ],
)
async def test_an_answer_is_whole_however_it_ends(
    client_at: ClientAt, said: list[bytes], hang_up: bool, framed: bool
) -> None:
    server = Server(answers=[said], hang_up=hang_up)
    async with listening(server.serve) as port, client_at(port) as client:
        answers = [await ask(client) for _ in range(2)]
    assert [(one.status, one.body, one.framed) for one in answers] == [(200, b"Paris", framed)] * 2


@ways
@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ([], HungUp),
        ([OK[:10]], HungUp),
        ([OK[:30]], HungUp),
        ([OK[:-1]], CutShort),
        ([CHUNKED], CutShort),
        ([CHUNKED, b"5\r\nPar"], CutShort),
        ([CHUNKED, b"5\r\nParis\r\n"], CutShort),
        ([CHUNKED, b"nonsense\r\nParis\r\n0\r\n\r\n"], Malformed),
        ([b"SMTP ready\r\n\r\n"], Malformed),
        ([b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 300 + b"\r\n"], Malformed),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n"], TooLarge),
        ([UNTIL_CLOSE, b"x" * (2**20 + 1)], TooLarge),
    ],
)
async def test_what_is_no_whole_answer_says_how_far_it_came(
    client_at: ClientAt, said: list[bytes], failure: type[Failure]
) -> None:
    server = Server(answers=[said, [OK]], hang_up=True)
    async with listening(server.serve) as port, client_at(port) as client:
        with pytest.raises(Failure) as caught:
            await ask(client)
        assert (await ask(client)).body == b"Paris"  # on another connection
    assert type(caught.value) is failure
    assert len(server.requests) == 2  # never by itself a second time


@ways
async def test_of_a_refusal_the_beginning_is_enough(client_at: ClientAt) -> None:
    refusal = b"HTTP/1.1 429 Slow down\r\nContent-Length: 100000\r\nRetry-After: 7\r\n\r\n"
    server = Server(answers=[[refusal, b"x" * 2000]], hang_up=True)
    async with listening(server.serve) as port, client_at(port) as client:
        answer = await ask(client)
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert answer.body.startswith(b"x" * 1000)


@ways
async def test_connections_are_kept_between_requests(client_at: ClientAt) -> None:
    server = Server()
    async with listening(server.serve) as port, client_at(port) as client:
        for _ in range(5):
            await ask(client)
    assert (server.connections, len(server.requests)) == (1, 5)


@ways
async def test_a_connection_that_was_closed_meanwhile_is_not_used(client_at: ClientAt) -> None:
    opened: list[asyncio.StreamWriter] = []
    server = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        await server.serve(reader, writer)

    async with listening(serve) as port, client_at(port) as client:
        await ask(client)
        opened[0].close()
        await opened[0].wait_closed()
        await asyncio.sleep(0.01)  # the loop's turn to read it
        assert (await ask(client)).body == b"Paris"
    assert server.connections == 2


@ways
async def test_what_comes_unasked_or_behind_an_answer_is_nobodys(client_at: ClientAt) -> None:
    other = OK.replace(b"Paris", b"Tokyo")
    server = Server(answers=[[OK + other], [OK]])
    async with listening(server.serve) as port, client_at(port) as client:
        found = [(await ask(client)).body for _ in range(3)]
    assert found == [b"Paris"] * 3


@ways
@pytest.mark.parametrize("read", range(len(OK)))
async def test_a_call_that_is_cancelled_at_any_byte_leaves_nothing_to_the_next(
    client_at: ClientAt, read: int
) -> None:
    reached, gone = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError), closing(writer):
            first = not reached.is_set()
            await whole_request(reader)
            if not first:
                writer.write(OK)
                return await writer.drain()
            writer.write(OK.replace(b"Paris", b"Tokyo")[:read])
            await writer.drain()
            reached.set()
            await reader.read()
            gone.set()
        return None

    async with listening(serve) as port, client_at(port) as client:
        call = asyncio.create_task(ask(client))
        await reached.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(gone.wait(), 10)  # the vendor sees that nobody waits any more
        assert (await ask(client)).body == b"Paris"


@ways
async def test_an_answer_that_comes_before_the_request_has_left_is_read(
    client_at: ClientAt,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError), closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too large\r\nContent-Length: 2\r\n\r\nno")
            await writer.drain()
            await reader.read()

    async with listening(serve) as port, client_at(port) as client:
        answer = await ask(client, b"x" * 30_000_000)
    assert (answer.status, answer.body) == (413, b"no")


@ways
async def test_a_large_request_arrives_whole(client_at: ClientAt) -> None:
    server = Server()
    body = bytes(range(256)) * 20_000
    async with listening(server.serve) as port, client_at(port) as client:
        await ask(client, body)
    assert server.requests[0].endswith(b"\r\n\r\n" + body)


@ways
async def test_several_large_answers_are_read_whole_side_by_side(client_at: ClientAt) -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 500_000
    server = Server(answers=[[said, b"x" * 500_000]])
    async with listening(server.serve) as port, client_at(port) as client:
        found = await asyncio.gather(*(ask(client) for _ in range(20)))
    assert {len(one.body) for one in found} == {500_000}


@ways
async def test_no_answer_in_time_may_have_been_executed(client_at: ClientAt) -> None:
    server = Server(answers=[[OK[:-2]]])
    async with listening(server.serve) as port, client_at(port) as client:
        with pytest.raises(TimedOut):
            await ask(client, within=SOON)


@ways
async def test_a_large_answer_that_stops_is_timed_out_too(client_at: ClientAt) -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 200_000
    server = Server(answers=[[said]])
    async with listening(server.serve) as port, client_at(port) as client:
        found = await asyncio.gather(
            *(ask(client, within=SOON) for _ in range(6)), return_exceptions=True
        )
    assert {type(one) for one in found} == {TimedOut}


@ways
async def test_where_no_connection_comes_about_nothing_has_left(client_at: ClientAt) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with client_at(closed.getsockname()[1]) as client:
            with pytest.raises(NotConnected):
                await ask(client)
    async with client_at(1, host="no-such-host.invalid") as client:
        with pytest.raises(NotConnected):
            await ask(client)


@ways
async def test_a_host_that_says_nothing_to_a_handshake_is_given_up_and_nothing_has_left(
    client_at: ClientAt,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError), closing(writer):
            await reader.read()

    async with listening(serve) as port, client_at(port, tls=True) as client:
        with pytest.raises(ConnectTimeout):
            await ask(client)


@ways
async def test_whoever_finds_all_places_taken_waits_for_one(client_at: ClientAt) -> None:
    server = Server()
    async with listening(server.serve) as port, client_at(port, most=2) as client:
        found = await asyncio.gather(*(ask(client) for _ in range(30)))
    assert [one.body for one in found] == [b"Paris"] * 30


async def test_an_idle_connection_is_closed_after_a_while() -> None:
    server = Server()
    async with listening(server.serve) as port:
        pool = Pool(
            Origin("127.0.0.1", port, None),
            base="/",
            headers={},
            most=5,
            keep_alive=timedelta(seconds=0.05),
            connect_within=LONG,
        )
        await pool.request("GET", "", None, within=LONG, bounds=BOUNDS)
        await asyncio.wait_for(server.left.wait(), 10)
        await pool.close()


async def test_a_header_with_a_line_break_is_refused() -> None:
    with pytest.raises(ValueError, match="control character"):
        Pool(
            Origin("127.0.0.1", 1, None),
            base="/",
            headers={"X-Key": "k\r\nX-Other: 1"},
            most=1,
            keep_alive=LONG,
            connect_within=LONG,
        )


WIRES = [
    OK,
    CHUNKED + b"2\r\nPa\r\n3\r\nris\r\n0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
]


@given(wire=st.sampled_from(WIRES), cuts=st.lists(st.integers(1, 80), max_size=8))
@settings(max_examples=50, deadline=None)
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(wire: bytes, cuts: list[int]) -> None:
    places = [0, *sorted({min(cut, len(wire)) for cut in cuts}), len(wire)]
    pieces = [wire[a:b] for a, b in pairwise(places) if a < b]

    async def found() -> Answer:
        server = Server(answers=[pieces])
        async with listening(server.serve) as port, direct(port) as client:
            return await ask(client)

    assert asyncio.run(found()).body == b"Paris"
