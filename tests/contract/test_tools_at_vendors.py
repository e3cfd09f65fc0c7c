"""Tools at each vendor: what is offered, what is called, and what travels back."""

import json
from typing import Any

import pytest

from tests.contract.rigs import a_request
from tests.doubles.raw_vendor import SETTINGS, RawVendor, http
from tests.validators import anthropic_messages, openai_chat, openai_responses
from turnmill.domain.content import Message, Native, Part, Text, ToolCall, ToolOutput
from turnmill.domain.errors import Rejected
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.port import Done, Request, ToolOffer, Usage

pytestmark = pytest.mark.anyio

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = ToolOffer(name="weather", description="Tells the weather.", parameters=CITY)
NOW = ToolOffer(name="now")

ROME = '{"city":"Rome"}'
OSLO = '{"city":"Oslo"}'


def step(*before: Part, **given: Any) -> Request:
    """Return the second step of a turn: two calls, one of which has failed."""
    calls = [
        ToolCall(id=name, name="weather", arguments=said)
        for name, said in (("c1", ROME), ("c2", OSLO))
    ]
    said = [
        Message.of("user", "Where is it warm?"),
        Message("assistant", [*before, *calls]),
        Message("tool", [ToolOutput(call_id="c1", output="29")]),
        Message("tool", [ToolOutput(call_id="c2", output="", is_error=True)]),
    ]
    return a_request(**{"messages": said, "step": 2, "tools": [WEATHER], **given})


def own(provider: str, api: str, item: str) -> Native:
    return Native(provider=provider, api=api, item=item)


@pytest.mark.parametrize(
    ("model", "goes"),
    [
        *(("gpt-5", True), ("gpt-4.1", False), ("o3", True)),
        ("ft:gpt-4o-mini-2024-07-18:acme::1a2b", False),
        ("ft:o4-mini-2025-04-16:acme::1a2b", True),
        ("openai/gpt-4o", False),
        ("openai/gpt-5.2", True),
    ],
)
def test_reasoning_goes_to_a_model_that_reasons_and_to_no_other(model: str, *, goes: bool) -> None:
    reasoning = '{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA"}'
    request = step(own("openai", "responses", reasoning), model=model)
    body = responses.body_of(request, chain=False)
    assert openai_responses.violations(body) == []
    kinds = [one.get("type") for one in body["input"]]
    assert kinds.count("reasoning") == int(goes)
    assert ("include" in body) is goes
    assert (kinds.count("function_call"), kinds.count("function_call_output")) == (2, 2)


def test_responses_are_sent_calls_and_outputs_as_items() -> None:
    reasoning = '{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA"}'
    body = responses.body_of(step(own("openai", "responses", reasoning)), chain=False)
    assert openai_responses.violations(body) == []
    assert body["tools"] == [
        {
            "type": "function",
            "strict": False,
            "name": "weather",
            "description": "Tells the weather.",
            "parameters": CITY,
        }
    ]
    assert body["include"] == ["reasoning.encrypted_content"]
    assert [one.get("type") for one in body["input"]] == [
        None,
        "reasoning",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
    ]
    assert body["input"][2] == {
        "type": "function_call",
        "call_id": "c1",
        "name": "weather",
        "arguments": ROME,
    }
    assert body["input"][4] == {"type": "function_call_output", "call_id": "c1", "output": "29"}


def test_a_chain_is_sent_only_what_it_does_not_hold() -> None:
    body = responses.body_of(step(thread_ref="resp_1", continues=2), chain=True)
    assert openai_responses.violations(body, held={"c1", "c2"}) == []
    assert (body["previous_response_id"], "include" in body) == ("resp_1", False)
    assert [one["call_id"] for one in body["input"]] == ["c1", "c2"]


def test_a_chat_is_sent_calls_with_their_message_and_outputs_behind_it() -> None:
    body = chat.body_of(step(own("openai", "chat", '{"reasoning_content":"Hm."}')))
    assert openai_chat.violations(body) == []
    function = {"name": "weather", "description": "Tells the weather.", "parameters": CITY}
    assert body["tools"] == [{"type": "function", "function": function}]
    called = body["messages"][1]
    assert (called["content"], called["reasoning_content"]) == (None, "Hm.")
    assert called["tool_calls"][1] == {
        "id": "c2",
        "type": "function",
        "function": {"name": "weather", "arguments": OSLO},
    }
    assert body["messages"][2:] == [
        {"role": "tool", "tool_call_id": "c1", "content": "29"},
        {"role": "tool", "tool_call_id": "c2", "content": ""},
    ]


