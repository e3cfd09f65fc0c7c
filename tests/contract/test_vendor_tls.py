"""What a call in flight holds of memory where the connection is encrypted."""

import asyncio
import ctypes
import gc
import shutil
import socket
import ssl
import subprocess
import sys
import tracemalloc
from asyncio import sslproto
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from tests.contract.rigs import a_request
from turnmill_worker.http1.connection import Connection
from turnmill_worker.http1.opening import Opener, Origin
from turnmill_worker.http1.small_tls import SMALL, encrypted
from turnmill_worker.providers.connector import small_buffers
from turnmill_worker.providers.openai.provider import OpenAIProvider

pytestmark = pytest.mark.anyio

CALLS = 100
LINES = 60
#: With asyncio's own buffer a call holds 270,000 that Python knows of.
BYTES_A_CALL = 14_000
#: What OpenSSL holds for a connection, and Python of larger objects: a copy of a request is not
#: among it.
BYTES_OF_C = 30_000
LONG = "And then? " * 1_400
C = ctypes.CDLL(None)


class Allocations(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


if hasattr(C, "mallinfo2"):
    C.mallinfo2.restype = Allocations


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1 that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command, to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-out", str(made[0]), "-keyout", str(made[1])]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return made


@pytest.fixture
def silent(certificate: tuple[Path, Path]) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.doubles.silent_tls_vendor", *map(str, certificate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate(timeout=10)


@pytest.fixture
async def provider(
    silent: "subprocess.Popen[str]",
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[OpenAIProvider]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    url = f"https://127.0.0.1:{await arrived(silent)}/v1"
    provider = OpenAIProvider(AsyncOpenAI(api_key="k", base_url=url))
    yield provider
    await provider.aclose()


async def arrived(silent: "subprocess.Popen[str]") -> str:
    assert silent.stdout is not None
    return (await asyncio.wait_for(asyncio.to_thread(silent.stdout.readline), 20)).strip()


async def test_a_call_in_flight_over_tls_holds_little(
    provider: OpenAIProvider, silent: "subprocess.Popen[str]"
) -> None:
    async def begin(count: int) -> list[asyncio.Task[object]]:
        begun = [asyncio.create_task(provider.send(a_request())) for _ in range(count)]
        for _ in begun:
            assert await arrived(silent) == "request"
        return list(begun)

    calls = await begin(1)
    tracemalloc.start()
    calls += await begin(CALLS)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert held / CALLS < BYTES_A_CALL
    assert peak / CALLS < BYTES_A_CALL  # while connecting too


async def test_openssl_keeps_no_copy_of_what_was_sent(
    provider: OpenAIProvider, silent: "subprocess.Popen[str]"
) -> None:
    async def begin(count: int) -> list[asyncio.Task[object]]:
        sending = [provider.send(a_request(LONG)) for _ in range(count)]
        begun = [asyncio.create_task(one) for one in sending]
        for _ in begun:
            assert await arrived(silent) == "request"
        return list(begun)

    if not hasattr(C, "mallinfo2"):
        pytest.skip("needs glibc, to ask how much is allocated")
    calls = await begin(10)
    before = allocated()
    calls += await begin(CALLS)
    held = allocated() - before
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert held / CALLS < BYTES_OF_C


async def test_other_connections_of_the_process_are_as_they_were(
    provider: OpenAIProvider, silent: "subprocess.Popen[str]", certificate: tuple[Path, Path]
) -> None:
    call = asyncio.create_task(provider.send(a_request()))
    assert await arrived(silent) == "request"
    context = ssl.create_default_context(cafile=certificate[0])
    port = int(str(provider._sdk.base_url.port))
    _, ours = await opened(port, context)
    with small_buffers():
        _, behind_a_proxy = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    _, theirs = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    sizes = [buffer_of(writer) for writer in (ours, behind_a_proxy, theirs)]
    for writer in (ours, behind_a_proxy, theirs):
        writer.close()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert sizes == [SMALL, SMALL, 256 * 1024]


async def test_connections_that_share_a_buffer_read_what_is_theirs(
    certificate: tuple[Path, Path],
) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.readline()
        for _ in range(LINES):
            writer.write(said)
            await asyncio.sleep(0)  # the others' turn
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = await asyncio.start_server(say, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    trusting = ssl.create_default_context(cafile=certificate[0])

    async def ask(number: int) -> bool:
        reader, writer = await opened(port, trusting)
        line = b"%d " % number * 999 + b"\n"
        writer.write(line)
        heard = await reader.read(-1)
        writer.close()
        return heard == line * LINES

    assert all(await asyncio.gather(*map(ask, range(30))))
    server.close()


@pytest.mark.parametrize("size", [1, 1_023, 16_384, 16_385, 5_000_000])
async def test_what_is_written_arrives_whole_however_slowly_it_is_read(
    certificate: tuple[Path, Path], size: int
) -> None:
    all_written = asyncio.Event()
    said = bytes(range(251)) * (size // 251 + 1)
    whole = said[:size] * 2

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await all_written.wait()
        writer.write(await reader.readexactly(len(whole)))  # it comes back
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=context, limit=1000)
    port = server.sockets[0].getsockname()[1]
    trusting = ssl.create_default_context(cafile=certificate[0])
    reader, writer = await opened(port, trusting)
    writer.write(said[:size])
    writer.write(memoryview(said)[:size])
    all_written.set()
    await asyncio.wait_for(writer.drain(), 20)
    assert await asyncio.wait_for(reader.readexactly(len(whole)), 20) == whole
    writer.close()
    server.close()


async def test_whoever_gives_up_while_a_connection_is_opened_leaves_nothing_in_the_way(
    certificate: tuple[Path, Path],
) -> None:
    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read(-1)
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=context)
    trusting = ssl.create_default_context(cafile=certificate[0])
    loop = asyncio.get_running_loop()
    origin = Origin("127.0.0.1", server.sockets[0].getsockname()[1], trusting)
    opener, sending = Opener(origin, loop), asyncio.Semaphore()

    def make() -> Connection:
        return Connection(loop, lambda _: None, sending)

    opened = False
    for steps in range(200):
        opening = asyncio.create_task(opener.open(make))
        for _ in range(steps):
            await asyncio.sleep(0)
        opened = opening.done()
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        (await opener.open(make)).close()  # on the same number of a socket
        if opened:
            opening.result().close()
            break
    server.close()
    assert opened  # so every moment before that was tried


async def opened(
    port: int, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection of ours, for whoever reads and writes as by asyncio's."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    sock = socket.create_connection(("127.0.0.1", port))
    transport = await encrypted(loop, sock, protocol, context, "127.0.0.1")
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def buffer_of(writer: asyncio.StreamWriter) -> int:
    protocol: sslproto.SSLProtocol = writer.transport._ssl_protocol  # type: ignore[attr-defined]
    return len(protocol.get_buffer(-1))


def allocated() -> int:
    """Return how many bytes the C library has handed out to the main thread."""
    gc.collect()
    return int(C.mallinfo2().uordblks)
