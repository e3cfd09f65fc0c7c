"""A turn of two steps with each provider, and what becomes of it afterwards."""

from dataclasses import replace
from typing import Any

import pytest

from tests.contract.rigs import a_request
from tests.doubles.anthropic_server import AnthropicDouble
from tests.doubles.openai_server import OpenAIDouble
from turnmill.domain.content import Message, ToolCall, ToolOutput
from turnmill.domain.errors import ThreadLost
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.fitting import fitted
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Done, Provider, Request, ToolOffer

pytestmark = pytest.mark.anyio

TOOLS = [ToolOffer(name="f")]
ASKED = Message.of("user", "What is f?")


async def called(provider: Provider, **given: Any) -> tuple[Request, Done]:
    """Let the model call a tool, and return what was asked, and that."""
    request = a_request(messages=[ASKED], tools=TOOLS, **given)
    reply = await provider.send(request)
    assert isinstance(reply, Done)
    assert reply.finish_reason == "tool_calls"
    return request, reply


def answered(request: Request, reply: Done) -> Request:
    """Return the next step of the turn."""
    outputs = [
        Message("tool", [ToolOutput(call_id=one.id, output="42")])
        for one in reply.parts
        if isinstance(one, ToolCall)
    ]
    said = [*request.messages, Message("assistant", reply.parts), *outputs]
    held = len(request.messages) + 1 if reply.thread_ref else 0
    thread = reply.thread_ref
    return replace(request, messages=said, thread_ref=thread, continues=held, step=2)


async def said(provider: Provider, request: Request) -> str:
    reply = await provider.send(request)
    assert isinstance(reply, Done)
    return reply.text


async def test_a_chain_goes_on_with_the_outputs_alone(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    openai_double.meet("tool_calls")
    request = answered(*await called(openai))
    assert await said(openai, request) == "echo: 42 [2 before]"
    assert [one["type"] for one in openai_double.last.body["input"]] == ["function_call_output"]


async def test_a_chain_that_is_lost_between_two_steps_is_told_all_of_the_turn(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    openai_double.meet("tool_calls")
    request = answered(*await called(openai))
    openai_double.forget()
    with pytest.raises(ThreadLost):
        await openai.send(request)
    assert await said(openai, replace(request, thread_ref="", continues=0)) == "echo: 42 [2 before]"


async def test_a_chain_that_waits_for_an_output_refuses_anything_else(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    """So a thread is the session's only when its turn has succeeded."""
    openai_double.meet("tool_calls")
    _, reply = await called(openai)
    with pytest.raises(ThreadLost):
        await openai.send(a_request("Never mind.", thread_ref=reply.thread_ref))


@pytest.mark.parametrize("given", [{"thread": "client"}, {"api": "chat"}], ids=["client", "chat"])
async def test_a_turn_of_two_steps_goes_to_openai_and_then_to_anthropic(
    openai: OpenAIProvider,
    openai_double: OpenAIDouble,
    anthropic: AnthropicProvider,
    given: dict[str, str],
) -> None:
    openai_double.meet("tool_calls")
    request = answered(*await called(openai, settings=given))
    assert await said(openai, request) == "echo: 42 [2 before]"
    past = [*request.messages, Message.of("assistant", "It is 42.")]
    moved = a_request("Are you sure?", history=past)
    shown = fitted(moved, name="anthropic", takes=AnthropicProvider.accepts)
    assert await said(anthropic, shown) == "echo: Are you sure? [4 before]"


async def test_a_turn_of_two_steps_goes_to_anthropic_and_then_to_openai(
    anthropic: AnthropicProvider,
    anthropic_double: AnthropicDouble,
    openai: OpenAIProvider,
) -> None:
    anthropic_double.meet("tool_calls")
    request = answered(*await called(anthropic))
    assert await said(anthropic, request) == "echo: 42 [2 before]"
    past = [*request.messages, Message.of("assistant", "It is 42.")]
    for given in ({}, {"thread": "client"}, {"api": "chat"}):
        moved = a_request("Are you sure?", history=past, settings=given)
        shown = fitted(moved, name="openai", takes=OpenAIProvider.accepts)
        assert (await said(openai, shown)).startswith("echo: Are you sure?")


async def test_a_session_whose_tool_was_never_run_goes_on(
    openai: OpenAIProvider, anthropic: AnthropicProvider, openai_double: OpenAIDouble
) -> None:
    openai_double.meet("tool_calls")
    request, reply = await called(openai)
    past = [*request.messages, Message("assistant", reply.parts)]
    for provider in (openai, anthropic):
        next_one = a_request("Never mind.", history=past)
        shown = fitted(next_one, name=provider.name, takes=provider.accepts)
        assert "echo: " in await said(provider, shown)