def test_messages_are_sent_all_results_first_in_one_message_of_the_users() -> None:
    thinking = '{"type":"thinking","thinking":"Hm.","signature":"EqQB"}'
    request = step(own("anthropic", "messages", thinking), Text("Let me see."))
    later = [*request.messages, Message.of("user", "In short!")]
    thinks = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    given = a_request(tools=request.tools, messages=later, settings=thinks)
    body = messages.body_of(given)
    assert anthropic_messages.violations(body) == []
    assert body["thinking"] == thinks["thinking"]
    described = {"name": "weather", "description": "Tells the weather.", "input_schema": CITY}
    described["cache_control"] = {"type": "ephemeral"}
    assert body["tools"] == [described]
    called, results = body["messages"][1:]
    assert [one["type"] for one in called["content"]] == [
        "thinking",
        "text",
        "tool_use",
        "tool_use",
    ]
    assert called["content"][2] == {
        "type": "tool_use",
        "id": "c1",
        "name": "weather",
        "input": {"city": "Rome"},
    }
    assert results["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": "29"},
        {"type": "tool_result", "tool_use_id": "c2", "content": "error", "is_error": True},
        {"type": "text", "text": "In short!", "cache_control": {"type": "ephemeral"}},
    ]


def test_a_turn_that_called_without_thinking_goes_on_without_it() -> None:
    thinks = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    body = messages.body_of(step(settings=thinks))
    assert "thinking" not in body
    assert anthropic_messages.violations(body) == []


def test_old_calls_are_defined_but_not_to_be_made_again_where_nothing_is_offered() -> None:
    body = messages.body_of(step(tools=()))
    assert [one["name"] for one in body["tools"]] == ["weather"]
    assert body["tool_choice"] == {"type": "none"}
    assert anthropic_messages.violations(body) == []


@pytest.mark.parametrize(
    ("given", "at_responses", "at_chat", "at_messages"),
    [
        ("required", "required", "required", {"type": "any"}),
        ({"type": "any"}, "required", "required", {"type": "any"}),
        ("none", "none", "none", {"type": "none"}),
        (
            {"type": "function", "function": {"name": "now"}},
            {"type": "function", "name": "now"},
            {"type": "function", "function": {"name": "now"}},
            {"type": "tool", "name": "now"},
        ),
    ],
)
def test_a_choice_of_tools_is_said_in_each_vendors_way_and_forces_only_the_first_step(
    given: Any, at_responses: Any, at_chat: Any, at_messages: Any
) -> None:
    for number in (1, 2):
        request = a_request(step=number, settings={"tool_choice": given}, tools=[WEATHER, NOW])
        bodies = (
            responses.body_of(request, chain=False),
            chat.body_of(request),
            messages.body_of(request),
        )
        expected = [at_responses, at_chat, at_messages] if number == 1 or given == "none" else None
        found = [one.get("tool_choice") for one in bodies]
        assert found == (expected or [None, None, None])


def test_one_call_at_a_time_is_understood_by_both_vendors() -> None:
    request = a_request(settings={"parallel_tool_calls": False}, tools=[NOW])
    assert responses.body_of(request, chain=False)["parallel_tool_calls"] is False
    body = messages.body_of(request)
    assert "parallel_tool_calls" not in body
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


@pytest.mark.parametrize("given", ["sometimes", {"type": "tool"}, {"name": "nobody"}, 7])
def test_a_choice_of_tools_that_means_nothing_is_refused_unsent(given: Any) -> None:
    with pytest.raises(Rejected) as caught:
        messages.body_of(a_request(settings={"tool_choice": given}, tools=[NOW]))
    assert caught.value.error_code == "setting_refused"


def test_settings_that_speak_to_turnmill_are_not_sent() -> None:
    ours: dict[str, Any] = {"tools": ["now"], "max_tool_rounds": 3, "on_context_full": "error"}
    request = a_request(settings={**ours, "response_format": CITY})
    for body in (
        responses.body_of(request, chain=False),
        chat.body_of(request),
        messages.body_of(request),
    ):
        assert not {*ours, "response_format"} & set(body)


