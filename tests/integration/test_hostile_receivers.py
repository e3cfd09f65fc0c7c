"""Receivers of webhooks that are slow, odd or hostile: they harm no other one, and no turn."""

import asyncio
import socket
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import Text, type_coerce, update

from tests.connections.certificates import make_certificates
from tests.integration.test_webhooks import answered, created, hurry, listening, log, now
from tests.keyed import encrypted
from tests.waiting import async_until
from turnmill.domain.errors import NotReached
from turnmill.net.public_address import Reach, target_of
from turnmill.store.database import Database
from turnmill.store.hook_records import DeliveryState, Sent, Webhook
from turnmill.store.schema.hook_tables import webhooks as webhook_rows
from turnmill_worker.webhooks import sending
from turnmill_worker.webhooks.names import Names
from turnmill_worker.webhooks.posting import Posting
from turnmill_worker.webhooks.signing import Signed

pytestmark = pytest.mark.anyio

REQUEST = Signed({"webhook-id": "msg_1"}, b"{}")
HERE = ["127.0.0.0/8"]


@asynccontextmanager
async def posting(store: Database, reach: Reach, *, timeout: float) -> AsyncIterator[None]:
    post = Posting(store, owner="a", reach=reach, timeout=timeout)
    task = asyncio.create_task(post.run())
    try:
        yield
    finally:
        post.stop()
        await asyncio.wait_for(task, timeout=20)


@asynccontextmanager
async def hanging() -> AsyncIterator[str]:
    """Somebody who takes requests and answers none."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize("hanging_ones", [6, pytest.param(40, marks=pytest.mark.long)])
async def test_receivers_that_hang_do_not_hold_up_one_that_answers(
    store: Database, hanging_ones: int
) -> None:
    async with hanging() as url, listening() as good:
        for n in range(hanging_ones):
            created(store, f"{url}{n}")
        hook = created(store, good.url)
        answered(store, 60)
        async with posting(store, Reach.of(HERE), timeout=0.5):
            await async_until(lambda: bool(good.heard))
            began = asyncio.get_running_loop().time()
            await async_until(lambda: len(good.heard) >= 60)
            took = asyncio.get_running_loop().time() - began
    assert now(store, hook).waiting == 0
    # With all places taken by those that hang, one of them is free 64 times a second, for anybody.
    assert took < hanging_ones * 60 / 64 / 3


async def test_one_that_answers_is_sent_eight_at_once_and_no_more(store: Database) -> None:
    there, most = 0, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal there, most
        there, most = there + 1, max(most, there + 1)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.02)
        there -= 1
        writer.write(b"HTTP/1.1 204 Fine\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        hook = created(store, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        answered(store, 60)
        async with posting(store, Reach.of(HERE), timeout=5):
            await async_until(lambda: all_taken(store, hook, 60))
    assert most == 8


def all_taken(store: Database, hook: Webhook, count: int) -> bool:
    return [one.state for one in log(store, hook)] == [DeliveryState.DELIVERED] * count


async def test_names_whose_look_up_hangs_hold_up_neither_others_nor_rows(store: Database) -> None:
    """Rows are written on a few threads, which no resolver of somebody else's may keep."""
    free, asked = threading.Event(), Counter[str]()

    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        asked[host] += 1
        if host != "good.example":
            free.wait(20)
        return face("127.0.0.1", port)

    async with listening() as good:
        for n in range(12):
            created(store, f"http://slow{n}.example/")
        created(store, good.url.replace("127.0.0.1", "good.example"))
        answered(store, 20)
        try:
            async with posting(store, reach_of(lookup), timeout=2):
                await async_until(lambda: len(asked) == 13)
                threads = [asyncio.to_thread(int) for _ in range(20)]
                await asyncio.wait_for(asyncio.gather(*threads), timeout=1)
                await async_until(lambda: len(good.heard) == 20)
                free.set()
        finally:
            free.set()
    assert all(count == 1 for host, count in asked.items() if host != "good.example")


