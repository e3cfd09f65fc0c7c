"""What a server says before a request has come to its end, or without it: it is heard all the same.

A refusal that nobody has heard is taken for a request that may have been executed: it is held, or
asked again, and charged to a budget.
"""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

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
from tests.contract.test_kept_connections import encrypted as encrypted
from tests.contract.test_vendor_tls import certificate as certificate
from turnmill_worker.http1 import reading
from turnmill_worker.http1.failures import HungUp, Malformed
from turnmill_worker.http1.pool import Pool
from turnmill_worker.providers import proxied
from turnmill_worker.providers.http import Vendor

pytestmark = pytest.mark.anyio

REFUSED = b"HTTP/1.1 413 Too large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
PIECES = b"5\r\nParis\r\n0\r\n\r\n"


@contextmanager
def impatient(tls: ssl.SSLContext | None, *, holds_back: bool = False) -> Iterator[int]:
    """Serve by a thread that answers after the first bytes, and resets the connection at once.

    Or a moment later, where the system `holds_back` what it says until we acknowledge what it has
    said before: the tickets of TLS 1.3. What has not left by then never does.
    """

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client = listener.accept()[0]
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(not holds_back))
                if tls is not None:
                    client = tls.wrap_socket(client, server_side=True)
                client.recv(1000)
                client.sendall(REFUSED)
                if holds_back:
                    time.sleep(0.02)
                socket.socket(fileno=client.detach()).close()  # the rest is unread: a reset

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize("over_tls", [False, True])
async def test_a_server_that_answers_and_hangs_up_on_the_rest_of_a_request_is_heard(
    encrypted: ssl.SSLContext, over_tls: bool
) -> None:
    with impatient(encrypted if over_tls else None) as port:
        async with direct(port, tls=over_tls) as client:
            found = [(await ask(client, b"x" * 5_000_000)).status for _ in range(5)]
    assert found == [413] * 5


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="only Linux can be told so")
async def test_a_server_is_not_kept_waiting_for_us_to_say_what_has_come(
    encrypted: ssl.SSLContext,
) -> None:
    """Linux would say it 40 ms later. It is as busy as it is, so half of the tries are enough."""
    heard = 0
    with impatient(encrypted, holds_back=True) as port:
        for _ in range(9):
            async with direct(port, tls=True) as client:
                with suppress(HungUp):
                    heard += (await ask(client, b"x" * 3_000_000)).status == 413
    assert heard >= 5


@ways
@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n", b""])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_refusal_whose_body_does_not_come_has_said_it_by_its_status(
    client_at: ClientAt, framing: bytes, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (reading, proxied):
        monkeypatch.setattr(module, "REFUSAL_S", 0.05)
    server = Server(answers=[[b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\n" + framing + b"\r\nno"]])
    async with listening(server.serve) as port, client_at(port) as client:
        if not streamed:
            answer = await ask(client)
            found = (answer.status, answer.headers["retry-after"], answer.body)
        else:
            async with client.stream(
                "POST", "responses", b"{}", within=LONG, silence=LONG, bounds=BOUNDS
            ) as stream:
                pieces = [await stream.next(), await stream.next()]
                found = (stream.status, stream.headers["retry-after"], b"".join(pieces))
    assert found == (429, "7", b"no")


@ways
@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\n" + OK, True),
        (b"HTTP/1.0 100 Continue\r\n\r\n" + OK, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", False),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\nTransfer-Encoding: chunked\r\n\r\n",
            False,
        ),
        (CHUNKED[:-2] + b"Content-Length: 5\r\n" * 2 + b"\r\n", False),
    ],
)
async def test_an_answer_that_the_sdks_client_would_read_is_read(
    client_at: ClientAt, said: bytes, kept: bool
) -> None:
    """Whoever says in two ways how long it is may mean something else by what follows."""
    said += b"" if kept else PIECES
    server = Server(answers=[[said]])
    async with listening(server.serve) as port, client_at(port) as client:
        assert [(await ask(client)).body for _ in range(2)] == [b"Paris"] * 2
    assert server.connections == (1 if kept else 2)


async def test_a_length_beside_another_coding_than_chunks_is_not_waited_for() -> None:
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nParis"
    server = Server(answers=[[said]])
    async with listening(server.serve) as port, direct(port) as client:
        with pytest.raises(Malformed):
            await ask(client)


async def test_what_cannot_be_sent_takes_no_connection() -> None:
    server = Server()
    async with listening(server.serve) as port, direct(port, most=2) as client:
        assert isinstance(client, Pool)
        for path, headers in (("café", {}), ("responses", {"X-Odd": "a\r\nb"})):
            await ask(client)
            with pytest.raises(ValueError, match=r"ordinal|control"):
                await client.request(
                    "POST", path, b"{}", within=LONG, bounds=BOUNDS, headers=headers or None
                )
        assert (await ask(client)).body == b"Paris"
    assert server.connections == 1


async def test_a_server_that_begins_to_answer_early_still_gets_the_rest_of_the_request() -> None:
    size = 3_000_000
    got: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError), closing(writer):
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" + OK[:20])
            await writer.drain()
            got.append(len((await whole_request(reader)).partition(b"\r\n\r\n")[2]))
            writer.write(OK[20:])
            await writer.drain()
            await reader.read()

    async with listening(serve) as port, direct(port) as client:
        assert (await ask(client, b"x" * size)).body == b"Paris"
    assert got == [size]


@ways
async def test_a_server_that_ends_its_side_and_takes_the_rest_of_a_request_has_hung_up(
    client_at: ClientAt,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError), closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write_eof()
            await reader.read()

    async with listening(serve) as port, client_at(port) as client:
        with pytest.raises(HungUp):
            await ask(client, b"x" * 30_000_000)


async def test_an_answer_without_content_is_whole_whatever_it_says_of_its_coding() -> None:
    server = Server(answers=[[b"HTTP/1.1 204 Gone\r\nContent-Encoding: gzip\r\n\r\n"]])
    async with listening(server.serve) as port:
        vendor = Vendor(base_url=f"http://127.0.0.1:{port}/v1", headers=lambda: {"X-Key": "k"})
        answer = await vendor.call("DELETE", "responses/resp_1")
        await vendor.aclose()
    assert (answer.status, answer.body) == (204, b"")
