"""What is attached, at both vendors: byte for byte, by the name of a copy, or refused before."""

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.attachments import APIS, PDF, WAV, Held, a_png, size_of
from tests.contract.rigs import a_request
from tests.doubles import anthropic_server, openai_server
from tests.doubles.raw_vendor import RawVendor, http, stream
from turnmill.domain.content import File, Image, Message, Part, Text
from turnmill.domain.errors import ContextFull, NotSent, ProviderError, Rejected, ThreadLost
from turnmill.domain.uploads import FILE_LOST, IN_FLIGHT, new_name
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Done, Request
from turnmill_worker.providers.scaling import Scaling

pytestmark = pytest.mark.anyio

MB = 2**20
AnyProvider = AnthropicProvider | OpenAIProvider
AnyDouble = anthropic_server.AnthropicDouble | openai_server.OpenAIDouble
all_apis = pytest.mark.parametrize("api", APIS)


@asynccontextmanager
async def asking(api: str) -> AsyncIterator[tuple[AnyProvider, AnyDouble]]:
    if api == "messages":
        async with anthropic_server.AnthropicDouble() as double:
            sdk = AsyncAnthropic(api_key=anthropic_server.KEY, base_url=double.base_url)
            provider = AnthropicProvider(sdk)
            yield provider, double
            await provider.aclose()
    else:
        async with openai_server.OpenAIDouble() as vendor:
            sdk_ = AsyncOpenAI(api_key=openai_server.KEY, base_url=vendor.base_url)
            other = OpenAIProvider(sdk_)
            yield other, vendor
            await other.aclose()


def saying(api: str, held: Held, *parts: Part, **given: Any) -> Request:
    settings = {**APIS[api], **given.pop("settings", {})}
    said = [Message("user", (Text("What is this?"), *parts))]
    return a_request(messages=said, files=held, settings=settings, **given)


async def named(provider: AnyProvider, request: Request) -> Request:
    """Return the request with the names of what the provider wants to be uploaded."""
    refs = {}
    for part in provider.uploads(request):
        done = await provider.upload(request, part, name=new_name(datetime.now(UTC)))
        refs[part.id] = done.ref
    return replace(request, uploaded=refs)


def bytes_in(body: Any) -> list[bytes]:
    """Return what stands in a body in base64, wherever that is."""
    found: list[bytes] = []
    if isinstance(body, dict):
        for name, one in body.items():
            if name in ("data", "file_data", "image_url", "url") and isinstance(one, str):
                found.append(b64decode(one.rpartition(",")[2]))
            else:
                found += bytes_in(one)
    elif isinstance(body, list):
        for one in body:
            found += bytes_in(one)
    return found


async def refused(provider: AnyProvider, request: Request) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await provider.send(request)
    return caught.value


@all_apis
async def test_pictures_and_documents_arrive_byte_for_byte(api: str) -> None:
    held = Held()
    cat, dog = held.image(a_png(40, 30)), held.image(a_png(7, 9, filler=100_001), "dog")
    paper = held.file(PDF + bytes(range(256)) * 1000)
    async with asking(api) as (provider, double):
        answer = await provider.send(saying(api, held, cat, dog, Text(" And "), paper))
    assert isinstance(answer, Done)
    assert bytes_in(double.last.body) == [held.files[one] for one in ("cat", "dog", "paper")]


@all_apis
async def test_a_text_arrives_as_it_is_whatever_is_in_it(api: str) -> None:
    held = Held(chunk=7)
    words = '\ufeff"Quoted" \\ back,\nlines\tand \u0000-less \x01 signs: ä 𝄞 </script>'.replace(
        "\u0000", ""
    )
    paper = held.file((words * 999).encode(), "text/markdown")
    async with asking(api) as (provider, double):
        await provider.send(saying(api, held, paper))
    wanted = (words * 999).removeprefix("\ufeff")
    if found := bytes_in({"input": double.last.body.get("input")}):
        assert found == [(words * 999).encode()]
    else:
        blocks = double.last.body["messages"][-1]["content"]
        said = [one.get("text") or one["source"]["data"] for one in blocks]
        assert said[-1] == wanted


@all_apis
async def test_how_closely_a_model_looks_is_said_to_those_who_ask(api: str) -> None:
    held = Held()
    async with asking(api) as (provider, double):
        await provider.send(saying(api, held, held.image(a_png(), detail="low")))
    assert ('"detail": "low"' in json.dumps(double.last.body)) == (api != "messages")


@pytest.mark.parametrize("api", ["messages", "chain", "client"])
async def test_what_was_uploaded_is_named_and_its_bytes_stay_where_they_are(api: str) -> None:
    held = Held()
    parts = (held.image(a_png()), held.file(PDF), held.file(b"Words", "text/csv", "words"))
    async with asking(api) as (provider, double):
        request = await named(provider, saying(api, held, *parts, settings={"uploads": "always"}))
        assert sorted(request.uploaded) == ["cat", "paper", "words"]
        held.read_ids.clear()
        await provider.send(request)
        kept = double.files.kept
    assert (held.read_ids, bytes_in(double.last.body)) == ([], [])
    assert [one.said for one in kept.values()] == [held.files[part.id] for part in parts]
    assert all(one.expires_at for one in kept.values())
    assert not any("cat" in one.filename or "paper" in one.filename for one in kept.values())


