"""OpenAI's work in the background, and what OpenAI was given to keep, against its stand-in."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import openai as sdk
import pytest

from tests.contract.rigs import a_request
from tests.doubles.openai_server import KEY, OpenAIDouble
from turnmill.domain.errors import NotSent, Overloaded, ProviderError, RateLimited, Rejected
from turnmill_worker.providers.openai import responses
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Done, Failed, Running, Unknowable

pytestmark = pytest.mark.anyio


async def done(provider: OpenAIProvider, **given: Any) -> Done:
    reply = await provider.send(a_request(**given))
    assert isinstance(reply, Done)
    return reply


async def test_work_in_the_background_is_running_until_it_is_done(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    begun = await openai.send(a_request(settings={"background": True}))
    assert isinstance(begun, Running)
    request = a_request(native_ref=begun.native_ref)
    openai_double.meet("in_progress")
    assert await openai.check(request) == begun
    finished = await openai.check(request)
    assert isinstance(finished, Done)
    assert finished.thread_ref == begun.native_ref
    openai_double.forget()
    assert await openai.check(request) == Unknowable(resend_is_safe=True)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("server_error", NotSent),
        ("rate_limit_exceeded", RateLimited),
        ("invalid_prompt", Rejected),
    ],
)
async def test_work_in_the_background_that_failed_says_why_as_a_call_would(
    openai: OpenAIProvider, openai_double: OpenAIDouble, code: str, kind: type[ProviderError]
) -> None:
    openai_double.meet(f"failed:{code}")
    begun = await openai.send(a_request(settings={"background": True}))
    assert isinstance(begun, Running)
    found = await openai.check(a_request(native_ref=begun.native_ref))
    assert isinstance(found, Failed)
    assert (type(found.error), found.error.error_code) == (kind, code)
    assert (found.error.detail, found.error.kept) == ("Scripted.", (begun.native_ref,))


@pytest.mark.parametrize("status", ["completed", "incomplete"])
@pytest.mark.parametrize("output", [None, "Hello", [None], [{"text": "no type"}]])
def test_work_that_is_over_and_holds_no_reply_has_failed_and_is_asked_about_no_more(
    status: str, output: Any
) -> None:
    payload = {"id": "resp_1", "status": status, "output": output}
    found = responses.found_of(payload, chain=True, request_id="req_1")
    assert isinstance(found, Failed)
    assert (found.error.error_code, found.error.kept) == ("unreadable_reply", ("resp_1",))
    assert found.error.request_id == "req_1"


@pytest.mark.parametrize("fault", ["bad_key", "rate_limited", "server_error", "cut", "bad_json"])
async def test_a_question_that_was_not_answered_says_nothing_of_the_work(
    openai: OpenAIProvider, openai_double: OpenAIDouble, fault: str
) -> None:
    begun = await openai.send(a_request(settings={"background": True}))
    assert isinstance(begun, Running)
    openai_double.meet(fault)
    with pytest.raises(ProviderError):
        await openai.check(a_request(native_ref=begun.native_ref))
    assert isinstance(await openai.check(a_request(native_ref=begun.native_ref)), Done)


async def test_work_in_the_background_can_be_stopped_once_and_again(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    openai_double.meet("slow")
    begun = await openai.send(a_request(settings={"background": True}))
    assert isinstance(begun, Running)
    await openai.cancel(begun.native_ref)
    assert openai_double.last.path == f"/v1/responses/{begun.native_ref}/cancel"
    found = await openai.check(a_request(native_ref=begun.native_ref))
    assert isinstance(found, Failed)
    assert (type(found.error), found.error.error_code) == (NotSent, "response_cancelled")
    await openai.cancel(begun.native_ref)


async def test_a_call_that_is_closed_while_it_begins_work_still_brings_the_works_name() -> None:
    async with OpenAIDouble(latency=timedelta(seconds=0.3)) as double:
        provider = OpenAIProvider(sdk.AsyncOpenAI(api_key=KEY, base_url=double.base_url))
        call = asyncio.create_task(provider.send(a_request(settings={"background": True})))
        await asyncio.wait_for(double.arrived.wait(), 5)
        call.cancel()
        begun = await call
        assert isinstance(begun, Running)
        assert [begun.native_ref] == list(double.kept)
        await provider.aclose()


async def test_a_call_that_is_closed_and_hears_of_no_work_ends_as_every_other(
    openai: OpenAIProvider, openai_double: OpenAIDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "turnmill_worker.providers.openai.asking._NAMED_WITHIN", timedelta(seconds=0.05)
    )
    openai_double.meet("hang")
    call = asyncio.create_task(openai.send(a_request(settings={"background": True})))
    await asyncio.wait_for(openai_double.arrived.wait(), 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(openai_double.last.abandoned.wait(), 5)


async def test_there_is_nothing_to_stop_where_the_work_has_ended_or_is_gone(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    reply = await done(openai)
    await openai.cancel(reply.thread_ref)  # never was in the background
    openai_double.forget()
    await openai.cancel(reply.thread_ref)
    openai_double.meet("overloaded")
    with pytest.raises(Overloaded):
        await openai.cancel(reply.thread_ref)


@pytest.mark.parametrize("settings", [{"thread": "client"}, {"api": "chat"}])
async def test_only_what_the_vendor_was_given_to_keep_is_named(
    openai: OpenAIProvider, openai_double: OpenAIDouble, settings: Mapping[str, Any]
) -> None:
    assert (await done(openai, settings=settings)).kept == ()
    assert (await done(openai)).kept == tuple(openai_double.kept)
