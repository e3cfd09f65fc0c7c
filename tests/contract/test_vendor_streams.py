"""Streams of both vendors, and all that can become of them: no half of an answer is a reply."""

import asyncio
import gzip
import json
import random
import zlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tests.contract.rigs import a_request
from tests.doubles import streams
from tests.doubles.mutations import PAYLOADS
from tests.doubles.raw_vendor import SETTINGS, RawVendor, http, stream
from tests.doubles.reading_along import TEXT, Heard, events_of, sent, told
from turnmill.domain.errors import MaybeSent, Overloaded, ProviderError, RateLimited, Rejected
from turnmill_worker.providers import http as vendor_http
from turnmill_worker.providers.port import Done, used_by

pytestmark = pytest.mark.anyio

APIS = pytest.mark.parametrize("api", list(SETTINGS))


@pytest.fixture
async def vendor() -> AsyncIterator[RawVendor]:
    async with RawVendor() as vendor:
        yield vendor


@APIS
@pytest.mark.parametrize("size", [1, 3, 1_000])
async def test_the_pieces_are_those_of_the_vendor_and_joined_the_text(
    vendor: RawVendor, api: str, size: int
) -> None:
    found, heard = await told(vendor, api, stream(events_of(api, size=size)))
    at_once, _ = await told(vendor, api, http(PAYLOADS[api]))
    assert heard.text == found.text == TEXT
    assert found.usage == at_once.usage
    assert found.finish_reason == at_once.finish_reason
    assert vendor.bodies[0]["model"]
    assert "stream" in vendor.bodies[0]


@APIS
async def test_who_does_not_read_along_asks_for_no_stream(vendor: RawVendor, api: str) -> None:
    vendor.meet(http(PAYLOADS[api]))
    provider = vendor.provider(api)
    await provider.send(a_request(settings=SETTINGS[api]))
    await provider.aclose()
    assert "stream" not in vendor.bodies[0]


@APIS
async def test_a_stream_that_is_cut_between_two_events_is_no_reply(
    vendor: RawVendor, api: str
) -> None:
    events, provider = events_of(api), vendor.provider(api)
    for at in range(len(events)):
        for whole in (True, False):
            vendor.meet(stream(events[:at], whole=whole))
            heard = Heard()
            found = await sent(provider, api, heard)
            assert type(found) is MaybeSent, (at, found)
            assert found.error_code == "truncated"
            assert TEXT.startswith(heard.text)
    await provider.aclose()


@APIS
async def test_a_stream_that_is_cut_at_any_byte_is_no_reply(vendor: RawVendor, api: str) -> None:
    events, provider, dice = events_of(api), vendor.provider(api), random.Random(api)
    whole = b"".join(events)
    for _ in range(60):
        at = dice.randrange(len(whole) - len(events[-1]))
        vendor.meet(stream([whole[:at]], whole=dice.random() < 0.5))
        heard = Heard()
        found = await sent(provider, api, heard)
        assert type(found) is MaybeSent, (at, found)
        assert TEXT.startswith(heard.text)
    await provider.aclose()


@APIS
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
async def test_the_borders_of_chunks_and_the_ends_of_lines_make_no_difference(
    vendor: RawVendor, api: str, end: bytes
) -> None:
    dice, provider = random.Random(api), vendor.provider(api)
    wire = b"\xef\xbb\xbf: ping\n\n" + b": ping\nid: 7\n".join(events_of(api))
    wire = wire.replace(b"\n", end)
    for _ in range(10):
        places = sorted(dice.randrange(len(wire)) for _ in range(dice.randrange(1, 200)))
        pieces = [wire[a:b] for a, b in zip([0, *places], [*places, len(wire)], strict=True)]
        vendor.meet(stream(pieces))
        heard = Heard()
        found = await sent(provider, api, heard)
        assert isinstance(found, Done)
        assert found.text == heard.text == TEXT
    await provider.aclose()


@APIS
async def test_an_error_inside_means_what_it_means_at_once(vendor: RawVendor, api: str) -> None:
    events, provider = events_of(api), vendor.provider(api)
    for at in range(len(events)):
        for kind, meaning in (
            ("overloaded_error", Overloaded),
            ("rate_limit_error", RateLimited),
            ("insufficient_quota", Rejected),
            ("api_error", MaybeSent),
            ("invalid_request_error", Rejected),
        ):
            error = {"type": kind, "code": kind, "message": "No."}
            event = {"error": error} if api == "chat" else {"type": "error", "error": error}
            vendor.meet(stream([*events[:at], streams.written(event), *events[at:]]))
            heard = Heard()
            found = await sent(provider, api, heard)
            assert type(found) is meaning, (at, kind, found)
            assert TEXT.startswith(heard.text)
            assert "No." in found.detail
            assert "No." not in str(found)
    await provider.aclose()


