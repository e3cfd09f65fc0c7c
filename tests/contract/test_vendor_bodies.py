"""How a body comes: packed, cut, endless, with odd headers; and what reading it costs."""

import asyncio
import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import Any

import pytest

from tests.contract.rigs import a_request
from tests.doubles.raw_vendor import SETTINGS, RawVendor, Wire, http
from turnmill.domain.errors import MaybeSent, ProviderError, Rejected
from turnmill_worker.providers.port import Done, Provider

pytestmark = pytest.mark.anyio

MOST = 2**20


def reply(text: str = "Paris", **fields: Any) -> bytes:
    message = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [message], **fields}, ensure_ascii=False).encode()


REPLY = reply()


@pytest.fixture
async def vendor() -> AsyncIterator[RawVendor]:
    async with RawVendor() as vendor:
        yield vendor


@pytest.fixture
async def provider(vendor: RawVendor, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Provider]:
    monkeypatch.setenv("TURNMILL_MAX_REPLY_BYTES", str(MOST))
    provider = vendor.provider("chat")
    yield provider
    await provider.aclose()


async def answered(provider: Provider) -> Done:
    found = await provider.send(a_request(settings=SETTINGS["chat"]))
    assert isinstance(found, Done)
    return found


async def failure(provider: Provider) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await provider.send(a_request(settings=SETTINGS["chat"]))
    assert caught.value.__context__ is None
    return caught.value


def packed(body: bytes, *encodings: str, bits: int = 16 + zlib.MAX_WBITS) -> Wire:
    for _ in encodings:
        packer = zlib.compressobj(wbits=bits)
        body = packer.compress(body) + packer.flush()
    return http(body, headers={"Content-Encoding": ", ".join(encodings)})


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> Wire:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return Wire(raw=head + body + end, hang_up=not end)


def until_close(body: bytes) -> Wire:
    return Wire(raw=b"HTTP/1.1 200 OK\r\n\r\n" + body, hang_up=True)


@pytest.mark.parametrize(
    "wire",
    [
        packed(REPLY, "gzip"),
        packed(REPLY, "x-gzip"),
        packed(REPLY, "gzip", "gzip"),
        packed(REPLY, "deflate", bits=zlib.MAX_WBITS),
        packed(REPLY, "deflate", bits=-zlib.MAX_WBITS),
        http(
            gzip.compress(REPLY[:20]) + gzip.compress(REPLY[20:]) + b"\0" * 9,
            headers={"Content-Encoding": "gzip"},
        ),
        http(REPLY, headers={"Content-Encoding": "identity"}),
        http(REPLY, headers={"Content-Encoding": "gzip"}),  # unpacked by a proxy
        chunked(REPLY[:7], REPLY[7:]),
        until_close(REPLY),
        http(b"\xef\xbb\xbf" + REPLY),
        http(REPLY.decode().encode("utf-16")),
        http(REPLY, headers={"Content-Type": "text/plain"}),
        http(REPLY, headers={f"X-Policy-{n}": "x" * 500 for n in range(150)}),
        http(REPLY, headers={"Content-Security-Policy": "x" * 60_000}),
        Wire(raw=b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + http(REPLY).raw),
        Wire(raw=b"HTTP/1.1 100 Continue\r\n\r\n" + http(REPLY).raw),
    ],
)
async def test_a_body_is_read_however_it_comes(
    vendor: RawVendor, provider: Provider, wire: Wire
) -> None:
    vendor.meet(wire)
    assert (await answered(provider)).text == "Paris"


@pytest.mark.parametrize(
    ("said", "charset", "heard"),
    [
        ("Zürich".encode("latin-1"), "iso-8859-1", "Zürich"),
        ("Zürich".encode("latin-1"), "no-such-charset", "Z\ufffdrich"),
        ("Zürich".encode("latin-1"), "utf-8", "Z\ufffdrich"),
        ("Zürich".encode(), "iso-8859-1", "Zürich"),  # JSON is UTF-8, whatever the header says
        (b"a\\ud83db", "utf-8", "a\ufffdb"),
        (b"\xed\xa0\xbd", "utf-8", "\ufffd"),
    ],
)
async def test_a_text_is_read_in_whatever_it_was_written(
    vendor: RawVendor, provider: Provider, said: bytes, charset: str, heard: str
) -> None:
    body = REPLY.replace(b"Paris", said)
    vendor.meet(http(body, headers={"Content-Type": f"application/json; charset={charset}"}))
    assert (await answered(provider)).text == heard


@pytest.mark.parametrize(
    "wire",
    [
        http(REPLY, missing=3),
        http(gzip.compress(REPLY)[:-9], headers={"Content-Encoding": "gzip"}),
        chunked(REPLY, end=b""),
        chunked(REPLY[:20], end=b""),
        until_close(REPLY[:-3]),
        until_close(b""),
    ],
)
async def test_a_body_that_was_cut_short_may_have_been_executed(
    vendor: RawVendor, provider: Provider, wire: Wire
) -> None:
    vendor.meet(wire)
    error = await failure(provider)
    assert (type(error), error.error_code) == (MaybeSent, "truncated")