async def test_a_name_is_looked_up_once_for_all_that_ask_meanwhile_and_anew_afterwards() -> None:
    free, asked = threading.Event(), Counter[str]()

    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        asked[host] += 1
        free.wait(20)
        return face("127.0.0.1", port)

    names, target = Names(reach_of(lookup)), target_of("http://a.example/")
    first = asyncio.create_task(names.addresses_of(target))
    others = [asyncio.create_task(names.addresses_of(target)) for _ in range(5)]
    await async_until(lambda: bool(asked))
    first.cancel()  # who gives up takes nobody along
    free.set()
    assert all(len(found) == 1 for found in await asyncio.gather(*others))
    await names.addresses_of(target)
    assert asked["a.example"] == 2


def face(address: str, port: int) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]


def reach_of(lookup: Any) -> Reach:
    return Reach(allowed=Reach.of(HERE).allowed, lookup=lookup)


@pytest.fixture
def full() -> Iterator[int]:
    """Yield a port of 127.0.0.2 to .9 whose queue is full: whoever connects waits."""
    with ExitStack() as stack:
        port = 0
        for n in range(2, 10):
            one = stack.enter_context(socket.socket())
            one.bind((f"127.0.0.{n}", port))
            one.listen(0)
            port = one.getsockname()[1]
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex((f"127.0.0.{n}", port))
        yield port


async def test_an_address_that_takes_nothing_leaves_time_for_the_next_one(full: int) -> None:
    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        return face("127.0.0.2", port) + face("127.0.0.1", port)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 Fine\r\n\r\n")
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        served.append(True)

    served: list[bool] = []
    server = await asyncio.start_server(serve, "127.0.0.1", full)
    async with server:
        url, names = f"http://a.example:{full}/", Names(reach_of(lookup))
        sent = await sending.send(url, REQUEST, names, timeout=1)
        fetched = await asyncio.to_thread(reach_of(lookup).connect, target_of(url), timeout=1)
        fetched.close()
        await async_until(lambda: len(served) == 2)
    assert sent.ok


def test_however_many_addresses_take_nothing_connecting_ends_in_its_time(full: int) -> None:
    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        return [one for n in range(2, 10) for one in face(f"127.0.0.{n}", port)]

    began = monotonic()
    with pytest.raises(NotReached):
        reach_of(lookup).connect(target_of(f"http://a.example:{full}/"), timeout=0.4)
    assert monotonic() - began < 2


def st(status: str, rest: bytes = b"Content-Length: 0\r\n\r\n") -> bytes:
    return b"HTTP/1.1 " + status.encode() + b"\r\n" + rest


