"""The promises of every provider, put to ours; and what ours promise beyond them."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import ClassVar

import pytest

from tests.contract.rigs import MODEL, DoubleRig, MockRig, rig_of
from turnmill.domain.errors import MaybeSent, Overloaded, ProviderError, Rejected, ThreadLost
from turnmill.testing.provider_contract import Fault, ProviderContract, Rig, a_history
from turnmill_worker.providers.port import Absent, Done, Running, Unknowable


class Ours(ProviderContract):
    name: ClassVar[str]

    def rig(self) -> AbstractAsyncContextManager[Rig]:
        return rig_of(self.name)


class TestMock(Ours):
    name = "mock"


class TestMockThatKeepsTheThread(Ours):
    name = "mock-chain"


class TestOpenAI(Ours):
    name = "openai"


class TestOpenAIWithAHistoryOfOurs(Ours):
    name = "openai-client"


class TestOpenAIChatCompletions(Ours):
    name = "openai-chat"


class TestAnthropic(Ours):
    name = "anthropic"


pytestmark = pytest.mark.anyio


async def answered(rig: Rig, text: str = "Hello", **given: object) -> Done:
    reply = await rig.provider.send(rig.request(text, **given))
    assert isinstance(reply, Done)
    return reply


async def refused(rig: Rig, fault: Fault) -> ProviderError:
    await rig.meet(fault)
    with pytest.raises(ProviderError) as caught:
        await rig.provider.send(rig.request())
    return caught.value


def is_the_mock(rig: Rig) -> bool:
    return isinstance(rig, MockRig)


async def test_a_reply_says_what_it_used_and_who_said_it(rig: Rig) -> None:
    reply = await answered(rig)
    assert reply.usage.input_tokens
    assert reply.usage.output_tokens
    assert reply.finish_reason == "stop"
    assert reply.request_id
    assert reply.model == MODEL
    keeps = rig.settings == {"thread": "chain"} or (rig.kept() is not None and not rig.settings)
    assert bool(reply.thread_ref) is keeps


async def test_an_overloaded_vendor_that_is_asked_again_executes_it_once(rig: Rig) -> None:
    await rig.meet(Fault.OVERLOADED)
    request = rig.request()
    with pytest.raises(Overloaded):
        await rig.provider.send(request)
    await rig.meet(None)
    again = replace(request, attempt=2, metadata=rig.request().metadata)
    assert isinstance(await rig.provider.send(again), Done)
    assert rig.executed() == 1


async def test_every_failure_has_the_code_of_its_kind(rig: Rig) -> None:
    assert (await refused(rig, Fault.UNREADABLE)).error_code == "unreadable_reply"
    codes = {"invalid_prompt", "model_not_found", "not_found_error"}
    assert (await refused(rig, Fault.REFUSED)).error_code in codes


async def test_a_vendor_that_takes_no_connection_is_unreachable(rig: Rig) -> None:
    assert (await refused(rig, Fault.UNREACHABLE)).error_code == "unreachable"


async def test_what_was_refused_was_not_executed(rig: Rig) -> None:
    for fault in (Fault.RATE_LIMITED, Fault.OVERLOADED, Fault.REFUSED):
        await refused(rig, fault)
    assert rig.executed() == 0


@pytest.mark.parametrize("fault", [Fault.RATE_LIMITED, Fault.CUT])
async def test_the_wait_that_an_error_names_survives_pickling(rig: Rig, fault: Fault) -> None:
    import pickle

    error = await refused(rig, fault)
    assert pickle.loads(pickle.dumps(error)).retry_after == error.retry_after


@pytest.mark.parametrize("rig", ["openai"], indirect=True)
async def test_a_thread_whose_name_is_nobodys_is_lost(rig: Rig) -> None:
    with pytest.raises(ThreadLost):
        await rig.provider.send(rig.request(thread_ref="resp_gone"))
    rebuilt = await answered(rig, history=a_history(1))
    assert rig.messages_seen(rebuilt) == 2


async def test_a_turn_that_was_lost_is_found_where_its_vendor_can_be_asked(rig: Rig) -> None:
    await rig.meet(Fault.CUT)
    request = rig.request()
    with pytest.raises(MaybeSent):
        await rig.provider.send(request)
    found = await rig.provider.check(request)
    assert rig.executed() == 1
    if is_the_mock(rig):
        assert isinstance(found, Done)
    else:
        assert found == Unknowable(resend_is_safe=True)


@pytest.mark.parametrize("rig", ["mock", "openai"], indirect=True)
async def test_work_in_the_background_is_executed_once(rig: Rig) -> None:
    await rig.meet(Fault.BACKGROUND)
    request = rig.request()
    begun = await rig.provider.send(request)
    assert isinstance(begun, Running)
    found = await rig.provider.check(replace(request, native_ref=begun.native_ref))
    assert isinstance(found, Done)
    assert rig.messages_seen(found) == 0
    assert rig.executed() == 1


@pytest.mark.parametrize(
    "rig", ["openai", "openai-client", "openai-chat", "anthropic"], indirect=True
)
async def test_a_cancelled_call_hangs_up(rig: Rig) -> None:
    assert isinstance(rig, DoubleRig)
    await rig.meet(Fault.HANG)
    call = asyncio.create_task(rig.provider.send(rig.request()))
    await asyncio.wait_for(rig.double.arrived.wait(), 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(rig.double.last.abandoned.wait(), 5)
    assert rig.executed() == 0


async def test_a_setting_that_cannot_be_used_is_refused_as_such(rig: Rig) -> None:
    with pytest.raises(Rejected) as caught:
        await rig.provider.send(rig.request(settings=rig.unusable))
    assert caught.value.error_code == "setting_refused"
    assert rig.executed() == 0


async def test_an_unknown_turn_is_absent_or_cannot_be_known(rig: Rig) -> None:
    found = await rig.provider.check(rig.request())
    assert isinstance(found, Absent if is_the_mock(rig) else Unknowable)