@pytest.mark.parametrize(
    "wire",
    [
        http(b"\x1f\x8bnonsense", headers={"Content-Encoding": "gzip"}),
        http(REPLY, headers={"Content-Encoding": "br"}),  # not asked for
        http(REPLY, headers={"Content-Encoding": "gzip, gzip, gzip, gzip, gzip"}),
        http(gzip.compress(b" ") * 1000, headers={"Content-Encoding": "gzip"}),
        http(b"[" * 100_000),
        http(b'{"choices": ' * 10_000),
        http(b'{"choices": [{"message": {"content": "Pa'),
        Wire(raw=b"HTTP/1.1 204 No Content\r\n\r\n"),
        Wire(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
    ],
)
async def test_a_body_that_arrived_and_cannot_be_read_ends_the_turn(
    vendor: RawVendor, provider: Provider, wire: Wire
) -> None:
    vendor.meet(wire)
    error = await failure(provider)
    assert (type(error), error.error_code) == (Rejected, "unreadable_reply")
    assert len(error.detail) <= 2_000


@cache
def bomb(bits: int = 16 + zlib.MAX_WBITS) -> bytes:
    """Return 128 MB of blanks in half a megabyte."""
    packer = zlib.compressobj(1, wbits=bits)
    return b"".join(packer.compress(b" " * 2**20) for _ in range(128)) + packer.flush()


@pytest.mark.parametrize(
    "wire_of",
    [
        lambda: http(bomb(), headers={"Content-Encoding": "gzip"}),
        lambda: http(bomb(zlib.MAX_WBITS), headers={"Content-Encoding": "deflate"}),
        lambda: http(gzip.compress(bomb()), headers={"Content-Encoding": "gzip, gzip"}),
        lambda: http(reply("x" * MOST)),
        lambda: chunked(*[b" " * 2**16] * 17),
        lambda: until_close(b" " * (MOST + 1)),
        lambda: http(b"", headers={"Content-Length": str(2**40)}),
    ],
    ids=["gzip", "deflate", "gzip twice", "plain", "chunked", "unframed", "announced"],
)
async def test_an_answer_that_is_too_large_ends_its_turn_and_costs_no_more_than_the_bound(
    vendor: RawVendor, provider: Provider, wire_of: Callable[[], Wire]
) -> None:
    vendor.meet(wire_of())
    tracemalloc.start()
    error = await failure(provider)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (type(error), error.error_code) == (Rejected, "reply_too_large")
    assert peak < 8 * MOST
    assert len(vendor.bodies) == 1
    vendor.meet(http(REPLY))
    assert (await answered(provider)).text == "Paris"


async def test_a_text_as_large_as_the_bound_is_kept(vendor: RawVendor, provider: Provider) -> None:
    text = "ü" * (MOST // 2 - 100)
    vendor.meet(packed(reply(text), "gzip"))
    assert (await answered(provider)).text == text


async def test_many_small_values_are_bounded_too(vendor: RawVendor) -> None:
    provider = vendor.provider("chat")  # 16 MB unless set
    vendor.meet(packed(reply(x=[[]]).replace(b"[[]]", b"[" + b"[]," * 1_500_000 + b"1]"), "gzip"))
    error = await failure(provider)
    await provider.aclose()
    assert (type(error), error.error_code) == (Rejected, "reply_too_large")


async def test_nobody_waits_while_a_large_answer_is_unpacked(vendor: RawVendor) -> None:
    provider = vendor.provider("chat")
    vendor.meet(http(bomb(), headers={"Content-Encoding": "gzip"}))
    calls = [asyncio.create_task(failure(provider)) for _ in range(8)]
    longest = 0.0
    while not all(call.done() for call in calls):
        before = time.thread_time()  # of this thread, which is the loop's: others may be busy
        await asyncio.sleep(0.001)
        longest = max(longest, time.thread_time() - before)
    await provider.aclose()
    assert {call.result().error_code for call in calls} == {"reply_too_large"}
    assert longest < 0.1  # seconds; to unpack one takes several times as long


@pytest.mark.parametrize("size", [10_000, 10_000_000])
async def test_of_a_refusal_the_first_words_are_kept_however_long_it_is(
    vendor: RawVendor, provider: Provider, size: int
) -> None:
    vendor.meet(http(b"no, because " + b"x" * size, status=400))
    error = await failure(provider)
    assert (type(error), error.error_code) == (Rejected, "http_400")
    assert error.detail.startswith("no, because xxx")
    assert len(error.detail) == 2_000