#: What is said, and the status that it counts for; None: it is no answer.
ANSWERS: Mapping[str, tuple[bytes, int | None]] = {
    "a body of ten gigabytes": (st("200 So", b"Content-Length: 10000000000\r\n\r\nabc"), 200),
    "a body of megabytes": (
        st("200 So", b"Content-Length: 3000000\r\n\r\n" + bytes(3_000_000)),
        200,
    ),
    "a body that is cut": (st("200 So", b"Content-Length: 10\r\n\r\nabc"), 200),
    "chunks that are none": (st("200 So", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), 200),
    "a body that is packed": (st("200 So", b"Content-Encoding: gzip\r\n\r\nzz"), 200),
    "early hints": (st("103 So", b"Link: x\r\n\r\n") + st("202 So"), 202),
    "an old server": (b"HTTP/1.0 200 OK\r\n\r\n", 200),
    "two answers": (st("500 So") + st("200 So"), 500),
    "a yes that points elsewhere": (st("200 So", b"Refresh: 0;url=http://127.0.0.1/\r\n\r\n"), 200),
    "a wait of ages": (st("429 So", b"Retry-After: 99999999999999999999\r\n\r\n"), 429),
    "a refusal of gigabytes": (
        st("500 So", b"Content-Length: 10000000000\r\n\r\n" + bytes(10**6)),
        500,
    ),
    "gone, at length": (st("410 So", b"Content-Length: 10000000000\r\n\r\n" + bytes(10**6)), 410),
    "not changed": (st("304 So", b"\r\n"), 304),
    "no status that there is": (st("999 So"), 999),
    "a status of four digits": (st("2000 So"), None),
    "a status of two": (st("20 So"), None),
    "a status of letters": (st("2OO So"), None),
    "another protocol": (st("101 So", b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n"), None),
    "nothing": (b"", None),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Len", None),
    "something else": (b"SSH-2.0-OpenSSH_9\r\n\r\n", None),
    "radio": (b"ICY 200 OK\r\n\r\n", None),
    "an alert of TLS": (b"\x15\x03\x01\x00\x02\x02\x28", None),
    "too many fields": (st("200 So", b"A: b\r\n" * 300 + b"\r\n"), None),
    "two lengths": (st("200 So", b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), None),
}


@pytest.mark.parametrize("what", ANSWERS)
async def test_the_head_of_an_answer_says_it_all_and_what_is_none_is_none(what: str) -> None:
    said, status = ANSWERS[what]
    for reads_first in (True, False):
        sent = await sent_to(said, reads_first=reads_first)
        assert (sent.status, sent.gone) == (status, status == 410)
        assert sent.ok == (status is not None and status // 100 == 2)


async def sent_to(said: bytes, *, reads_first: bool = True, tls: Any = None) -> Sent:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if reads_first:
                await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            await writer.drain()
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
        ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        url = f"http{'' if tls is None else 's'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        sent = await sending.send(url, REQUEST, Names(Reach.of(HERE)), timeout=5)
        if sent.error_code != "tls":  # then it was never asked
            await asyncio.wait_for(ended.wait(), timeout=20)
        return sent


@pytest.mark.parametrize("code", ["tls", None])
async def test_a_certificate_has_to_be_of_the_name_and_of_somebody_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str | None
) -> None:
    made = make_certificates(tmp_path)
    here, elsewhere = (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2))
    here.load_cert_chain(made.certificate, made.key)
    elsewhere.load_cert_chain(made.elsewhere, made.elsewhere_key)
    if code is None:  # the authority is known
        known = ssl.create_default_context(cafile=str(made.authority))
        monkeypatch.setattr(sending, "_tls", lambda: known)
    assert (await sent_to(st("204 So", b"\r\n"), tls=here)).error_code == code
    assert (await sent_to(st("204 So", b"\r\n"), tls=elsewhere)).error_code == "tls"


async def test_who_speaks_no_tls_or_hangs_while_it_is_agreed_on_is_told_of_by_its_code() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(st("200 So"))
        writer.close()

    for serve, code in ((plain, "tls"), (None, "timeout")):
        async with AsyncExitStack() as stack:
            if serve is None:
                url = (await stack.enter_async_context(hanging())).replace("http:", "https:")
            else:
                server = await asyncio.start_server(serve, "127.0.0.1", 0)
                await stack.enter_async_context(server)
                url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            sent = await sending.send(url, REQUEST, Names(Reach.of(HERE)), timeout=0.5)
        assert (sent.ok, sent.error_code) == (False, code)


async def test_a_secret_that_cannot_be_read_is_in_no_other_ones_way(store: Database) -> None:
    async with listening() as bad, listening() as good:
        broken = [created(store, bad.url) for _ in range(2)]
        hook = created(store, good.url)
        answered(store, 3)
        sealed = f"tm1.{'a' * 22}.{'b' * 80}"  # and no keys are set here
        with store.begin() as conn:
            for one, secret in zip(broken, ("whsec_%%%", sealed), strict=True):
                of = update(webhook_rows).where(webhook_rows.c.id == one.id)
                conn.execute(of.values(secret=type_coerce(secret, Text)))
        async with posting(store, Reach.of(HERE), timeout=5):
            await async_until(lambda: all_taken(store, hook, 3))
            await async_until(
                lambda: all(it.error_code for one in broken for it in log(store, one))
            )
    assert not bad.heard
    assert {it.error_code for it in log(store, broken[1])} == {"data_key_missing"}


async def test_words_that_cannot_be_decrypted_here_are_a_try_that_came_to_nothing(
    store: Database,
) -> None:
    async with listening() as wordy, listening() as terse:
        with_words = created(store, wordy.url, content=True)
        without = created(store, terse.url)
        with encrypted(store) as keys:
            answered(store)
        async with posting(store, Reach.of(HERE), timeout=5):
            await async_until(lambda: all_taken(store, without, 1))
            await async_until(lambda: [it.error_code for it in log(store, with_words)] != [None])
        (one,) = log(store, with_words)
        assert (one.state, one.error_code, wordy.heard) == ("due", "data_key_missing", [])
        hurry(store)
        with encrypted(store, keys):
            async with posting(store, Reach.of(HERE), timeout=5):
                await async_until(lambda: all_taken(store, with_words, 1))
    assert b'"content"' in wordy.heard[0][1]