def test_a_form_of_the_reply_is_strict_at_each_vendor() -> None:
    loose = {
        "type": "object",
        "properties": {"city": {"type": "string", "default": "Rome"}, "all": {"$ref": "#/$defs/L"}},
        "$defs": {"L": {"type": "array", "items": {"type": "object", "properties": {}}}},
    }
    request = a_request(output_schema=loose)
    for violations, body in (
        (openai_responses.violations, responses.body_of(request, chain=False)),
        (openai_chat.violations, chat.body_of(request)),
        (anthropic_messages.violations, messages.body_of(request)),
    ):
        assert violations(body) == []
    form = responses.body_of(request, chain=False)["text"]["format"]
    assert (form["type"], form["strict"]) == ("json_schema", True)
    assert form["schema"]["required"] == ["city", "all"]
    assert loose["properties"]["city"]["default"] == "Rome"  # type: ignore[index]  # untouched


def test_a_form_that_cannot_be_strict_is_asked_for_all_the_same() -> None:
    free = {"type": "object", "additionalProperties": {"type": "integer"}}
    form = chat.body_of(a_request(output_schema=free))["response_format"]["json_schema"]
    assert form == {"name": "reply", "strict": False, "schema": free}


def reply(api: str, payload: dict[str, Any], *, chain: bool = False) -> Done:
    if api == "responses":
        found = responses.reply_of(payload, chain=chain, request_id="r")
        assert isinstance(found, Done)
        return found
    if api == "chat":
        return chat.reply_of(payload, request_id="r")
    return messages.reply_of(payload, request_id="r")


REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
SAID = {"type": "message", "content": [{"type": "output_text", "text": "Let me see."}]}
ASKED = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": ROME}


def test_a_response_is_kept_in_its_order_and_its_thread_is_the_steps() -> None:
    output = [REASONING, SAID, ASKED, {**ASKED, "call_id": "c2", "arguments": OSLO}]
    payload = {"id": "resp_1", "status": "completed", "output": output}
    found = reply("responses", payload)
    assert [one.kind for one in found.parts] == ["native", "text", "tool_call", "tool_call"]
    assert found.parts[2] == ToolCall(id="c1", name="weather", arguments=ROME)
    assert (found.finish_reason, found.text) == ("tool_calls", "Let me see.")
    # A chain holds the reasoning itself.
    chained = reply("responses", payload, chain=True)
    assert (chained.parts, chained.thread_ref) == (found.parts[1:], "resp_1")
    again = responses.body_of(a_request(history=[Message("assistant", found.parts)]), chain=False)[
        "input"
    ]
    assert again[0] == REASONING


def test_a_chats_calls_are_kept_whatever_shape_the_server_gives_them() -> None:
    asked = [
        {"id": "c1", "function": {"name": "weather", "arguments": ROME}},
        {"id": "c1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}},
        {"id": "", "function": {"name": "now", "arguments": ""}},
    ]
    message = {"content": None, "tool_calls": asked, "reasoning_content": "Hm."}
    found = reply("chat", {"choices": [{"message": message, "finish_reason": "stop"}]})
    assert [one.kind for one in found.parts] == ["native", *["tool_call"] * 3]
    calls = [one for one in found.parts if isinstance(one, ToolCall)]
    assert (calls[0].id, len({one.id for one in calls})) == ("c1", 3)
    assert calls[1].arguments == '{"city": "Oslo"}'
    assert found.finish_reason == "tool_calls"


THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}


def test_a_message_is_kept_in_its_order_with_its_thinking_to_the_letter() -> None:
    content = [THINKING, {"type": "text", "text": "Let me see."}, USE]
    found = reply("messages", {"content": content, "stop_reason": "tool_use"})
    assert [one.kind for one in found.parts] == ["native", "text", "tool_call"]
    assert found.finish_reason == "tool_calls"
    again = messages.body_of(a_request(history=[Message("assistant", found.parts)]))
    assert again["messages"][1]["content"] == content


ENDED = {
    "max_tokens": "length",
    "model_context_window_exceeded": "context_full",
    "refusal": "refusal",
}


