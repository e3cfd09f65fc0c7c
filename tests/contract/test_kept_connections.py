"""A connection that is kept: what has happened to it meanwhile is seen before it is used again.

A request that goes into a connection whose server has left may have been executed for all we know,
and an answer that nobody has asked for would be taken for that of whoever asks next.
"""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from tests.contract.test_http_clients import (
    BOUNDS,
    CHUNKED,
    OK,
    SOON,
    UNTIL_CLOSE,
    Client,
    ClientAt,
    Server,
    ask,
    direct,
    listening,
    ways,
    whole_request,
)
from tests.contract.test_vendor_tls import certificate as certificate
from turnmill_worker.http1.connection import Connection
from turnmill_worker.http1.failures import CutShort, Failure, HungUp, Malformed, NotConnected
from turnmill_worker.http1.opening import on_socket
from turnmill_worker.http1.pool import Pool

pytestmark = pytest.mark.anyio

OTHER = OK.replace(b"Paris", b"Tokyo")
FATAL_ALERT = b"\x15\x03\x03\x00\x02\x02\x50"
NO_TLS = b"HTTP/1.1 500 Oops\r\n\r\n"


class Blunt:
    """A server in a thread of its own, which goes on while the event loop does not."""

    def __init__(self, meanwhile: Callable[[socket.socket], object]) -> None:
        self.connections = 0
        self.happened = threading.Event()
        self._meanwhile = meanwhile
        self._first: socket.socket | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                self._answer(self._listener.accept()[0])

    def _answer(self, client: socket.socket) -> None:
        """Answer once; what happens on the first connection then happens before it is closed."""
        self.connections += 1
        said = b""
        while not said.endswith(b"{}"):
            said += client.recv(65536)
        client.sendall(OK)
        if self.connections > 1:
            return client.close()
        self._first = client
        self._meanwhile(client)
        self.happened.set()
        return None

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        if self._first is not None:
            self._first.close()


@contextmanager
def blunt(meanwhile: Callable[[socket.socket], object]) -> Iterator[Blunt]:
    server = Blunt(meanwhile)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def encrypted(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return what a server encrypts with whom clients trust."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.mark.parametrize("meanwhile", [socket.socket.close, lambda client: client.sendall(OTHER)])
async def test_what_happened_while_the_loop_was_busy_is_seen_before_a_request_leaves(
    meanwhile: Callable[[socket.socket], object],
) -> None:
    with blunt(meanwhile) as server:
        async with direct(server.port) as client:
            await ask(client)
            assert server.happened.wait(10)  # the loop reads nothing of it
            assert (await ask(client)).body == b"Paris"
    assert server.connections == 2


@pytest.mark.parametrize("behind", [FATAL_ALERT, NO_TLS])
@pytest.mark.parametrize(
    ("said", "found"),
    [
        (OK, b"Paris"),
        (CHUNKED + b"5\r\nParis\r\n0\r\n\r\n", b"Paris"),
        (OK[:-1], CutShort),
        (UNTIL_CLOSE + b"Paris", CutShort),
    ],
)
async def test_what_came_before_a_failure_of_tls_counts_and_the_next_request_goes_elsewhere(
    encrypted: ssl.SSLContext,
    said: bytes,
    found: bytes | type[Failure],
    behind: bytes,
) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        broken = connections == 1
        with suppress(OSError, asyncio.IncompleteReadError):
            await whole_request(reader)
            writer.write(said if broken else OK)
            if broken:
                os.write(writer.get_extra_info("socket").fileno(), behind)
            await reader.read()
        writer.close()

    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0, ssl=encrypted) as server,
        direct(server.sockets[0].getsockname()[1], tls=True) as client,
    ):
        if isinstance(found, bytes):
            assert (await ask(client)).body == found
        else:
            with pytest.raises(found):
                await ask(client)
        assert (await ask(client)).body == b"Paris"
    assert connections == 2


async def test_a_large_answer_that_comes_at_once_leaves_the_connection_reading(
    encrypted: ssl.SSLContext,
) -> None:
    """It becomes large, which stops the reading, and comes to its end in one piece of TLS."""
    size = BOUNDS.large + 50

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError), closing(writer):
            while True:
                await whole_request(reader)
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
                writer.write(head + b"x" * (size - 100))
                for _ in range(100):
                    writer.write(b"x")  # in a record of its own

    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0, ssl=encrypted) as server,
        direct(server.sockets[0].getsockname()[1], tls=True) as client,
    ):
        for _ in range(3):
            assert len((await ask(client, within=SOON * 20)).body) == size