@APIS
async def test_after_an_event_that_cannot_be_read_the_text_is_whole_or_there_is_none(
    vendor: RawVendor, api: str
) -> None:
    events, provider = events_of(api), vendor.provider(api)
    for at in range(len(events)):
        for garbage in (b"data: {\n\n", b"data: [1]\n\n", b"data: \xff\xfe\n\n", b"data: 7 {}\n\n"):
            for left_out in (0, 1):
                vendor.meet(stream([*events[:at], garbage, *events[at + left_out :]]))
                heard = Heard()
                found = await sent(provider, api, heard)
                if isinstance(found, Done):
                    assert api == "responses"  # its last event holds the whole
                    assert found.text == heard.text == TEXT
                else:
                    assert isinstance(found, Rejected | MaybeSent), found
                    assert TEXT.startswith(heard.text)
    await provider.aclose()


@APIS
async def test_a_stream_that_stalls_ends_with_its_time(vendor: RawVendor, api: str) -> None:
    events = events_of(api)
    for at in (0, 4, len(events) - 1):
        wire = stream(events[:at], whole=False, stall=True)
        found, heard = await told(vendor, api, wire, settings={"timeout": 0.15})
        assert type(found) is MaybeSent
        assert found.error_code == "timeout"
        assert TEXT.startswith(heard.text)


@APIS
async def test_a_stream_that_says_nothing_for_long_ends(
    vendor: RawVendor, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor_http, "SILENCE", timedelta(seconds=0.1))
    found, _ = await told(vendor, api, stream(events_of(api)[:5], whole=False, stall=True))
    assert type(found) is MaybeSent
    assert found.error_code == "timeout"


@APIS
async def test_ten_thousand_pieces_at_once_are_a_reply_like_any_other(
    vendor: RawVendor, api: str
) -> None:
    text = "".join(random.Random(1).choices("ab ü🏔\n", k=10_000))
    found, heard = await told(vendor, api, stream([b"".join(events_of(api, text, size=1))]))
    assert isinstance(found, Done)
    assert found.text == heard.text == text


@APIS
@pytest.mark.parametrize("packing", ["gzip", "deflate"])
async def test_a_stream_may_be_packed(vendor: RawVendor, api: str, packing: str) -> None:
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS if packing == "gzip" else zlib.MAX_WBITS)
    pieces = []
    for event in events_of(api):
        pieces += [packer.compress(event), packer.flush(zlib.Z_SYNC_FLUSH)]
    pieces.append(packer.flush())
    wire = stream(pieces, headers={"Content-Encoding": packing})
    found, heard = await told(vendor, api, wire)
    assert isinstance(found, Done)
    assert found.text == heard.text == TEXT
    cut = stream(pieces[:9], headers={"Content-Encoding": packing})
    found, _ = await told(vendor, api, cut)
    assert (type(found), found.error_code) == (MaybeSent, "truncated")


