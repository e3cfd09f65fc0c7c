"""Answers that say things twice, or break off into nonsense: both ways to a vendor read the same.

What a proxy has put in once more is not lost, being paid; what could be taken in two ways is
refused, and nothing behind it is read.
"""

import asyncio
from contextlib import closing, suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.test_http_clients import (
    BOUNDS,
    CHUNKED,
    LONG,
    OK,
    ClientAt,
    Server,
    ask,
    direct,
    listening,
    ways,
    whole_request,
)
from turnmill_worker.http1.failures import CutShort, Failure, HungUp, Malformed, TooLarge

pytestmark = pytest.mark.anyio

#: A proxy has put in once more how long it is.
TWICE = OK.replace(b"\r\n\r\n", b"\r\nX: 1\r\ncontent-length:5\r\n\r\n")
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
IN_CHUNKS = b"\r\n5\r\nParis\r\n0\r\n\r\n"


def with_length(said: bytes) -> bytes:
    return OK.replace(b"Content-Length: 5", said)


@ways
@pytest.mark.parametrize(
    "said",
    [
        [TWICE],
        [bytes([byte]) for byte in TWICE],
        [TWICE.replace(b"\r\n", b"\n")],
        [with_length(b"Content-Length: 5, 5")],
        [CHUNKED[:-2] + b"Content-Length: 9\r\n" * 2 + IN_CHUNKS],
        [HINTS * 3 + TWICE],
        [HINTS, HINTS.replace(b"Link", b"Connection: close\r\nLink"), TWICE[:40], TWICE[40:]],
    ],
)
async def test_a_length_that_is_said_twice_is_as_good_as_said_once(
    client_at: ClientAt, said: list[bytes]
) -> None:
    server = Server(answers=[said, [OK]])
    async with listening(server.serve) as port, client_at(port) as client:
        answers = [await ask(client) for _ in range(3)]
    assert [(one.status, one.body, one.framed) for one in answers] == [(200, b"Paris", True)] * 3
    assert server.connections == 2  # what follows such an answer is nobody's


@ways
@pytest.mark.parametrize(
    ("said", "failure"),
    [
        (TWICE[:-30], HungUp),
        (TWICE[:-1], CutShort),
        (with_length(b"Content-Length: 5\r\nContent-Length: 6") + b"!", Malformed),
        (with_length(b"Content-Length: 5, 6"), Malformed),
        (with_length(b"Content-Length: 5\r\nContent-Length: 05"), Malformed),
        (with_length(b"Content-Length: 5\r\nContent-Length: 5\r\n 0"), Malformed),
        (with_length(b"Content-Length: 5\rContent-Length: 5"), Malformed),
        (with_length(b"Content-Length: 9999999\r\nContent-Length: 9999999"), TooLarge),
    ],
)
async def test_what_can_be_taken_in_two_ways_is_refused(
    client_at: ClientAt, said: bytes, failure: type[Failure]
) -> None:
    server = Server(answers=[[said], [OK]], hang_up=True)
    async with listening(server.serve) as port, client_at(port) as client:
        with pytest.raises(Failure) as caught:
            await ask(client)
        assert (await ask(client)).body == b"Paris"
    assert type(caught.value) is failure


@given(cuts=st.lists(st.integers(1, len(HINTS + TWICE)), max_size=8))
@settings(max_examples=40, deadline=None)
def test_it_is_the_same_in_whatever_pieces_it_comes(cuts: list[int]) -> None:
    wire = HINTS + TWICE
    pieces = [wire[a:b] for a, b in pairwise([0, *sorted(cuts), len(wire)]) if a < b]

    async def found() -> bytes:
        server = Server(answers=[pieces])
        async with listening(server.serve) as port, direct(port) as client:
            return (await ask(client)).body

    assert asyncio.run(found()) == b"Paris"


@ways
@pytest.mark.parametrize("late", [b"nonsense\r\n", b"0\r\nnonsense\r\n\r\n", b"-5\r\n"])
async def test_nonsense_that_comes_late_in_an_answer_is_not_waited_behind(
    client_at: ClientAt, late: bytes
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError), closing(writer):
            await whole_request(reader)
            writer.write(CHUNKED + b"3\r\nPar\r\n")
            await begun.wait()
            writer.write(late)
            await reader.read()

    begun = asyncio.Event()
    async with (
        listening(serve) as port,
        client_at(port) as client,
        client.stream(
            "POST", "responses", b"{}", within=LONG, silence=LONG, bounds=BOUNDS
        ) as stream,
    ):
        assert await stream.next() == b"Par"
        begun.set()
        with pytest.raises(Malformed):
            await stream.next()