@pytest.mark.parametrize("stop", ENDED)
def test_a_call_in_a_reply_that_was_cut_off_is_none(stop: str) -> None:
    said = {"type": "text", "text": "Let me see."}
    found = reply("messages", {"content": [said, USE], "stop_reason": stop})
    assert found.parts[0] == Text("Let me see.")
    assert not any(isinstance(one, ToolCall) for one in found.parts)
    assert found.finish_reason == ENDED[stop]
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    payload = {"id": "resp_1", "output": [SAID, ASKED], **cut}
    response = reply("responses", payload, chain=True)
    # A thread with a call that nobody answers goes no further.
    assert (response.parts, response.thread_ref) == ((Text("Let me see."),), "")
    asked = {"id": "c1", "function": {"name": "weather", "arguments": '{"ci'}}
    message = {"content": "Let me see.", "tool_calls": [asked]}
    short = reply("chat", {"choices": [{"message": message, "finish_reason": "length"}]})
    assert (short.parts, short.finish_reason) == ((Text("Let me see."),), "length")


SEARCH = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}


def a_message(*content: dict[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    usage = {"input_tokens": 10, "output_tokens": 5}
    return {"content": list(content), "stop_reason": stop, "usage": usage, "model": "claude"}


async def test_a_pause_of_the_vendors_is_continued_and_the_caller_sees_one_reply() -> None:
    first = a_message(THINKING, {"type": "text", "text": "One. "}, SEARCH, stop="pause_turn")
    second = a_message(FOUND, {"type": "text", "text": "Two."})
    async with RawVendor() as vendor:
        vendor.meet(http(first), http(second))
        provider = vendor.provider("messages")
        found = await provider.send(a_request(settings=SETTINGS["messages"]))
        await provider.aclose()
    assert isinstance(found, Done)
    assert [one.kind for one in found.parts] == ["native", "text", "native", "native", "text"]
    assert (found.text, found.finish_reason) == ("One. Two.", "stop")
    assert found.usage == Usage(input_tokens=20, output_tokens=10)
    asked, again = vendor.bodies
    assert again["messages"] == [
        *asked["messages"],
        {"role": "assistant", "content": first["content"]},
    ]
    assert anthropic_messages.violations(again, goes_on=True) == []
    # In the next turn, the pair goes along.
    body = messages.body_of(a_request(history=[Message("assistant", found.parts)]))
    assert anthropic_messages.violations(body) == []
    assert body["messages"][1]["content"][2:4] == [SEARCH, FOUND]


async def test_a_pause_after_what_was_said_before_was_summed_up_is_continued() -> None:
    summary = {"type": "compaction", "content": "They met.", "signature": "EqQB"}
    first, second = a_message(summary, stop="compaction"), a_message({"type": "text", "text": "Hi"})
    async with RawVendor() as vendor:
        vendor.meet(http(first), http(second))
        provider = vendor.provider("messages")
        found = await provider.send(a_request(settings=SETTINGS["messages"]))
        await provider.aclose()
    assert isinstance(found, Done)
    assert (found.text, found.finish_reason) == ("Hi", "stop")
    assert vendor.bodies[1]["messages"][-1] == {"role": "assistant", "content": [summary]}


async def test_a_vendor_that_does_nothing_but_pause_is_asked_eight_times() -> None:
    paused = a_message({"type": "text", "text": "."}, SEARCH, stop="pause_turn")
    async with RawVendor() as vendor:
        vendor.meet(*[http(paused)] * 9)
        provider = vendor.provider("messages")
        found = await provider.send(a_request(settings=SETTINGS["messages"]))
        await provider.aclose()
    assert isinstance(found, Done)
    assert (len(vendor.bodies), found.text, found.finish_reason) == (8, "." * 8, "length")
    body = messages.body_of(a_request(history=[Message("assistant", found.parts)]))
    assert anthropic_messages.violations(body) == []  # searches without a result are left out


def test_what_the_vendor_has_searched_is_sent_once_and_with_its_result() -> None:
    kept = [own("anthropic", "messages", json.dumps(one)) for one in (SEARCH, FOUND)]
    use, result = kept
    for said in ([use, use, result], [use, result, result], [result, use, result]):
        history = [Message("assistant", [*said, Text("Two.")])]
        body = messages.body_of(a_request(history=history))
        assert anthropic_messages.violations(body) == []
        kinds = [one["type"] for one in body["messages"][1]["content"]]
        assert kinds == ["server_tool_use", "web_search_tool_result", "text"]
