"""Whatever a webhook's URL, its resolver and its answers do: no private address is connected to."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from turnmill.net.public_address import Reach
from turnmill_worker.webhooks import sending
from turnmill_worker.webhooks.names import Names
from turnmill_worker.webhooks.signing import Signed

pytestmark = pytest.mark.anyio

REQUEST = Signed({"webhook-id": "msg_1"}, b"{}")
#: Where nobody of ours is, in the forms in which it is named, as host of a URL.
PRIVATE = (
    *("127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "017700000001"),
    *("0177.0.0.1", "0x7f.0.0.1", "127.0.0.1.", "10.0.0.1", "10.255.255.255", "172.16.0.1"),
    *("172.31.255.255", "192.168.0.1", "169.254.169.254", "2852039166", "0xa9fea9fe", "100.64.0.1"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),
    *("[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::a00:1]", "[2002:7f00:1::]"),
    *("[2001:0:4136:e378:8000:63bf:3fff:fdd2]", "[fc00::1]", "[fd00:ec2::254]", "[fe80::1]"),
    *(
        "[fe80::1%25lo]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[100::1]",
        "[::ffff:0:127.0.0.1]",
    ),
    *("1.1.1.1@127.0.0.1", "a:b@10.0.0.1", "127.0.0.1%00.example.com", "%31%32%37.0.0.1"),
    *("127。0。0。1", "１２７.0.0.1", "①②⑦.⓪.⓪.①", "[::ffff:10.1.2.3]", "[::ffff:a9fe:a9fe]"),
)
#: What a name may mean, one look-up after the other.
FACES = (
    ("127.0.0.1",),
    ("1.1.1.1", "127.0.0.1"),
    ("::1",),
    ("10.0.0.1", "1.1.1.1"),
    ("::ffff:127.0.0.1",),
    ("64:ff9b::7f00:1",),
    ("169.254.169.254",),
    ("fd00::1", "2606:4700::1111"),
)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the addresses that are connected to; nothing leaves this machine for any other."""
    addresses: list[str] = []
    loop = asyncio.SelectorEventLoop
    inner = loop.sock_connect

    async def noted(self: Any, sock: socket.socket, address: Any) -> None:
        addresses.append(address[0])
        if address[0] != "127.0.0.1":
            raise ConnectionRefusedError
        await inner(self, sock, address)

    monkeypatch.setattr(loop, "sock_connect", noted)
    return addresses


def answers(*faces: tuple[str, ...]) -> Any:
    """Return a resolver that says something else each time."""
    turns = itertools.cycle(faces)

    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in next(turns)]

    return lookup


@asynccontextmanager
async def serving(status: str, *fields: str) -> AsyncIterator[tuple[int, list[bytes]]]:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heard.append(head)
        lines = "".join(f"{one}\r\n" for one in fields)
        writer.write(f"HTTP/1.1 {status}\r\n{lines}Content-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


def test_there_are_sixty_of_them() -> None:
    assert len(set(PRIVATE)) >= 60 - len(FACES) and len(PRIVATE) + len(FACES) >= 60


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_private_address_is_connected_to_in_whatever_form_it_is_named(
    host: str, scheme: str, dialled: list[str]
) -> None:
    # Whoever takes it for a name learns that it means the same.
    reach = Reach(lookup=answers(("127.0.0.1",)))
    sent = await sending.send(f"{scheme}://{host}/hook", REQUEST, Names(reach), timeout=2)
    assert (sent.ok, sent.status) == (False, None)
    assert dialled == []


@pytest.mark.parametrize("faces", FACES)
async def test_a_name_with_a_private_face_reaches_nobody(
    faces: tuple[str, ...], dialled: list[str]
) -> None:
    sent = await sending.send(
        "http://a.example/", REQUEST, Names(Reach(lookup=answers(faces))), timeout=2
    )
    assert sent.error_code == "address_refused"
    assert dialled == []


@pytest.mark.parametrize("second", FACES)
async def test_a_resolver_that_changes_its_answer_is_asked_once_and_that_is_connected_to(
    second: tuple[str, ...], dialled: list[str]
) -> None:
    reach = Reach(lookup=answers(("1.1.1.1", "2606:4700::1111"), second))
    sent = await sending.send("http://a.example/", REQUEST, Names(reach), timeout=2)
    assert not sent.ok
    assert dialled == ["1.1.1.1", "2606:4700::1111"]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 There", "308 There"])
@pytest.mark.parametrize("host", ["127.0.0.1:1", "169.254.169.254", "a.example", "[::1]"])
async def test_no_redirect_is_followed(status: str, host: str, dialled: list[str]) -> None:
    reach = Reach.of(["127.0.0.1/32"])
    async with serving(status, f"Location: http://{host}/") as (port, heard):
        sent = await sending.send(f"http://127.0.0.1:{port}/", REQUEST, Names(reach), timeout=5)
    assert (sent.ok, sent.error_code) == (False, f"http_{status[:3]}")
    assert len(heard) == 1 and dialled == ["127.0.0.1"]


async def test_networks_that_an_operator_has_named_are_reached_and_their_neighbours_are_not(
    dialled: list[str],
) -> None:
    reach = Reach.of(["127.0.0.1/32"])
    async with serving("204 Fine") as (port, heard):
        assert (await sending.send(f"http://127.0.0.1:{port}/a?b=c", REQUEST, Names(reach))).ok
        assert not (await sending.send(f"http://127.0.0.2:{port}/", REQUEST, Names(reach))).ok
    assert heard[0].startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert dialled == ["127.0.0.1"]


async def test_the_environments_proxy_is_not_used(
    dialled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9/")
    reach = Reach(lookup=answers(("1.1.1.1",)))
    assert not (await sending.send("http://a.example/", REQUEST, Names(reach), timeout=2)).ok
    assert dialled == ["1.1.1.1"]


async def test_an_answer_that_never_ends_takes_its_time_and_no_more(dialled: list[str]) -> None:
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            writer.close()
            over.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reach = Reach.of(["127.0.0.1/32"])
        sent = await sending.send(f"http://127.0.0.1:{port}/", REQUEST, Names(reach), timeout=0.3)
        await asyncio.wait_for(over.wait(), timeout=10)
    assert not sent.ok and sent.took_ms < 3_000
