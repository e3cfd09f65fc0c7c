"""Requests whose bodies are sent in pieces: whole or not at all, and never held whole."""

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from tests.contract.test_http_clients import BOUNDS, LONG, OK, ClientAt, Server, listening, ways
from turnmill_worker.http1.body import Body
from turnmill_worker.http1.failures import TimedOut, WrongLength
from turnmill_worker.providers.multipart import FormFile, form

pytestmark = pytest.mark.anyio

MEGABYTE = 2**20


def body(*pieces: bytes, length: int | None = None) -> Body:
    async def made() -> AsyncGenerator[bytes, None]:
        for piece in pieces:
            yield piece

    return Body(sum(map(len, pieces)) if length is None else length, made)


@ways
async def test_pieces_arrive_as_one_body_each_time_they_are_sent(client_at: ClientAt) -> None:
    server = Server(answers=[[OK]])
    sent = body(b'{"a": ', b"1" * 200_000, b"}")
    async with listening(server.serve) as port, client_at(port) as client:
        for _ in range(2):
            await client.request("POST", "responses", sent, within=LONG, bounds=BOUNDS)
    got = [one.partition(b"\r\n\r\n")[2] for one in server.requests]
    assert got == [b'{"a": ' + b"1" * 200_000 + b"}"] * 2
    assert server.connections == 1


@ways
async def test_headers_of_one_request_take_the_place_of_those_of_all(client_at: ClientAt) -> None:
    server = Server(answers=[[OK]])
    async with listening(server.serve) as port, client_at(port) as client:
        for headers in ({"x-key": "other", "X-More": "1"}, None):
            await client.request(
                "POST", "responses", body(b"{}"), within=LONG, bounds=BOUNDS, headers=headers
            )
    first, second = (one.lower() for one in server.requests)
    assert b"x-key: other\r\n" in first
    assert b"x-more: 1\r\n" in first
    assert b"x-key: k\r\n" not in first
    assert b"x-key: k\r\n" in second
    assert b"x-more" not in second


@ways
@pytest.mark.parametrize("pieces", [(b"ab",), (b"ab", b"cde")])
async def test_a_body_of_another_length_never_arrives_whole(
    client_at: ClientAt, pieces: tuple[bytes, ...]
) -> None:
    server = Server(answers=[[OK]])
    async with listening(server.serve) as port, client_at(port) as client:
        with pytest.raises(WrongLength):
            await client.request(
                "POST", "responses", body(*pieces, length=4), within=LONG, bounds=BOUNDS
            )
        await asyncio.wait_for(server.left.wait(), 10)
    assert server.requests == []


@ways
async def test_what_stands_in_the_way_of_a_piece_is_told_as_it_is(client_at: ClientAt) -> None:
    class Away(Exception):
        pass

    async def made() -> AsyncGenerator[bytes, None]:
        yield b"{"
        raise Away

    server = Server(answers=[[OK]])
    async with listening(server.serve) as port, client_at(port) as client:
        with pytest.raises(Away):
            await client.request("POST", "responses", Body(2, made), within=LONG, bounds=BOUNDS)
        await client.request("POST", "responses", b"{}", within=LONG, bounds=BOUNDS)
    assert len(server.requests) == 1


@ways
async def test_a_piece_that_does_not_come_ends_with_the_time_of_the_call(
    client_at: ClientAt,
) -> None:
    async def made() -> AsyncGenerator[bytes, None]:
        yield b"{"
        await asyncio.Event().wait()

    server = Server(answers=[[OK]])
    async with listening(server.serve) as port, client_at(port) as client:
        with pytest.raises(TimedOut):
            await client.request(
                "POST",
                "responses",
                Body(2, made),
                within=timedelta(seconds=0.3),
                bounds=BOUNDS,
            )


@ways
async def test_an_answer_that_comes_before_the_end_is_taken(client_at: ClientAt) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        while await reader.read(2**16):
            pass
        writer.close()

    async def made() -> AsyncGenerator[bytes, None]:
        for _ in range(200):
            yield bytes(MEGABYTE)
            await asyncio.sleep(0.001)

    async with listening(refuse) as port, client_at(port) as client:
        answer = await client.request(
            "POST", "responses", Body(200 * MEGABYTE, made), within=LONG, bounds=BOUNDS
        )
    assert (answer.status, answer.body) == (413, b"no")


@ways
async def test_of_a_large_body_little_is_held(client_at: ClientAt) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        left = 64 * MEGABYTE
        while left:
            left -= len(await reader.read(2**16))
        writer.write(OK)
        await writer.drain()
        writer.close()

    async def made() -> AsyncGenerator[bytes, None]:
        for _ in range(64 * 16):
            yield bytes(MEGABYTE // 16)

    async with listening(swallow) as port, client_at(port) as client:
        tracemalloc.start()
        sent = Body(64 * MEGABYTE, made)
        await client.request("POST", "responses", sent, within=LONG, bounds=BOUNDS)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20 * MEGABYTE  # most of it is what the server's reader buffers


@ways
async def test_a_form_holds_its_fields_and_the_file(client_at: ClientAt) -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"\x89P"
        yield b"NG"

    file = FormFile(name='../a"\r\n.png', media_type="image/png", size=4, chunks=chunks)
    server = Server(answers=[[OK]])
    async with listening(server.serve) as port, client_at(port) as client:
        await client.request(
            "POST", "files", form({"purpose": "vision"}, file=file), within=LONG, bounds=BOUNDS
        )
    _, _, said = server.requests[0].partition(b"\r\n\r\n")
    assert b'name="purpose"\r\n\r\nvision\r\n' in said
    assert b'filename=".._a___.png"\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n--' in said
    assert said.endswith(b"--\r\n")