async def test_a_chat_names_documents_alone() -> None:
    held = Held()
    parts = (held.image(a_png()), held.file(PDF), held.file(b"Words", "text/plain", "words"))
    async with asking("chat") as (provider, double):
        request = saying("chat", held, *parts, settings={"uploads": "always"})
        request = await named(provider, request)
        await provider.send(request)
    assert [*request.uploaded] == ["paper"]
    assert bytes_in(double.last.body) == [held.files["cat"]]


@pytest.mark.parametrize(
    ("api", "size", "single", "settings", "uploaded"),
    [
        ("messages", 1 * MB, False, {}, True),
        ("messages", 1 * MB - 200, False, {}, False),
        ("messages", 5 * MB, True, {}, False),  # nothing follows it
        ("messages", 5 * MB, False, {"uploads": "never"}, False),
        ("messages", 23 * MB, True, {}, True),  # with base64 there is no room for it
        ("chain", 8 * MB, False, {}, True),
        ("chain", 7 * MB, False, {}, False),
        ("client", 20 * MB, False, {}, False),  # the vendor is to keep nothing
        ("chat", 20 * MB, False, {}, False),
        ("client", 1, False, {"uploads": "always"}, True),
    ],
)
async def test_what_is_uploaded_follows_from_size_and_thread(
    api: str, size: int, single: bool, settings: dict[str, Any], uploaded: bool
) -> None:
    held = Held()
    paper = held.file(PDF + bytes(size - min(size, len(PDF))))
    async with asking(api) as (provider, _):
        request = saying(api, held, paper, settings=settings, is_single=single)
        assert [one.id for one in provider.uploads(request)] == (["paper"] if uploaded else [])


async def test_where_all_is_too_much_the_largest_are_uploaded() -> None:
    held = Held()
    sizes = {"a": 900_000, "b": 1_000_000, "c": 10}
    parts = [
        held.file(PDF + bytes(size), name=f"{name}{n}")
        for n in range(20)
        for name, size in sizes.items()
    ]
    async with asking("messages") as (provider, _):
        chosen = provider.uploads(saying("messages", held, *parts))
    assert {one.id[0] for one in chosen} <= {"a", "b"}
    assert 0 < len(chosen) < 40
    left = sum(one.size for one in parts if one not in chosen)
    assert left * 4 / 3 < 31 * MB


@pytest.mark.parametrize("api", ["messages", "chain", "client"])
async def test_a_file_that_the_vendor_has_not_got_any_more_is_told_as_lost(api: str) -> None:
    held = Held()
    async with asking(api) as (provider, double):
        request = saying(api, held, held.file(PDF), settings={"uploads": "always"})
        request = await named(provider, request)
        double.files.expire()
        error = await refused(provider, request)
        assert (type(error), error.error_code) == (NotSent, FILE_LOST)
        await provider.send(await named(provider, request))


