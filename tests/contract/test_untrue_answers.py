"""A 2xx in which an error stands, or nothing: what it says is done was not, and none is lost."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.attachments import WAV, Held
from tests.contract.rigs import a_request
from tests.doubles import streams
from tests.doubles.raw_vendor import SETTINGS, RawVendor, http, stream
from turnmill.domain.content import Audio, Message, Native, Text, ToolCall
from turnmill.domain.errors import MaybeSent, NotSent, ProviderError, RateLimited, Rejected
from turnmill_worker.providers.batch_port import Answered, VendorBatch
from turnmill_worker.providers.openai.audio import OpenAISpeaker, OpenAITranscriber
from turnmill_worker.providers.port import Done
from turnmill_worker.providers.voice_port import Sound

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
#: What proxies answer with a 200.
BUSY = {"error": {"code": 429, "message": "Slow down."}}
BROKEN = {"type": "error", "error": {"type": "api_error", "message": "It broke."}}
NOT_THERE = {"error": {"type": "not_found_error", "message": "No such thing."}}


def batch(*outputs: str) -> VendorBatch:
    return VendorBatch(ref="batch_1", status="ended", is_over=True, outputs=outputs)


async def found(provider: Any) -> list[VendorBatch]:
    listed: list[VendorBatch] = await provider.batches.find("mark", stored="file-1", within=DAY)
    return listed


#: What is deleted, or asked for in lists, by the API that it belongs to.
DELETIONS: Mapping[str, tuple[str, Callable[[Any], Awaitable[Any]]]] = {
    "a response": ("responses", lambda one: one.close("resp_1")),
    "a file of OpenAI's": ("responses", lambda one: one.close("file-1")),
    "a file of Anthropic's": ("messages", lambda one: one.close("file_1")),
    "files of a batch": ("responses", lambda one: one.batches.clear(None, stored=["file-1"])),
    "a batch": ("messages", lambda one: one.batches.clear(batch(), stored=[])),
}
LISTS: Mapping[str, tuple[str, Callable[[Any], Awaitable[Any]]]] = {
    "items of a conversation": ("responses", lambda one: one.close("conv_1")),
    "a conversation": ("responses", lambda one: one.read_thread("conv_1")),
    "batches of OpenAI's": ("responses", found),
    "batches of Anthropic's": ("messages", found),
    "files of a name": ("responses", lambda one: one.batches.stored("a.jsonl", within=DAY)),
    "one batch": ("responses", lambda one: one.batches.look("batch_1")),
    "a count": ("messages", lambda one: one.count(a_request())),
}


@pytest.fixture
async def vendor() -> AsyncIterator[RawVendor]:
    async with RawVendor() as vendor:
        yield vendor


async def outcome(
    vendor: RawVendor, body: bytes | dict[str, Any], api: str, act: Callable[[Any], Awaitable[Any]]
) -> Any:
    """Return what comes of it at a vendor that answers everything in this way."""
    provider = vendor.provider(api)
    vendor.meet(http(body))
    try:
        return await act(provider)
    except ProviderError as error:
        return type(error)
    finally:
        await provider.aclose()


@pytest.mark.parametrize(("api", "act"), DELETIONS.values(), ids=DELETIONS)
async def test_what_is_not_deleted_is_not_taken_for_gone(
    vendor: RawVendor, api: str, act: Callable[[Any], Awaitable[Any]]
) -> None:
    assert await outcome(vendor, BUSY, api, act) is RateLimited
    assert await outcome(vendor, BROKEN, api, act) is MaybeSent
    assert await outcome(vendor, {"id": "x", "deleted": False}, api, act) is NotSent
    for done in (NOT_THERE, {"id": "x", "deleted": True}, {"id": "x"}, b"", b"[]", b"<html>"):
        assert await outcome(vendor, done, api, act) is None


@pytest.mark.parametrize(("api", "act"), LISTS.values(), ids=LISTS)
async def test_an_error_is_not_taken_for_an_empty_list(
    vendor: RawVendor, api: str, act: Callable[[Any], Awaitable[Any]]
) -> None:
    assert await outcome(vendor, BUSY, api, act) is RateLimited
    assert await outcome(vendor, BROKEN, api, act) is MaybeSent
    assert await outcome(vendor, {"object": "nothing that is known"}, api, act) is Rejected


async def test_work_is_not_taken_for_stopped_where_an_error_is_answered(vendor: RawVendor) -> None:
    async def stop(provider: Any) -> Any:
        return await provider.cancel("resp_1")

    assert await outcome(vendor, BUSY, "responses", stop) is RateLimited
    assert await outcome(vendor, BROKEN, "responses", stop) is MaybeSent
    failed = {"id": "resp_1", "status": "failed", "error": {"code": "server_error"}}
    for ended in (failed, {"id": "resp_1", "status": "cancelled", "error": None}):
        assert await outcome(vendor, ended, "responses", stop) is None


@pytest.mark.parametrize("model", ["tts-1", "gpt-4o-mini-tts"])
@pytest.mark.parametrize("spoken_before", [0, 1])
async def test_an_error_is_not_taken_for_a_sound(
    vendor: RawVendor, monkeypatch: pytest.MonkeyPatch, model: str, spoken_before: int
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", vendor.url)
    speaker, heard = OpenAISpeaker.from_env(), bytearray()
    request = replace(a_request(), model=model)
    sound = {"type": "speech.audio.delta", "audio": "AAAA"}
    if model == "tts-1":
        spoken = http(b"sound", headers={"Content-Type": "audio/mpeg"})
    else:
        ended = {"type": "speech.audio.done", "usage": {"input_tokens": 1, "output_tokens": 1}}
        spoken = stream([streams.written(one) for one in (sound, ended)])

    async def keep(chunks: AsyncIterator[bytes], media_type: str) -> Audio:
        async for chunk in chunks:
            heard.extend(chunk)
        return Audio(id="a")

    for said, kind in ((BUSY, RateLimited), (BROKEN, MaybeSent), ({"ok": True}, Rejected)):
        heard.clear()
        vendor.meet(*[spoken] * spoken_before, http(said))
        with pytest.raises(kind):
            await speaker.speak(request, "Hello. " * 600 * (spoken_before + 1), keep)
        assert b"{" not in heard
    await speaker.aclose()


async def test_an_error_is_not_taken_for_words_or_a_file(
    vendor: RawVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", vendor.url)
    transcriber, held = OpenAITranscriber.from_env(), Held()

    async def chunks() -> AsyncIterator[bytes]:
        yield WAV

    sound = Sound(media_type="audio/wav", size=len(WAV), duration=None, chunks=chunks)
    for said, kind in ((BUSY, RateLimited), (BROKEN, MaybeSent)):
        vendor.meet(http(said))
        with pytest.raises(kind):
            await transcriber.transcribe(a_request(), sound)
        for api in ("responses", "messages"):
            provider: Any = vendor.provider(api)
            with pytest.raises(kind):
                await provider.upload(a_request(files=held), held.file(b"%PDF-1.7"), name="a")
            await provider.aclose()
    await transcriber.aclose()


async def test_an_empty_list_is_one_whatever_stands_for_it(vendor: RawVendor) -> None:
    for empty in (b'{"data": []}', b'{"data": null}'):
        assert await outcome(vendor, empty, "responses", found) == []


def a_line(custom_id: str, text: str) -> bytes:
    said = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    body = {"id": "resp_1", "status": "completed", "output": [said]}
    line = {"custom_id": custom_id, "response": {"status_code": 200, "body": body}}
    return json.dumps(line).encode()


async def test_no_line_of_results_is_lost_that_any_other_answer_would_be_read_from(
    vendor: RawVendor,
) -> None:
    lines = [b"\xef\xbb\xbf" + a_line("a", "One"), a_line("b", "Tw\ud83d"), b"", b"nonsense"]
    lines += [
        a_line("c", "Three") + b"\r",
        a_line("d", "Four")[:-1] + b', "n": %b}' % (b"9" * 5000),
    ]
    read: dict[str, str] = {}

    async def take(answered: list[Answered]) -> None:
        read.update({one.custom_id: one.said.text for one in answered if type(one.said) is Done})

    async def act(provider: Any) -> None:
        await provider.batches.read(batch("file-1"), take)

    assert await outcome(vendor, b"\n".join(lines), "responses", act) is None
    assert read == {"a": "One", "b": "Tw\ufffd", "c": "Three", "d": "Four"}


@pytest.mark.parametrize("api", list(SETTINGS))
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
async def test_nothing_is_nothing_however_it_is_said_to_be_packed(
    vendor: RawVendor, api: str, streamed: bool, encoding: str
) -> None:
    async def emit(piece: str) -> None: ...

    provider = vendor.provider(api)
    vendor.meet(http(b"", headers={"Content-Encoding": encoding}))
    with pytest.raises(Rejected) as caught:
        await provider.send(a_request(settings=SETTINGS[api]), emit if streamed else None)
    assert caught.value.error_code == "unreadable_reply"
    await provider.aclose()


@pytest.mark.parametrize("api", list(SETTINGS))
async def test_what_no_json_holds_is_sent_to_nobody(vendor: RawVendor, api: str) -> None:
    call = ToolCall(id="call_1", name="f", arguments='{"a": 1e999}')
    odd = Native(provider="anthropic", api="messages", item='{"type": "text", "n": NaN}')
    history = [Message.of("user", "Hello"), Message("assistant", [call, Text("See."), odd])]
    settings = {**SETTINGS[api], "temperature": float("nan")}
    provider = vendor.provider(api)
    vendor.meet(http({}, status=400))
    with pytest.raises(Rejected):
        await provider.send(a_request(history=history, settings=settings))
    await provider.aclose()
    (body,) = vendor.bodies
    json.dumps(body, allow_nan=False)
    assert body["temperature"] is None
