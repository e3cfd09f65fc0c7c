"""The OpenAI adapter against a stand-in that refuses what OpenAI refuses."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import openai as sdk
import pytest
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from tests.contract.rigs import a_history, a_request
from tests.doubles.openai_server import KEY, OpenAIDouble
from turnmill.domain.content import Message
from turnmill.domain.errors import (
    KeyMissing,
    MaybeSent,
    NotSent,
    Overloaded,
    ProviderError,
    RateLimited,
    Rejected,
    ThreadLocked,
    ThreadLost,
    Unreachable,
)
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Done, Usage

pytestmark = pytest.mark.anyio

CLIENT = {"thread": "client"}
UNKEYED = {"prompt_cache": "off"}
CHAT = {"api": "chat"}

#: Sent by the SDK alone: what it tells of its own time-outs, and what aiohttp leaves out.
NOT_OURS = {"content-length", "connection", "x-stainless-read-timeout", "x-stainless-timeout"}


async def done(provider: OpenAIProvider, text: str = "Hello", **given: Any) -> Done:
    reply = await provider.send(a_request(text, **given))
    assert isinstance(reply, Done)
    return reply


async def failure(provider: OpenAIProvider, **given: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await provider.send(a_request(**given))
    return caught.value


async def test_a_chain_sends_only_what_the_vendor_lacks(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    given: dict[str, Any] = {"system_prompt": "Be brief.", "settings": UNKEYED}
    first = await done(openai, **given)
    await done(openai, "And?", **given, thread_ref=first.thread_ref)
    assert openai_double.last.body == {
        "model": "gpt-5-mini",
        "store": True,
        "instructions": "Be brief.",  # a chain does not carry them on
        "previous_response_id": first.thread_ref,
        "input": [{"role": "user", "content": "And?"}],
    }


async def test_a_history_held_by_us_is_sent_in_the_long_form_and_not_stored(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    history = [Message.of("system", "It is late."), *a_history(1)]
    reply = await done(openai, "And?", settings=CLIENT | UNKEYED, history=history)
    assert reply.thread_ref == ""
    said = {"type": "output_text", "text": "answer 0"}
    assert openai_double.last.body == {
        "model": "gpt-5-mini",
        "store": False,
        "input": [
            {"role": "system", "content": "It is late."},
            {"role": "user", "content": "question 0"},
            {"type": "message", "role": "assistant", "content": [said]},
            {"role": "user", "content": "And?"},
        ],
    }


async def test_chat_completions_serve_servers_without_responses(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    settings = {**CHAT, **UNKEYED, "max_output_tokens": 64, "temperature": 0.5}
    reply = await done(openai, settings=settings, system_prompt="Be brief.", history=a_history(1))
    assert reply.usage == Usage(input_tokens=12, output_tokens=3)
    assert openai_double.last.path == "/v1/chat/completions"
    assert openai_double.last.body == {
        "model": "gpt-5-mini",
        "max_completion_tokens": 64,
        "temperature": 0.5,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "question 0"},
            {"role": "assistant", "content": "answer 0"},
            {"role": "user", "content": "Hello"},
        ],
    }


async def test_settings_that_are_not_ours_are_the_vendors_parameters(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    settings = {"max_output_tokens": 64, "reasoning": {"effort": "low"}, "timeout": 30, "mock": {}}
    await done(openai, settings=settings)
    assert openai_double.last.body["max_output_tokens"] == 64
    assert openai_double.last.body["reasoning"] == {"effort": "low"}
    assert not {"timeout", "mock"} & set(openai_double.last.body)


@pytest.mark.parametrize(
    "settings",
    [
        {"stream": True},
        {"store": False},
        {"input": "x"},
        {"conversation": "conv_1"},
        {**CHAT, "n": 2},
        {**CHAT, "thread": "chain"},
        {"api": "assistants"},
        {"timeout": 0},
        {"timeout": "soon"},
    ],
)
async def test_a_setting_that_would_break_a_promise_is_refused_unsent(
    openai: OpenAIProvider, openai_double: OpenAIDouble, settings: Mapping[str, Any]
) -> None:
    error = await failure(openai, settings=settings)
    assert type(error) is Rejected
    assert error.error_code == "setting_refused"
    assert not openai_double.calls


async def test_a_parameter_that_the_vendor_does_not_know_fails_with_its_code(
    openai: OpenAIProvider,
) -> None:
    error = await failure(openai, settings={"temprature": 1})
    assert type(error) is Rejected
    assert error.error_code == "unknown_parameter"
    assert "temprature" in error.detail


async def test_a_role_that_nobody_has_is_refused_unsent(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    error = await failure(openai, history=[Message.of("narrator", "42")])
    assert (type(error), error.error_code) == (Rejected, "unsupported_role")
    assert not openai_double.calls


async def test_a_text_that_is_no_unicode_is_refused_unsent(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    error = await failure(openai, text="half a pair \ud800")
    assert (type(error), error.error_code) == (Rejected, "unencodable")
    assert not openai_double.calls


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("rate_limited", RateLimited, "rate_limit_exceeded"),
        ("quota", Rejected, "insufficient_quota"),
        ("overloaded", Overloaded, "server_overloaded"),
        ("locked", ThreadLocked, "conversation_locked"),
        ("no_such_model", Rejected, "model_not_found"),
        ("server_error", MaybeSent, "server_error"),
        ("bad_gateway", MaybeSent, "http_502"),
        ("redirect", Rejected, "http_307"),
        ("drop", MaybeSent, "disconnected"),
        ("cut", MaybeSent, "truncated"),
        ("bad_json", Rejected, "unreadable_reply"),
        ("not_an_object", Rejected, "unreadable_reply"),
        ("bad_reply", Rejected, "unreadable_reply"),
        ("failed:rate_limit_exceeded", RateLimited, "rate_limit_exceeded"),
        ("failed:server_error", NotSent, "server_error"),
        ("failed:invalid_prompt", Rejected, "invalid_prompt"),
    ],
)
async def test_what_goes_wrong_is_told_apart_by_what_it_means(
    openai: OpenAIProvider,
    openai_double: OpenAIDouble,
    fault: str,
    kind: type[ProviderError],
    code: str,
) -> None:
    openai_double.meet(fault)
    error = await failure(openai)
    assert (type(error), error.error_code) == (kind, code)


@pytest.mark.parametrize(
    ("fault", "wait"),
    [
        ("rate_limited", timedelta(seconds=7)),
        ("rate_limited_ms", timedelta(milliseconds=250)),
        ("rate_limited_date", timedelta(minutes=1)),
    ],
)
async def test_the_vendors_wait_is_understood_in_every_form(
    openai: OpenAIProvider, openai_double: OpenAIDouble, fault: str, wait: timedelta
) -> None:
    openai_double.meet(fault)
    error = await failure(openai)
    assert error.retry_after is not None
    assert wait - timedelta(seconds=5) < error.retry_after <= wait


async def test_a_call_that_takes_too_long_may_have_been_executed(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    openai_double.meet("hang")
    error = await failure(openai, settings={"timeout": 0.2})
    assert (type(error), error.error_code) == (MaybeSent, "timeout")
    await asyncio.wait_for(openai_double.last.abandoned.wait(), 5)


async def test_a_wrong_key_fails_for_good(openai_double: OpenAIDouble) -> None:
    provider = OpenAIProvider(sdk.AsyncOpenAI(api_key="sk-no", base_url=openai_double.base_url))
    error = await failure(provider)
    await provider.aclose()
    assert (type(error), error.error_code) == (Rejected, "invalid_api_key")


@pytest.mark.parametrize(
    ("base_url", "kind", "code"),
    [
        ("ftp://127.0.0.1/v1", Rejected, "invalid_url"),
        ("http://127.0.0.1:1/v1", Unreachable, "unreachable"),
        ("http://no-such-host.invalid/v1", Unreachable, "unreachable"),
    ],
)
async def test_an_address_that_leads_nowhere_was_sent_nothing(
    base_url: str, kind: type[ProviderError], code: str
) -> None:
    provider = OpenAIProvider(sdk.AsyncOpenAI(api_key=KEY, base_url=base_url))
    error = await failure(provider)
    await provider.aclose()
    assert (type(error), error.error_code) == (kind, code)


async def test_the_proxy_of_the_environment_is_used(
    openai_double: OpenAIDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", openai_double.url)
    provider = OpenAIProvider(sdk.AsyncOpenAI(api_key=KEY, base_url="http://vendor.invalid/v1"))
    await done(provider)
    await provider.aclose()
    assert openai_double.last.headers["Host"] == "vendor.invalid"


async def test_what_stays_on_this_machine_goes_past_the_proxy(
    openai_double: OpenAIDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    base_url = openai_double.base_url
    provider = OpenAIProvider(sdk.AsyncOpenAI(api_key=KEY, base_url=base_url))
    await done(provider)
    await provider.aclose()


async def test_without_a_key_there_is_no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    with pytest.raises(KeyMissing, match="key_missing") as caught:
        OpenAIProvider.from_env()
    assert "OPENAI_API_KEY" in caught.value.hint


async def test_a_response_that_the_vendor_has_forgotten_is_a_lost_thread(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    first = await done(openai)
    openai_double.forget()
    error = await failure(openai, thread_ref=first.thread_ref)
    assert (type(error), error.error_code) == (ThreadLost, "previous_response_not_found")


@pytest.mark.parametrize("settings", [{}, CHAT])
@pytest.mark.parametrize(
    ("outcome", "finish_reason"),
    [
        ("ok", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("refusal", "refusal"),
        ("tool_calls", "tool_calls"),
    ],
)
async def test_why_a_reply_ended_is_kept(
    openai: OpenAIProvider,
    openai_double: OpenAIDouble,
    settings: Mapping[str, Any],
    outcome: str,
    finish_reason: str,
) -> None:
    openai_double.meet(outcome)
    reply = await done(openai, settings=settings)
    assert reply.finish_reason == finish_reason
    assert ("can't help" in reply.text) is (outcome == "refusal")


async def test_usage_holds_what_the_vendor_charges_differently(openai: OpenAIProvider) -> None:
    assert (await done(openai)).usage == Usage(
        input_tokens=1423,
        output_tokens=128,
        cached_tokens=1024,
        cache_write_tokens=16,
        reasoning_tokens=64,
    )


async def test_a_closed_thread_is_deleted_at_the_vendor(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    first = await done(openai)
    await openai.close(first.thread_ref)
    assert openai_double.last.method == "DELETE"
    assert isinstance(await failure(openai, thread_ref=first.thread_ref), ThreadLost)


async def test_a_reference_cannot_lead_to_another_path(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    await openai.close("../chat/completions")
    assert openai_double.last.path.startswith("/v1/responses/")


@pytest.mark.parametrize("size", [100, 3_000_000])
async def test_a_long_history_arrives_whole(openai: OpenAIProvider, size: int) -> None:
    reply = await done(openai, "x" * size, settings=CLIENT, history=a_history(50))
    assert reply.text == f"echo: {'x' * size} [100 before]"


async def test_the_vendor_sees_the_headers_of_its_own_sdk(openai_double: OpenAIDouble) -> None:
    client = sdk.AsyncOpenAI(
        api_key=KEY, base_url=openai_double.base_url, organization="org", project="proj"
    )
    provider = OpenAIProvider(client)
    await client.responses.create(model="m", input="Hello")
    await provider.send(a_request())
    await provider.aclose()
    documented, ours = (_headers(call.headers) for call in openai_double.calls)
    assert ours == documented
    assert ours["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "fault", ["rate_limited", "quota", "overloaded", "server_error", "locked", "no_such_model"]
)
async def test_an_error_says_what_the_vendors_own_sdk_would_say(
    openai: OpenAIProvider, openai_double: OpenAIDouble, fault: str
) -> None:
    client = sdk.AsyncOpenAI(api_key=KEY, base_url=openai_double.base_url, max_retries=0)
    openai_double.meet(fault, fault)
    with pytest.raises(sdk.APIStatusError) as documented:
        await client.responses.create(model="m", input="Hello")
    ours = await failure(openai)
    await client.close()
    assert ours.error_code == documented.value.code
    assert ours.detail == "Scripted."
    assert ours.detail in documented.value.message
    assert (ours.request_id[:4], (documented.value.request_id or "")[:4]) == ("req_", "req_")


async def test_the_stand_in_answers_as_the_vendor_does(openai_double: OpenAIDouble) -> None:
    client = sdk.AsyncOpenAI(api_key=KEY, base_url=openai_double.base_url, max_retries=0)
    for outcome in ("ok", "length", "refusal", "tool_calls", "failed:server_error"):
        openai_double.meet(outcome)
        response = await client.responses.create(model="m", input="Hello")
        Response.model_validate(response.model_dump(), strict=True)
    completion = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hello"}]
    )
    ChatCompletion.model_validate(completion.model_dump(), strict=True)
    await client.close()


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower() not in NOT_OURS}