@pytest.mark.parametrize(
    ("api", "answer"),
    [
        ("messages", (404, {"type": "not_found_error", "details": {"error_code": "file_expired"}})),
        ("responses", (400, {"code": "image_file_not_found", "message": "Gone."})),
        ("responses", (200, {"code": "image_file_not_found", "message": "Gone."})),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_loss_that_is_told_by_its_code_alone_is_told_as_one_wherever_it_stands(
    api: str, answer: tuple[int, dict[str, Any]], streamed: bool
) -> None:
    async def emit(piece: str) -> None: ...

    status, error = answer
    held = Held()
    request = saying("chain" if api == "responses" else api, held, held.file(PDF))
    request = replace(request, uploaded={"paper": "file-1"})
    ended = {"id": "resp_1", "status": "failed", "error": error}
    told = ended if status == 200 else {"type": "error", "error": error}
    async with RawVendor() as vendor:
        if streamed and status == 200:
            event = json.dumps({"type": "response.failed", "response": ended})
            vendor.meet(stream([f"data: {event}\n\n".encode()]))
        else:
            vendor.meet(http(told, status=status))
        provider = vendor.provider(api)
        with pytest.raises(NotSent) as caught:
            await provider.send(request, emit if streamed else None)
        assert caught.value.error_code == FILE_LOST
        assert caught.value.kept == (("resp_1",) if status == 200 else ())
        await provider.aclose()


@pytest.mark.parametrize("api", ["messages", "chain"])
async def test_a_file_that_only_a_chain_names_is_lost_with_the_chain(api: str) -> None:
    held = Held()
    settings = {"uploads": "always", "thread": "chain"}
    async with asking(api) as (provider, double):
        request = saying(api, held, held.file(PDF), settings=settings)
        first = await provider.send(await named(provider, request))
        assert isinstance(first, Done)
        double.files.expire()
        later = a_request(
            "And now?", model=request.model, settings=settings, thread_ref=first.thread_ref
        )
        assert isinstance(await refused(provider, later), ThreadLost)


@pytest.mark.parametrize("api", ["messages", "chain"])
async def test_a_copy_is_deleted_and_one_that_is_gone_counts_as_that(api: str) -> None:
    held = Held()
    async with asking(api) as (provider, double):
        request = saying(api, held, held.file(PDF), settings={"uploads": "always"})
        (ref,) = (await named(provider, request)).uploaded.values()
        for _ in range(2):
            await provider.close(ref)
        assert not double.files.kept


@pytest.mark.parametrize("api", ["messages", "chain"])
async def test_an_upload_of_which_nobody_knows_the_end_is_found_by_its_name(api: str) -> None:
    held = Held()
    mine, others = (new_name(datetime.now(UTC)) for _ in range(2))
    async with asking(api) as (provider, double):
        request = saying(api, held, held.file(PDF))
        (part,) = [one for one in request.messages[0].parts if isinstance(one, File)]
        for name in (mine, others, mine):
            await provider.upload(request, part, name=name)
        await provider.close(IN_FLIGHT + mine)
        (left,) = double.files.kept.values()
    assert left.filename == f"{others}.pdf"


@pytest.mark.parametrize("api", ["messages", "chain"])
async def test_an_upload_that_may_still_arrive_is_looked_for_again(api: str) -> None:
    async with asking(api) as (provider, _):
        with pytest.raises(NotSent, match="upload_pending"):
            await provider.close(IN_FLIGHT + new_name(datetime.now(UTC)))
        await provider.close(IN_FLIGHT + new_name(datetime.now(UTC) - timedelta(hours=1)))


async def test_a_server_without_files_is_sent_all_along_from_then_on() -> None:
    held = Held()
    async with asking("messages") as (provider, double):
        double.keeps_files = False
        request = saying("messages", held, held.file(PDF), settings={"uploads": "always"})
        with pytest.raises(Rejected, match="uploads_unsupported"):
            await named(provider, request)
        assert [*provider.uploads(request)] == []


@pytest.mark.parametrize(
    ("api", "part", "code"),
    [
        ("messages", ("image/bmp", Image), "unsupported_part"),
        ("chain", ("image/tiff", Image), "unsupported_part"),
        ("chat", ("application/zip", File), "unsupported_part"),
        ("chain", ("application/msword", File), "unsupported_part"),
        ("messages", ("audio/wav", None), "unsupported_part"),
        ("chain", ("audio/wav", None), "unsupported_part"),
        ("chat", ("audio/ogg", None), "unsupported_part"),
    ],
)
async def test_a_type_that_a_vendor_does_not_take_is_refused_before_it_is_asked(
    api: str, part: tuple[str, Any], code: str
) -> None:
    held = Held()
    media_type, kind = part
    given: Part = held.audio(WAV, media_type)
    if kind is not None:
        paper = held.file(PDF, media_type)
        given = kind(id=paper.id, media_type=media_type, size=paper.size)
    async with asking(api) as (provider, double):
        error = await refused(provider, saying(api, held, given))
        assert not double.calls
    assert (type(error), error.error_code) == (Rejected, code)


async def test_a_chat_takes_sounds() -> None:
    held = Held()
    async with asking("chat") as (provider, double):
        await provider.send(saying("chat", held, held.audio()))
    assert bytes_in(double.last.body) == [WAV]


@pytest.mark.parametrize(
    ("width", "height", "filler", "count", "code"),
    [
        (8001, 10, 0, 1, "picture_too_large"),
        (10, 10, 8 * MB, 1, "picture_too_large"),
        (2001, 10, 0, 21, "picture_too_large"),
        (10, 10, 0, 601, "attachments_too_large"),
    ],
)
async def test_pictures_beyond_the_vendors_bounds_are_refused_before_it_is_asked(
    width: int, height: int, filler: int, count: int, code: str
) -> None:
    held = Held()
    said = a_png(width, height, filler=filler)
    parts = [held.image(said, f"p{n}") for n in range(count)]
    async with asking("messages") as (provider, double):
        error = await refused(provider, saying("messages", held, *parts))
        assert not double.calls
    assert (error.error_code, bool(error.hint)) == (code, True)


async def test_what_the_history_is_to_blame_for_is_a_conversation_that_is_too_long() -> None:
    held = Held()
    before = [Message("user", [held.file(PDF + bytes(4 * MB), name=f"p{n}")]) for n in range(9)]
    async with asking("messages") as (provider, _):
        request = saying("messages", held, history=before, settings={"uploads": "never"})
        assert isinstance(await refused(provider, request), ContextFull)


@pytest.mark.parametrize("api", ["messages", "client"])
async def test_pictures_are_made_smaller_where_a_session_asks_for_it(api: str) -> None:
    held = Held()
    large, small = held.image(a_png(9000, 3000)), held.image(a_png(20, 10), "small")
    async with asking(api) as (provider, double):
        request = saying(api, held, large, small)
        bounds = provider.picture_bounds(request)
        request = await Scaling().fitted(request, bounds)
        await provider.send(request)
    first, second = bytes_in(double.last.body)
    width, height = size_of(first)
    assert (width, abs(height - width / 3) < 1) == (bounds.side_seen, True)
    assert second == held.files["small"]
