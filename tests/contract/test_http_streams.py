"""Answers that are taken while they come in, by both ways to a vendor."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from tests.contract.test_http_clients import (
    CHUNKED,
    LONG,
    OK,
    SOON,
    UNTIL_CLOSE,
    Client,
    ClientAt,
    Server,
    direct,
    listening,
    through_aiohttp,
    whole_request,
)
from turnmill_worker.http1.failures import CutShort, Failure, HungUp, TimedOut, TooLarge
from turnmill_worker.http1.reading import Bounds

pytestmark = pytest.mark.anyio

BOUNDS = Bounds(body=2**20, refusal=1000, large=2**16)
ways = pytest.mark.parametrize("client_at", [direct, through_aiohttp])

Said = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


async def until_left(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        await reader.read()


async def taken(
    client: Client,
    *,
    within: timedelta = LONG,
    silence: timedelta = LONG,
    pieces: list[bytes] | None = None,
) -> tuple[int, bytes]:
    """Return the status and all that came; `pieces` has what came before a failure too."""
    came = [] if pieces is None else pieces
    async with client.stream(
        "POST", "x", b"{}", within=within, silence=silence, bounds=BOUNDS
    ) as stream:
        while piece := await stream.next():
            came.append(piece)
        return stream.status, b"".join(came)


@ways
async def test_a_piece_is_here_before_the_next_one_is_sent(client_at: ClientAt) -> None:
    heard = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await whole_request(reader)
        writer.write(CHUNKED + chunk(b"Pa"))
        await heard.wait()
        writer.write(chunk(b"ris") + chunk(b""))
        await writer.drain()
        writer.close()

    async with (
        listening(serve) as port,
        client_at(port) as client,
        client.stream("POST", "x", b"{}", within=LONG, silence=LONG, bounds=BOUNDS) as stream,
    ):
        assert await stream.next() == b"Pa"
        heard.set()
        assert await stream.next() == b"ris"
        assert await stream.next() == b""


@ways
@pytest.mark.parametrize(
    ("answer", "hang_up"),
    [
        (OK, False),
        (CHUNKED + chunk(b"Pa") + chunk(b"ris") + chunk(b""), False),
        (UNTIL_CLOSE + b"Paris", True),
    ],
)
async def test_all_of_it_comes_however_its_end_is_told(
    client_at: ClientAt, answer: bytes, hang_up: bool
) -> None:
    server = Server(answers=[[answer]], hang_up=hang_up)
    async with listening(server.serve) as port, client_at(port) as client:
        assert await taken(client) == (200, b"Paris")
        assert await taken(client) == (200, b"Paris")
    assert server.connections == (2 if hang_up else 1)


@ways
async def test_what_came_before_a_cut_is_given_and_then_the_cut(client_at: ClientAt) -> None:
    server = Server(answers=[[CHUNKED, chunk(b"Pa"), b"5\r\nri"]], hang_up=True)
    pieces: list[bytes] = []
    async with listening(server.serve) as port, client_at(port) as client:
        with pytest.raises(CutShort):
            await taken(client, pieces=pieces)
    assert b"".join(pieces).startswith(b"Pa")


@ways
async def test_a_server_that_goes_away_without_a_head_has_hung_up(client_at: ClientAt) -> None:
    server = Server(answers=[[]], hang_up=True)
    async with listening(server.serve) as port, client_at(port) as client:
        with pytest.raises(HungUp):
            await taken(client)


@ways
@pytest.mark.parametrize("bound", ["within", "silence"])
async def test_a_stream_that_stalls_ends_in_time(client_at: ClientAt, bound: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await whole_request(reader)
        writer.write(CHUNKED + chunk(b"Pa"))
        await until_left(reader)
        writer.close()
        left.set()

    left = asyncio.Event()
    pieces: list[bytes] = []
    async with listening(serve) as port, client_at(port) as client:
        with pytest.raises(TimedOut):
            await taken(client, pieces=pieces, **{bound: SOON})
        await asyncio.wait_for(left.wait(), 5)
    assert pieces == [b"Pa"]


@ways
async def test_a_stream_that_goes_on_ends_when_its_time_is_over(client_at: ClientAt) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await whole_request(reader)
        writer.write(CHUNKED)
        gone = asyncio.ensure_future(until_left(reader))
        while not gone.done():
            writer.write(chunk(b": ping\n\n"))
            await asyncio.wait([gone], timeout=0.01)
        writer.close()
        left.set()

    left = asyncio.Event()
    async with listening(serve) as port, client_at(port) as client:
        with pytest.raises(TimedOut):
            await taken(client, within=SOON, silence=SOON / 2)
        await asyncio.wait_for(left.wait(), 5)


@ways
async def test_more_than_was_allowed_is_too_large(client_at: ClientAt) -> None:
    server = Server(answers=[[CHUNKED, *[chunk(b"x" * 2**16)] * 20, chunk(b"")]])
    async with listening(server.serve) as port, client_at(port) as client:
        with pytest.raises(TooLarge):
            await taken(client)


@ways
async def test_of_a_refusal_the_beginning_is_enough(client_at: ClientAt) -> None:
    head = b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = Server(answers=[[head, chunk(b"x" * 500), b"ffff\r\nabc"]], hang_up=True)
    async with listening(server.serve) as port, client_at(port) as client:
        status, said = await taken(client)
    assert status == 400
    assert said.startswith(b"x" * 500)


@ways
async def test_whoever_leaves_early_hangs_up_at_once(client_at: ClientAt) -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await whole_request(reader)
        writer.write(CHUNKED + chunk(b"Pa"))
        await writer.drain()
        begun.set()
        await until_left(reader)
        left.set()
        writer.close()

    async with listening(serve) as port, client_at(port) as client:
        call = asyncio.create_task(taken(client))
        await asyncio.wait_for(begun.wait(), 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(left.wait(), 1)


@ways
async def test_a_server_waits_for_whoever_takes_nothing(client_at: ClientAt) -> None:
    """What is not taken is held within a bound, and the time that this takes is no silence."""
    total, written = 900_000, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await whole_request(reader)
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(CHUNKED)
        while written < total:
            writer.write(chunk(b"x" * 1_000))
            await writer.drain()
            written += 1_000
        writer.write(chunk(b""))
        writer.close()

    async with (
        listening(serve) as port,
        client_at(port) as client,
        client.stream("POST", "x", b"{}", within=LONG, silence=LONG, bounds=BOUNDS) as stream,
    ):
        size = len(await stream.next())
        while piece := await stream.next():
            size += len(piece)
            await asyncio.sleep(0)
    assert size == total


@ways
async def test_what_follows_is_passed_over_and_the_connection_is_kept(client_at: ClientAt) -> None:
    server = Server(answers=[[CHUNKED, chunk(b"Pa"), chunk(b"ris"), chunk(b"")]])
    async with listening(server.serve) as port, client_at(port) as client:
        for _ in range(2):
            async with client.stream(
                "POST", "x", b"{}", within=LONG, silence=LONG, bounds=BOUNDS
            ) as stream:
                assert await stream.next()
                await stream.ends_within(5)
    assert server.connections == 1


async def test_no_failure_of_a_stream_tells_what_was_said() -> None:
    server = Server(answers=[[CHUNKED, chunk(b"secret"), b"zz\r\n"]], hang_up=True)
    async with listening(server.serve) as port, direct(port) as client:
        with pytest.raises(Failure) as caught:
            await taken(client)
    assert "secret" not in repr(caught.value)
