"""Streams of responses and of chat completions: what Anthropic's have nothing like."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.doubles import streams
from tests.doubles.mutations import PAYLOADS
from tests.doubles.raw_vendor import RawVendor, Wire, http, stream
from tests.doubles.reading_along import TEXT, Heard, events_of, sent, told
from turnmill.domain.content import ToolCall
from turnmill.domain.errors import MaybeSent, RateLimited, Rejected, ThreadLost
from turnmill_worker.providers.port import Done, Running

pytestmark = pytest.mark.anyio


@pytest.fixture
async def vendor() -> AsyncIterator[RawVendor]:
    async with RawVendor() as vendor:
        yield vendor


FAILED = {
    "id": "resp_1",
    "status": "failed",
    "error": {"code": "rate_limit_exceeded", "message": "No."},
    "output": [],
}
CREATED = {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}


def written(*events: Any) -> Wire:
    return stream([streams.written(one) for one in events])


async def test_a_response_that_fails_in_its_stream_failed(vendor: RawVendor) -> None:
    wire = written(CREATED, {"type": "response.failed", "response": FAILED})
    found, _ = await told(vendor, "responses", wire)
    assert type(found) is RateLimited
    assert found.kept == ("resp_1",)


async def test_a_part_that_fails_in_a_stream_is_not_the_response(vendor: RawVendor) -> None:
    part = {"type": "response.mcp_call.failed", "item_id": "mcp_1", "error": {"code": "timeout"}}
    events = [*streams.response_events(json.loads(json.dumps(PAYLOADS["responses"])))]
    found, heard = await told(vendor, "responses", written(*events[:2], part, *events[2:]))
    assert found.text == heard.text == "Paris"
    for error in ({"error": {"code": 429}}, {"type": "response.error", "error": {"code": 429}}):
        found, _ = await told(vendor, "responses", written(CREATED, error))
        assert type(found) is RateLimited


async def test_an_incomplete_response_is_the_reply_that_it_is_at_once(vendor: RawVendor) -> None:
    payload = json.loads(json.dumps(PAYLOADS["responses"]))
    payload |= {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
    wire = written(*streams.response_events(payload, size=2))
    found, heard = await told(vendor, "responses", wire)
    assert (found.text, found.finish_reason) == ("Paris", "content_filter")
    assert heard.text == "Paris"


async def test_a_response_that_was_cut_is_named_so_that_it_is_deleted(vendor: RawVendor) -> None:
    found, _ = await told(vendor, "responses", stream(events_of("responses")[:5], whole=False))
    assert found.kept == ("resp_1",)
    client = {"settings": {"thread": "client"}}
    found, _ = await told(
        vendor, "responses", stream(events_of("responses")[:5], whole=False), **client
    )
    assert found.kept == ()


@pytest.mark.parametrize("wall", ["end", "cut", "error", "garbage"])
async def test_work_in_the_background_outlives_its_stream(vendor: RawVendor, wall: str) -> None:
    events = events_of("responses")[:5]
    endings: dict[str, Sequence[bytes]] = {
        "end": [],
        "cut": [],
        "error": [streams.written(streams.ERRORS["responses"])],
        "garbage": [b"data: {\n\n"],
    }
    wire = stream([*events, *endings[wall]], whole=wall != "cut")
    found, _ = await told(vendor, "responses", wire, settings={"background": True})
    assert isinstance(found, Running)
    assert (found.native_ref, found.kept) == ("resp_1", ("resp_1",))


async def test_work_in_the_background_that_ends_in_its_stream_has_ended(
    vendor: RawVendor,
) -> None:
    background = {"settings": {"background": True}}
    found, heard = await told(vendor, "responses", stream(events_of("responses")), **background)
    assert found.text == heard.text == TEXT
    wire = written(CREATED, {"type": "response.failed", "response": FAILED})
    found, _ = await told(vendor, "responses", wire, **background)
    assert type(found) is RateLimited


async def test_a_stream_of_background_work_without_its_name_may_have_been_executed(
    vendor: RawVendor,
) -> None:
    found, _ = await told(
        vendor, "responses", stream([], whole=False), settings={"background": True}
    )
    assert type(found) is MaybeSent


async def test_background_work_that_is_cancelled_is_named_so_that_it_can_be_stopped(
    vendor: RawVendor,
) -> None:
    vendor.meet(stream(events_of("responses")[:5], whole=False, stall=True))
    provider, settings = vendor.provider("responses"), {"background": True}
    call = asyncio.create_task(sent(provider, "responses", Heard(), settings=settings))
    await asyncio.wait_for(vendor.stalled.wait(), 5)
    call.cancel()
    found = await call
    assert isinstance(found, Running)
    assert found.native_ref == "resp_1"
    await asyncio.wait_for(vendor.left.wait(), 1)
    await provider.aclose()


async def test_a_thread_that_is_lost_within_a_stream_is_lost(vendor: RawVendor) -> None:
    error = {"type": "error", "code": "previous_response_not_found", "message": "No."}
    found, _ = await told(vendor, "responses", written(error), thread_ref="resp_0")
    assert type(found) is ThreadLost


async def test_pieces_of_a_number_that_is_missing_are_told_with_the_whole(
    vendor: RawVendor,
) -> None:
    events = events_of("responses")
    for at in range(2, len(events) - 1):
        found, heard = await told(vendor, "responses", stream([*events[:at], *events[at + 1 :]]))
        assert found.text == heard.text == TEXT


async def test_a_response_that_is_empty_in_the_end_is_made_of_its_items(vendor: RawVendor) -> None:
    *events, last = streams.response_events(PAYLOADS["responses"], size=2)
    emptied = {**last, "response": {**last["response"], "output": []}}
    found, heard = await told(vendor, "responses", written(*events, emptied))
    assert found.text == heard.text == "Paris"


async def test_a_text_that_was_stripped_in_the_end_is_the_one_that_was_read(
    vendor: RawVendor,
) -> None:
    payload = json.loads(json.dumps(PAYLOADS["responses"]))
    payload["output"][2]["content"][0]["text"] = "\n\nParis "
    *events, last = streams.response_events(payload, size=2)
    stripped = {**last, "response": PAYLOADS["responses"]}
    found, heard = await told(vendor, "responses", written(*events, stripped))
    assert found.text == heard.text == "\n\nParis "


def calling(*deltas: tuple[str | None, str | None, str]) -> Wire:
    """Return chunks that call tools by id, name and arguments, each under the same index."""
    chunks: list[Any] = []
    for call_id, name, arguments in deltas:
        function = {"name": name, "arguments": arguments}
        call = {"index": 0, "id": call_id, "type": "function", "function": function}
        chunks.append({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    return written(*chunks, "[DONE]")


ROME, OSLO = '{"city": "Rome"}', '{"city": "Oslo"}'


@pytest.mark.parametrize(
    ("deltas", "called"),
    [
        # each call whole, all of them under one index
        ([("c1", "f", ROME), ("c2", "f", OSLO)], [("f", ROME), ("f", OSLO)]),
        ([("", "f", ROME), ("", "g", OSLO)], [("f", ROME), ("g", OSLO)]),
        ([(None, "f", ROME), (None, "f", OSLO)], [("f", ROME), ("f", OSLO)]),
        # the same in pieces
        (
            [("c1", "f", ""), (None, None, ROME), ("c2", "g", ""), (None, None, OSLO)],
            [("f", ROME), ("g", OSLO)],
        ),
        # one call, whose id or name is said with each piece, or is another one each time
        ([("c1", "f", '{"city":'), ("c1", "f", ' "Rome"}')], [("f", ROME)]),
        ([("c1", "f", '{"city":'), ("c2", "f", ' "Rome"}')], [("f", ROME)]),
        ([("c1", "f", ROME), ("c1", "f", ""), (None, None, "")], [("f", ROME)]),
        ([("c1", "f", ROME), ("c2", None, ""), ("", "f", "")], [("f", ROME)]),
        ([("c1", "f", '{"a": {}'), ("c1", "f", "}")], [("f", '{"a": {}}')]),
    ],
)
async def test_calls_that_a_server_gives_one_index_are_as_many_as_it_has_begun(
    vendor: RawVendor,
    deltas: list[tuple[str | None, str | None, str]],
    called: list[tuple[str, str]],
) -> None:
    found, _ = await told(vendor, "chat", calling(*deltas))
    calls = [one for one in found.parts if isinstance(one, ToolCall)]
    assert [(one.name, one.arguments) for one in calls] == called
    assert len({one.id for one in calls}) == len(calls)


async def test_a_refusal_is_told_as_the_reply_that_it_is(vendor: RawVendor) -> None:
    payload = json.loads(json.dumps(PAYLOADS["responses"]))
    refusal = {"type": "refusal", "refusal": "I cannot."}
    payload["output"][2]["content"] = [refusal]
    wire = written(*streams.response_events(payload, size=2))
    found, heard = await told(vendor, "responses", wire)
    assert (found.text, found.finish_reason) == ("I cannot.", "refusal")
    assert heard.text == "I cannot."
    payload["output"][2]["content"] = [refusal, {"type": "output_text", "text": "Or can I?"}]
    wire = written(*streams.response_events(payload, size=2))
    found, heard = await told(vendor, "responses", wire)
    assert heard.text == found.text == "Or can I?"


NO_OPTIONS = http(
    {"error": {"message": "Unknown parameter", "param": "stream_options", "code": "unknown"}},
    status=400,
)
NO_OPTIONS_IN_WORDS = http({"detail": [{"loc": ["body", "stream_options"]}]}, status=422)
NO_STREAM = http(
    {"error": {"message": "Verify", "param": "stream", "code": "unsupported_value"}}, status=400
)


@pytest.mark.parametrize("refusal", [NO_OPTIONS, NO_OPTIONS_IN_WORDS])
async def test_a_server_that_knows_no_stream_options_is_asked_without_them_from_then_on(
    vendor: RawVendor, refusal: Wire
) -> None:
    vendor.meet(refusal, stream(events_of("chat")))
    provider = vendor.provider("chat")
    for _ in range(2):
        heard = Heard()
        found = await sent(provider, "chat", heard)
        assert isinstance(found, Done)
        assert heard.text == TEXT
    await provider.aclose()
    assert ["stream_options" in body for body in vendor.bodies] == [True, False, False]


@pytest.mark.parametrize("api", ["responses", "chat"])
async def test_a_model_that_may_not_be_streamed_is_asked_for_the_whole(
    vendor: RawVendor, api: str
) -> None:
    vendor.meet(NO_STREAM, http(PAYLOADS[api]))
    provider = vendor.provider(api)
    for _ in range(2):
        heard = Heard()
        found = await sent(provider, api, heard)
        assert isinstance(found, Done)
        assert heard.pieces == ["Paris"]
    await provider.aclose()
    assert ["stream" in body for body in vendor.bodies] == [True, False, False]


async def test_a_refusal_that_only_quotes_the_word_is_asked_once_more_and_not_remembered(
    vendor: RawVendor,
) -> None:
    refusal = http({"error": {"message": "Bad: stream_options are great"}}, status=400)
    vendor.meet(refusal, refusal, stream(events_of("chat")))
    provider = vendor.provider("chat")
    assert type(await sent(provider, "chat", Heard())) is Rejected
    assert isinstance(await sent(provider, "chat", Heard()), Done)
    await provider.aclose()
    assert ["stream_options" in body for body in vendor.bodies] == [True, False, True]