def ways_to_answer(body: bytes) -> list[tuple[list[bytes], bool]]:
    """Return what a server may say, and whether it hangs up then; some of it is no whole answer."""
    size = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    whole = size % len(body) + body
    return [
        ([whole], False),
        ([whole], True),
        (
            [whole[n : n + 1 + len(whole) // 7] for n in range(0, len(whole), 1 + len(whole) // 7)],
            False,
        ),
        ([CHUNKED + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"], False),
        ([UNTIL_CLOSE + body], True),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + whole], False),
        ([whole + OTHER], False),
        ([size % (len(body) + 1) + body], True),
        ([], True),
    ]


async def test_whatever_servers_do_and_callers_give_up_an_answer_is_that_of_its_request(
    encrypted: ssl.SSLContext,
) -> None:
    dice = Random(4)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError), closing(writer):
            leaves = False
            while not leaves:
                body = (await whole_request(reader)).partition(b"\r\n\r\n")[2]
                pieces, leaves = dice.choice(ways_to_answer(body))
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()

    async def one(client: Client, number: int) -> bool | None:
        body = b"%04d" % number + b"x" * dice.choice([0, 3000, 70_000])
        call = asyncio.create_task(ask(client, body))
        if dice.random() < 0.3:
            for _ in range(dice.randrange(12)):
                await asyncio.sleep(0)
            call.cancel()
        try:
            return (await call).body == body
        except (HungUp, CutShort, asyncio.CancelledError):
            return None

    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0, ssl=encrypted, limit=2**20) as listener,
        direct(listener.sockets[0].getsockname()[1], tls=True, most=20) as client,
    ):
        found = [
            one_found
            for start in range(0, 200, 20)
            for one_found in await asyncio.gather(
                *(one(client, number) for number in range(start, start + 20))
            )
        ]
    assert found.count(True) > 50
    assert False not in found


async def test_a_coding_that_only_ends_like_chunked_is_another_one() -> None:
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: unchunked\r\n\r\nParis"
    server = Server(answers=[[said]], hang_up=True)
    async with listening(server.serve) as port, direct(port) as client:
        assert (await ask(client)).body == b"Paris"


@pytest.mark.parametrize("status", [b"000", b"099"])
async def test_a_status_that_is_none_is_not_waited_behind(status: bytes) -> None:
    server = Server(answers=[[OK.replace(b"200", status)]])
    async with listening(server.serve) as port, direct(port) as client:
        with pytest.raises(Malformed):
            await ask(client)


@ways
@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="is named otherwise here")
async def test_a_vendor_that_says_nothing_for_minutes_is_asked_whether_it_is_there(
    client_at: ClientAt,
) -> None:
    server = Server()
    async with listening(server.serve) as port, client_at(port) as client:
        await ask(client)
        sock = kept_by(client).get_extra_info("socket")
        said = [
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        ]
    assert said == [1, 60, 60]


def kept_by(client: Client) -> asyncio.BaseTransport:
    """Return the transport of the one connection that it keeps."""
    if isinstance(client, Pool):
        (connection,) = client._all
        transport: asyncio.BaseTransport | None = connection._transport
    else:
        connector = client._session.connector
        assert connector is not None
        (((handler, _),),) = connector._conns.values()
        transport = handler.transport
    assert transport is not None
    return transport


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b"timeout=60, max=100", True),
        (b"max=5, Timeout = 1", False),
        (b"timeout=0", False),
        (b"timeout=soon", True),
        (b"idletimeout=0", True),
    ],
)
async def test_a_server_that_says_when_it_hangs_up_is_asked_nothing_shortly_before(
    said: bytes, kept: bool
) -> None:
    """What is asked then may cross with its leaving, and count as what may have been executed."""
    server = Server(answers=[[OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: %b\r\n\r\n" % said)]])
    async with listening(server.serve) as port, direct(port) as client:
        for _ in range(2):
            await ask(client)
    assert server.connections == (1 if kept else 2)


async def test_on_a_connection_that_was_lost_meanwhile_nothing_is_waited_for() -> None:
    lost, loop = asyncio.Event(), asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    connection = Connection(loop, lambda _: lost.set(), asyncio.Semaphore())
    await on_socket(ours, connection, loop, tls=None, name="")
    theirs.close()
    await asyncio.wait_for(lost.wait(), 10)
    with pytest.raises(NotConnected):
        await connection.exchange(
            b"GET / HTTP/1.1\r\n\r\n",
            bounds=BOUNDS,
            room=asyncio.Semaphore(),
            deadline=loop.time() + 10,
        )
