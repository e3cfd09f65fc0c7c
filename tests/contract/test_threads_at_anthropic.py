"""Message threads: what is new goes to the vendor, and all of it where it holds that no more."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from tests.contract.rigs import a_history, a_request
from tests.contract.test_tools_at_vendors import FOUND, SEARCH, a_message
from tests.doubles.anthropic_server import KEY, AnthropicDouble
from tests.doubles.message_threads import BETA
from tests.doubles.raw_vendor import RawVendor, http
from turnmill.domain.content import Message, ToolCall, ToolOutput
from turnmill.domain.errors import Rejected, ThreadLost
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.parameters import KEPT_ELSEWHERE
from turnmill_worker.providers.port import Done, Request, ToolOffer

pytestmark = pytest.mark.anyio

CHAIN: dict[str, Any] = {"thread": "chain"}
TOOLS = (ToolOffer(name="f"), ToolOffer(name="g"))


def asking(text: str, **given: Any) -> Request:
    settings = {**CHAIN, **given.pop("settings", {})}
    return a_request(text, settings=settings, system_prompt="Be brief.", **given)


async def answered(provider: AnthropicProvider, request: Request) -> Done:
    reply = await provider.send(request)
    assert isinstance(reply, Done)
    return reply


async def lost(provider: AnthropicProvider, request: Request) -> str:
    with pytest.raises(ThreadLost) as caught:
        await provider.send(request)
    return caught.value.error_code


def marks_in(body: Any) -> int:
    if isinstance(body, dict):
        return ("cache_control" in body) + sum(map(marks_in, body.values()))
    return sum(map(marks_in, body)) if isinstance(body, list) else 0


async def test_it_is_begun_with_all_and_goes_on_with_what_is_new(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble
) -> None:
    first = await answered(anthropic, asking("one", history=a_history(2), tools=TOOLS))
    begun = anthropic_double.last
    assert begun.body["thread"] == {"type": "create"}
    assert begun.headers["anthropic-beta"] == BETA
    assert (len(begun.body["messages"]), marks_in(begun.body)) == (5, 3)
    second = await answered(anthropic, asking("two", thread_ref=first.thread_ref, tools=TOOLS))
    gone_on = anthropic_double.last.body
    assert gone_on.keys() == {"max_tokens", "messages", "model", "thread"}
    held, _, _ = first.thread_ref.partition(":")
    assert gone_on["thread"] == {"type": "continue", "previous_message_id": held}
    (said,) = gone_on["messages"]
    (block,) = said["content"]
    assert (said["role"], block["text"], marks_in(gone_on)) == ("user", "two", 1)
    assert second.text == "echo: two [6 before]"
    third = await answered(anthropic, asking("three", thread_ref=second.thread_ref, tools=TOOLS))
    assert third.text == "echo: three [8 before]"


async def test_who_does_not_ask_for_one_has_none(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble
) -> None:
    assert (await answered(anthropic, a_request("one"))).thread_ref == ""
    assert "thread" not in anthropic_double.last.body
    assert "anthropic-beta" not in anthropic_double.last.headers


async def test_each_step_of_a_turn_sends_the_outputs_of_the_last_one_alone(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble
) -> None:
    messages = [Message.of("user", "Look.")]
    request = asking("", messages=messages, tools=TOOLS)
    for step in range(1, 5):
        anthropic_double.meet("tool_calls")
        reply = await answered(anthropic, request)
        assert len(anthropic_double.last.body["messages"]) == 1
        (call,) = [one for one in reply.parts if isinstance(one, ToolCall)]
        messages = [*messages, Message("assistant", reply.parts)]
        held = len(messages)
        output = ToolOutput(call_id=call.id, output=f"output {step}")
        messages = [*messages, Message("tool", [output])]
        ref = reply.thread_ref
        request = replace(request, messages=messages, thread_ref=ref, continues=held, step=step + 1)
    last = await answered(anthropic, request)
    (sent,) = anthropic_double.last.body["messages"]
    assert [block["content"] for block in sent["content"]] == ["output 4"]
    assert last.text == "echo: output 4 [8 before]"


@pytest.mark.parametrize(
    "change",
    [
        {"system_prompt": "Be long."},
        {"tools": TOOLS[:1]},
        {"model": "claude-haiku-4-5"},
        {"settings": {**CHAIN, "speed": "fast"}},
        {"output_schema": {"type": "object", "properties": {}}},
        {"messages": [Message.of("system", "It is late."), Message.of("user", "two")]},
    ],
)
async def test_what_it_was_begun_with_cannot_change_in_it(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble, change: dict[str, Any]
) -> None:
    first = await answered(anthropic, asking("one", tools=TOOLS))
    going_on = replace(asking("two", thread_ref=first.thread_ref, tools=TOOLS), **change)
    assert await lost(anthropic, going_on) == KEPT_ELSEWHERE
    assert len(anthropic_double.calls) == 1, "nobody is asked in vain"
    whole = replace(going_on, thread_ref="", history=a_history(1))
    assert (await answered(anthropic, whole)).thread_ref


@pytest.mark.parametrize(
    "ref", ["resp_1", "msg_1", "msg_1:", "msg_1:{}:", "msg_1:{}:soon", ":{}:1", "msg_1:{}:-1"]
)
async def test_a_name_that_is_none_of_ours_is_lost_without_a_call(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble, ref: str
) -> None:
    begun = await answered(anthropic, asking("one"))
    setup = begun.thread_ref.split(":")[1]
    assert await lost(anthropic, asking("two", thread_ref=ref.format(setup))) == KEPT_ELSEWHERE
    assert len(anthropic_double.calls) == 1


@pytest.mark.parametrize(
    ("seconds", "goes_on"), [(-280, False), (0, True), (260, True), (280, False)]
)
async def test_it_is_not_asked_for_when_its_minutes_are_over(
    anthropic: AnthropicProvider,
    anthropic_double: AnthropicDouble,
    monkeypatch: pytest.MonkeyPatch,
    seconds: int,
    goes_on: bool,
) -> None:
    first = await answered(anthropic, asking("one"))
    now = time.time()
    monkeypatch.setattr(
        "turnmill_worker.providers.anthropic.threads.time.time", lambda: now + seconds
    )
    request = asking("two", thread_ref=first.thread_ref)
    if goes_on:
        assert (await answered(anthropic, request)).text == "echo: two [2 before]"
    else:
        assert await lost(anthropic, request) == KEPT_ELSEWHERE
        assert len(anthropic_double.calls) == 1


async def test_one_that_the_vendor_has_lost_is_told_of(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble
) -> None:
    first = await answered(anthropic, asking("one"))
    anthropic_double.forget()
    assert await lost(anthropic, asking("two", thread_ref=first.thread_ref)) == "thread_not_found"


async def test_one_that_went_on_with_a_call_that_was_cut_is_begun_anew(
    anthropic: AnthropicProvider,
) -> None:
    first = await answered(anthropic, asking("one"))
    going_on = asking("two", thread_ref=first.thread_ref)
    await answered(anthropic, going_on)
    assert await lost(anthropic, going_on) == KEPT_ELSEWHERE


async def test_where_the_vendor_holds_none_the_turn_is_asked_without_and_it_is_remembered(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble
) -> None:
    anthropic_double.threads.are_supported = False
    first = await answered(anthropic, asking("one"))
    assert (first.text, first.thread_ref) == ("echo: one [0 before]", "")
    await answered(anthropic, asking("two", history=a_history(1)))
    asked = ["thread" in one.body for one in anthropic_double.calls]
    assert asked == [True, False, False]
    anthropic_double.threads.are_supported = True
    other = await answered(anthropic, asking("three", settings={"max_output_tokens": 9}))
    assert other.thread_ref, "another set-up is another question"


async def test_one_that_goes_on_where_it_is_not_held_any_more_is_lost_and_then_not_asked_for(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble
) -> None:
    first = await answered(anthropic, asking("one"))
    anthropic_double.threads.are_supported = False
    going_on = asking("two", thread_ref=first.thread_ref)
    assert await lost(anthropic, going_on) == KEPT_ELSEWHERE
    asked = len(anthropic_double.calls)
    assert await lost(anthropic, going_on) == KEPT_ELSEWHERE
    assert len(anthropic_double.calls) == asked


@pytest.mark.parametrize("fault", ["length", "refusal", "window_full"])
async def test_a_reply_that_we_hold_in_other_words_is_gone_on_from_with_those(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble, fault: str
) -> None:
    anthropic_double.meet(fault)
    assert (await answered(anthropic, asking("one"))).thread_ref == ""


@pytest.mark.parametrize("setting", ["container", "context_management", "fallbacks"])
async def test_with_what_goes_with_no_thread_none_is_asked_for(
    setting: str,
) -> None:
    async with raw() as (provider, vendor):
        vendor.meet(http(a_message({"type": "text", "text": "Hi"})))
        reply = await answered(provider, asking("one", settings={setting: "x"}))
    assert (reply.thread_ref, "thread" in vendor.bodies[0]) == ("", False)


async def test_a_vendor_that_pauses_goes_on_with_all_of_it_and_in_no_thread() -> None:
    paused = a_message({"type": "text", "text": "One. "}, SEARCH, stop="pause_turn")
    rest = a_message(FOUND, {"type": "text", "text": "Two."})
    async with raw() as (provider, vendor):
        vendor.meet(http({**paused, "id": "msg_1"}), http({**rest, "id": "msg_2"}))
        reply = await answered(provider, asking("one"))
    assert (reply.text, reply.thread_ref) == ("One. Two.", "")
    asked, again = vendor.bodies
    assert ("thread" in asked, "thread" in again) == (True, False)
    assert again["messages"][-1] == {"role": "assistant", "content": paused["content"]}


async def test_a_pause_in_one_that_goes_on_ends_the_reply_there() -> None:
    said = a_message({"type": "text", "text": "One."})
    paused = a_message({"type": "text", "text": "Two."}, stop="pause_turn")
    async with raw() as (provider, vendor):
        vendor.meet(http({**said, "id": "msg_1"}), http({**paused, "id": "msg_2"}))
        first = await answered(provider, asking("one"))
        second = await answered(provider, asking("two", thread_ref=first.thread_ref))
    assert (second.text, second.finish_reason, second.thread_ref) == ("Two.", "length", "")


@asynccontextmanager
async def raw() -> AsyncIterator[tuple[AnthropicProvider, RawVendor]]:
    async with RawVendor() as vendor:
        provider = vendor.provider("messages")
        assert isinstance(provider, AnthropicProvider)
        yield provider, vendor
        await provider.aclose()


async def test_another_beta_that_requests_use_is_used_beside_it(
    anthropic_double: AnthropicDouble,
) -> None:
    sdk = AsyncAnthropic(
        api_key=KEY,
        base_url=anthropic_double.base_url,
        max_retries=0,
        default_headers={"anthropic-beta": "other-2026-01-01"},
    )
    provider = AnthropicProvider(sdk)
    await answered(provider, asking("one"))
    assert anthropic_double.last.headers["anthropic-beta"] == f"other-2026-01-01,{BETA}"
    await answered(provider, a_request("one"))
    assert anthropic_double.last.headers["anthropic-beta"] == "other-2026-01-01"
    await provider.aclose()


async def test_a_thread_of_one_key_is_none_of_anothers(anthropic_double: AnthropicDouble) -> None:
    """Nor can anybody without it tell from its name what it was begun with."""
    keys = (KEY, "sk-ant-other")
    one, other = (
        AnthropicProvider(AsyncAnthropic(api_key=key, base_url=anthropic_double.base_url))
        for key in keys
    )
    first = await answered(one, asking("one"))
    assert await lost(other, asking("two", thread_ref=first.thread_ref)) == KEPT_ELSEWHERE
    assert len(anthropic_double.calls) == 1
    for provider in (one, other):
        await provider.aclose()


async def test_a_reply_that_streams_goes_on_as_well(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble
) -> None:
    pieces: list[str] = []

    async def emit(piece: str) -> None:
        pieces.append(piece)

    first = await anthropic.send(asking("one"), emit)
    assert isinstance(first, Done)
    second = await anthropic.send(asking("two", thread_ref=first.thread_ref), emit)
    assert isinstance(second, Done)
    assert second.text == "echo: two [2 before]"
    assert "".join(pieces) == first.text + second.text
    assert anthropic_double.last.headers["anthropic-beta"] == BETA


async def test_what_may_be_read_is_what_the_thread_holds_too(anthropic: AnthropicProvider) -> None:
    held = a_history(20)
    request = asking("two", thread_ref="msg_1:x:1")
    alone = anthropic.most(request, ()).input_tokens or 0
    whole = anthropic.most(request, held).input_tokens or 0
    assert whole - alone >= sum(len(one.text) for one in held)
    later = anthropic.most(replace(request, step=3), ())
    assert (later.input_tokens or 0) == alone + 2 * (later.output_tokens or 0)


async def test_another_kind_of_thread_is_none_of_its_own(anthropic: AnthropicProvider) -> None:
    with pytest.raises(Rejected) as caught:
        await anthropic.send(a_request("one", settings={"thread": "conversation"}))
    assert caught.value.error_code == "setting_refused"