@APIS
async def test_what_is_small_when_packed_is_bounded_all_the_same(
    vendor: RawVendor, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNMILL_MAX_REPLY_BYTES", "65536")
    wire = gzip.compress(b"".join(events_of(api)[:3]) + b"data: " + b"x" * 10_000_000)
    found, _ = await told(vendor, api, stream([wire], headers={"Content-Encoding": "gzip"}))
    assert (type(found), found.error_code) == (Rejected, "reply_too_large")


@APIS
async def test_a_reply_that_grows_beyond_its_bound_is_too_large(
    vendor: RawVendor, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNMILL_MAX_REPLY_BYTES", "65536")
    fits, _ = await told(vendor, api, stream(events_of(api, "x" * 20_000, size=20)))
    assert isinstance(fits, Done)
    found, _ = await told(vendor, api, stream(events_of(api, "x" * 70_000, size=1_000)))
    assert (type(found), found.error_code) == (Rejected, "reply_too_large")


@APIS
@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", ""])
async def test_a_server_that_streams_nothing_is_read_as_it_answers(
    vendor: RawVendor, api: str, content_type: str
) -> None:
    wire = http(PAYLOADS[api], headers={"Content-Type": content_type})
    found, heard = await told(vendor, api, wire)
    assert isinstance(found, Done)
    assert heard.pieces == [found.text] == ["Paris"]
    cut = http(PAYLOADS[api], headers={"Content-Type": content_type}, missing=20)
    found, heard = await told(vendor, api, cut)
    assert (type(found), heard.pieces) == (MaybeSent, [])


@APIS
async def test_a_page_where_a_stream_was_asked_for_is_no_reply(vendor: RawVendor, api: str) -> None:
    found, _ = await told(
        vendor, api, http(b"<html>Hi</html>", headers={"Content-Type": "text/html"})
    )
    assert (type(found), found.error_code) == (Rejected, "unreadable_reply")


@APIS
async def test_an_emit_that_breaks_does_not_break_the_answer(
    vendor: RawVendor, api: str, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    async def emit(piece: str) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError(piece)

    vendor.meet(stream(events_of(api)))
    provider = vendor.provider(api)
    found = await provider.send(a_request(settings=SETTINGS[api]), emit)
    await provider.aclose()
    assert isinstance(found, Done)
    assert found.text == TEXT
    assert calls == 1
    assert "RuntimeError" in caplog.text
    assert "rich" not in caplog.text


@APIS
async def test_an_emit_that_is_slow_hears_everything(vendor: RawVendor, api: str) -> None:
    heard: list[str] = []

    async def emit(piece: str) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        heard.append(piece)

    vendor.meet(stream(events_of(api)))
    provider = vendor.provider(api)
    found = await provider.send(a_request(settings=SETTINGS[api]), emit)
    await provider.aclose()
    assert isinstance(found, Done)
    assert "".join(heard) == TEXT


@APIS
async def test_a_call_that_is_cancelled_hangs_up_at_once(vendor: RawVendor, api: str) -> None:
    vendor.meet(stream(events_of(api)[:5], whole=False, stall=True))
    provider = vendor.provider(api)
    call = asyncio.create_task(sent(provider, api, Heard()))
    await asyncio.wait_for(vendor.stalled.wait(), 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(vendor.left.wait(), 1)
    await provider.aclose()


@APIS
async def test_an_event_behind_the_last_one_changes_nothing_and_nobody_waits_for_it(
    vendor: RawVendor, api: str
) -> None:
    more = [*events_of(api), streams.written(streams.ERRORS[api])]
    found, heard = await told(vendor, api, stream(more, whole=False, stall=True))
    assert isinstance(found, Done)
    assert found.text == heard.text == TEXT


@APIS
async def test_no_error_of_a_stream_chains_what_the_vendor_said(
    vendor: RawVendor, api: str
) -> None:
    error = streams.written(streams.ERRORS[api])
    for wire in (
        stream(events_of(api)[:5], whole=False),
        stream([error]),
        stream([b"data: {\n\n"]),
    ):
        found, _ = await told(vendor, api, wire)
        assert isinstance(found, ProviderError)
        assert (found.__cause__, found.__context__) == (None, None)


async def test_a_call_whose_arguments_are_cut_is_no_reply(vendor: RawVendor) -> None:
    payload = json.loads(json.dumps(PAYLOADS["messages"]))
    payload["content"].append({"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1, 2]}})
    payload["stop_reason"] = "tool_use"
    events = [streams.written(one) for one in streams.message_events(payload)]
    found, _ = await told(vendor, "messages", stream(events))
    assert isinstance(found, Done)
    places = [at for at, one in enumerate(events) if b"partial_json" in one]
    cut = [one for at, one in enumerate(events) if at != places[-1]]
    found, _ = await told(vendor, "messages", stream(cut))
    assert (type(found), found.error_code) == (Rejected, "unreadable_reply")
    assert used_by(found) is not None


@APIS
async def test_a_stream_that_makes_up_no_reply_was_counted_all_the_same(
    vendor: RawVendor, api: str
) -> None:
    whole, _ = await told(vendor, api, stream(events_of(api)))
    assert isinstance(whole, Done)
    first, second, *others = events_of(api)
    spoilt = [first, second, b"data: {\n\n"]
    if api == "responses":  # its last event holds the whole, which does not begin so
        spoilt.insert(1, b'data: {"type": "response.output_text.delta", "delta": "No"}\n\n')
    found, _ = await told(vendor, api, stream([*spoilt, *others]))
    assert isinstance(found, ProviderError)
    assert found.error_code == "unreadable_reply"
    used = used_by(found)
    assert used is not None
    assert used.usage == whole.usage


async def test_a_limit_of_spending_in_a_stream_is_refused_for_good(vendor: RawVendor) -> None:
    error = {
        "type": "rate_limit_error",
        "message": "No.",
        "details": {"error_code": "enforced_spend_limit_reached"},
    }
    wire = stream([streams.written({"type": "error", "error": error})])
    found, _ = await told(vendor, "messages", wire)
    assert (type(found), found.error_code) == (Rejected, "enforced_spend_limit_reached")
