"""The Anthropic adapter against a stand-in that refuses what Anthropic refuses."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import anthropic as sdk
import pytest

from tests.contract.rigs import a_history, a_request
from tests.doubles.anthropic_server import KEY, AnthropicDouble
from turnmill.domain.content import Message
from turnmill.domain.errors import (
    KeyMissing,
    MaybeSent,
    Overloaded,
    ProviderError,
    RateLimited,
    Rejected,
)
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.port import Done, Usage

pytestmark = pytest.mark.anyio

#: Sent by the SDK alone: what it tells of its own time-outs, and what aiohttp leaves out.
NOT_OURS = {"content-length", "connection", "x-stainless-read-timeout", "x-stainless-timeout"}


async def done(provider: AnthropicProvider, text: str = "Hello", **given: Any) -> Done:
    reply = await provider.send(a_request(text, **given))
    assert isinstance(reply, Done)
    return reply


async def failure(provider: AnthropicProvider, **given: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await provider.send(a_request(**given))
    return caught.value


async def test_the_history_goes_along_with_every_turn(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble
) -> None:
    given: dict[str, Any] = {"system_prompt": "Be brief.", "settings": {"prompt_cache": "off"}}
    await done(anthropic, "And?", **given, history=a_history(1))
    assert anthropic_double.last.body == {
        "model": "gpt-5-mini",
        "max_tokens": 8192,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": "question 0"},
            {"role": "assistant", "content": "answer 0"},
            {"role": "user", "content": "And?"},
        ],
    }


async def test_what_the_vendor_refuses_in_a_history_is_put_so_that_it_does_not(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble
) -> None:
    history = [
        Message.of("user", "question"),
        Message.of("assistant", " \n"),  # a reply that was only a tool call
        Message.of("system", "It is late."),
        Message.of("user", "again"),
    ]
    await done(anthropic, "And?", system_prompt="Be brief.", history=history)
    (system,) = anthropic_double.last.body["system"]
    assert system["text"] == "Be brief.\n\nIt is late."
    (said,) = anthropic_double.last.body["messages"]
    assert [block["text"] for block in said["content"]] == ["question", "again", "And?"]


async def test_the_bound_on_output_is_ours_to_name(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble
) -> None:
    await done(anthropic, settings={"max_output_tokens": 99, "speed": "fast", "timeout": 30})
    body = anthropic_double.last.body
    assert (body["max_tokens"], body["speed"]) == (99, "fast")
    assert not {"max_output_tokens", "timeout"} & set(body)


@pytest.mark.parametrize(
    "settings", [{"stream": True}, {"messages": []}, {"thread": "conversation"}]
)
async def test_a_setting_that_would_break_a_promise_is_refused_unsent(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble, settings: Mapping[str, Any]
) -> None:
    error = await failure(anthropic, settings=settings)
    assert (type(error), error.error_code) == (Rejected, "setting_refused")
    assert not anthropic_double.calls


async def test_a_parameter_that_the_vendor_does_not_know_fails_with_its_code(
    anthropic: AnthropicProvider,
) -> None:
    error = await failure(anthropic, settings={"temprature": 1})
    assert (type(error), error.error_code) == (Rejected, "invalid_request_error")
    assert "temprature" in error.detail


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("rate_limited", RateLimited, "rate_limit_error"),
        ("quota", Rejected, "enforced_spend_limit_reached"),
        ("overloaded", Overloaded, "overloaded_error"),
        ("no_such_model", Rejected, "not_found_error"),
        ("server_error", MaybeSent, "api_error"),
        ("bad_gateway", MaybeSent, "http_502"),
        ("drop", MaybeSent, "disconnected"),
        ("cut", MaybeSent, "truncated"),
        ("bad_json", Rejected, "unreadable_reply"),
        ("bad_reply", Rejected, "unreadable_reply"),
    ],
)
async def test_what_goes_wrong_is_told_apart_by_what_it_means(
    anthropic: AnthropicProvider,
    anthropic_double: AnthropicDouble,
    fault: str,
    kind: type[ProviderError],
    code: str,
) -> None:
    anthropic_double.meet(fault)
    error = await failure(anthropic)
    assert (type(error), error.error_code) == (kind, code)


async def test_a_rate_limit_carries_the_vendors_wait_and_request_id(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble
) -> None:
    anthropic_double.meet("rate_limited")
    error = await failure(anthropic)
    assert error.retry_after == timedelta(seconds=7)
    assert error.request_id.startswith("req_")


async def test_a_call_that_takes_too_long_may_have_been_executed(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble
) -> None:
    anthropic_double.meet("hang")
    error = await failure(anthropic, settings={"timeout": 0.2})
    assert (type(error), error.error_code) == (MaybeSent, "timeout")
    await asyncio.wait_for(anthropic_double.last.abandoned.wait(), 5)


async def test_a_wrong_key_fails_for_good(anthropic_double: AnthropicDouble) -> None:
    client = sdk.AsyncAnthropic(api_key="sk-no", base_url=anthropic_double.base_url)
    provider = AnthropicProvider(client)
    error = await failure(provider)
    await provider.aclose()
    assert (type(error), error.error_code) == (Rejected, "authentication_error")


async def test_without_a_key_there_is_no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(KeyMissing) as caught:
        AnthropicProvider.from_env()
    assert "ANTHROPIC_API_KEY" in caught.value.hint


@pytest.mark.parametrize(
    ("outcome", "finish_reason"),
    [
        ("ok", "stop"),
        ("length", "length"),
        ("refusal", "refusal"),
        ("tool_calls", "tool_calls"),
        ("window_full", "context_full"),
    ],
)
async def test_why_a_reply_ended_is_kept(
    anthropic: AnthropicProvider,
    anthropic_double: AnthropicDouble,
    outcome: str,
    finish_reason: str,
) -> None:
    anthropic_double.meet(outcome)
    reply = await done(anthropic)
    assert reply.finish_reason == finish_reason
    assert reply.text == "echo: Hello [0 before]"


async def test_input_tokens_contain_those_of_the_cache(anthropic: AnthropicProvider) -> None:
    assert (await done(anthropic)).usage == Usage(
        input_tokens=1423, output_tokens=128, cached_tokens=1024, cache_write_tokens=16
    )


async def test_the_vendor_sees_the_headers_of_its_own_sdk(
    anthropic_double: AnthropicDouble,
) -> None:
    client = sdk.AsyncAnthropic(api_key=KEY, base_url=anthropic_double.base_url)
    provider = AnthropicProvider(client)
    await client.messages.create(
        model="m", max_tokens=9, messages=[{"role": "user", "content": "Hello"}]
    )
    await provider.send(a_request())
    await provider.aclose()
    documented, ours = (_headers(call.headers) for call in anthropic_double.calls)
    assert ours == documented
    assert ours["anthropic-version"]


@pytest.mark.parametrize(
    "fault", ["rate_limited", "quota", "overloaded", "server_error", "no_such_model"]
)
async def test_an_error_says_what_the_vendors_own_sdk_would_say(
    anthropic: AnthropicProvider, anthropic_double: AnthropicDouble, fault: str
) -> None:
    client = sdk.AsyncAnthropic(api_key=KEY, base_url=anthropic_double.base_url, max_retries=0)
    anthropic_double.meet(fault, fault)
    with pytest.raises(sdk.APIStatusError) as documented:
        await client.messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "Hello"}]
        )
    ours = await failure(anthropic)
    await client.close()
    assert ours.error_code == (documented.value.error_code or documented.value.type)
    assert ours.detail == documented.value.api_message == "Scripted."
    assert (ours.request_id[:4], (documented.value.request_id or "")[:4]) == ("req_", "req_")


async def test_the_stand_in_answers_as_the_vendor_does(anthropic_double: AnthropicDouble) -> None:
    client = sdk.AsyncAnthropic(api_key=KEY, base_url=anthropic_double.base_url, max_retries=0)
    for outcome in ("ok", "length", "refusal", "tool_calls", "window_full"):
        anthropic_double.meet(outcome)
        message = await client.messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "Hello"}]
        )
        sdk.types.Message.model_validate(message.model_dump(), strict=True)
    await client.close()


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower() not in NOT_OURS}
