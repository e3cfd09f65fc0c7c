"""What every provider promises; each promise is put to each of them."""

import asyncio
import pickle
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.contract.rigs import Rig, a_history
from turnmill.domain.errors import (
    MaybeSent,
    NotSent,
    Overloaded,
    ProviderError,
    RateLimited,
    Rejected,
    ThreadLost,
)
from turnmill_worker.providers.mock.provider import messages_seen
from turnmill_worker.providers.port import Absent, Done, Part, Provider, Running, Unknowable

pytestmark = pytest.mark.anyio

SECRET = "CANARY-7f3a"


async def answered(rig: Rig, text: str = "Hello", **given: object) -> Done:
    reply = await rig.provider.send(rig.request(text, **given))
    assert isinstance(reply, Done)
    return reply


async def test_a_provider_satisfies_the_protocol(rig: Rig) -> None:
    assert isinstance(rig.provider, Provider)
    assert await rig.provider.open(rig.request().session_id, rig.settings) == ""


async def test_a_reply_says_what_was_said_what_it_used_and_who_said_it(rig: Rig) -> None:
    reply = await answered(rig)
    assert "Hello" in reply.text
    assert reply.usage.input_tokens
    assert reply.usage.output_tokens
    assert reply.finish_reason == "stop"
    assert reply.request_id
    assert reply.model == "gpt-5-mini"


async def test_the_whole_history_reaches_the_vendor(rig: Rig) -> None:
    reply = await answered(rig, history=a_history(3))
    assert messages_seen(reply.text) == 6


async def test_a_thread_goes_on_where_the_last_reply_left_it(rig: Rig) -> None:
    history: list[Part] = []
    thread_ref = ""
    for turn in range(3):
        text = f"question {turn}"
        kept = [] if rig.keeps_threads and thread_ref else history
        reply = await answered(rig, text, history=kept, thread_ref=thread_ref)
        assert messages_seen(reply.text) == 2 * turn
        assert bool(reply.thread_ref) is rig.keeps_threads
        thread_ref = reply.thread_ref
        history += [Part("user", text), Part("assistant", reply.text)]


@pytest.mark.parametrize("rig", ["mock-chain", "openai"], indirect=True)
async def test_a_lost_thread_is_told_and_can_be_rebuilt_from_the_history(rig: Rig) -> None:
    first = await answered(rig)
    if rig.double is None:
        rig.meet("thread_lost")
    lost = replace(rig.request("Again"), thread_ref=first.thread_ref)
    if rig.double is not None:
        lost = replace(lost, thread_ref="resp_gone")
    with pytest.raises(ThreadLost):
        await rig.provider.send(lost)
    rebuilt = await rig.provider.send(replace(lost, thread_ref="", history=a_history(1)))
    assert isinstance(rebuilt, Done)
    assert messages_seen(rebuilt.text) == 2


async def test_a_thread_that_is_kept_elsewhere_is_never_answered_without_its_history(
    rig: Rig,
) -> None:
    with pytest.raises(ThreadLost):
        await rig.provider.send(rig.request(thread_ref="thread-of-another-vendor"))
    assert rig.executed() == 0


async def test_a_rate_limit_names_the_wait_and_nothing_was_executed(rig: Rig) -> None:
    rig.meet("rate_limited")
    with pytest.raises(RateLimited) as caught:
        await rig.provider.send(rig.request())
    assert caught.value.retry_after == timedelta(seconds=7)
    assert rig.executed() == 0


async def test_an_overloaded_vendor_is_asked_again(rig: Rig) -> None:
    rig.meet("overloaded", "ok")
    request = rig.request()
    with pytest.raises(Overloaded):
        await rig.provider.send(request)
    assert isinstance(await rig.provider.send(replace(request, attempt=2)), Done)
    assert rig.executed() == 1


async def test_a_vendor_that_cannot_be_reached_was_sent_nothing(rig: Rig) -> None:
    if rig.double is None:
        rig.meet("unreachable")
    else:
        await rig.double.stop()
    with pytest.raises(NotSent) as caught:
        await rig.provider.send(rig.request())
    assert caught.value.code == "unreachable"


async def test_an_answer_that_did_not_arrive_whole_may_have_been_executed(rig: Rig) -> None:
    rig.meet("cut")
    with pytest.raises(MaybeSent):
        await rig.provider.send(rig.request())


async def test_an_answer_that_arrived_and_cannot_be_read_is_not_bought_again(rig: Rig) -> None:
    rig.meet("bad_json")
    with pytest.raises(Rejected) as caught:
        await rig.provider.send(rig.request())
    assert caught.value.error_code == "unreadable_reply"


async def test_a_request_that_the_vendor_refuses_is_not_tried_again(rig: Rig) -> None:
    rig.meet("rejected" if rig.double is None else "no_such_model")
    with pytest.raises(Rejected) as caught:
        await rig.provider.send(rig.request())
    assert caught.value.error_code in {"invalid_prompt", "model_not_found", "not_found_error"}
    assert rig.executed() == 0


@pytest.mark.parametrize("fault", ["rate_limited", "cut", "bad_json", "overloaded"])
async def test_an_error_survives_pickling_and_carries_no_message_of_the_user(
    rig: Rig, fault: str
) -> None:
    rig.meet(fault)
    with pytest.raises(ProviderError) as caught:
        await rig.provider.send(rig.request(SECRET))
    error = caught.value
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.error_code) == (type(error), error.error_code)
    assert copy.retry_after == error.retry_after
    assert SECRET not in f"{error!r} {error} {error.hint}"
    assert error.__cause__ is None
    assert error.__context__ is None  # a vendor's exception quotes what it was sent


async def test_looking_for_a_lost_turn_executes_nothing(rig: Rig) -> None:
    rig.meet("cut")
    request = rig.request()
    with pytest.raises(MaybeSent):
        await rig.provider.send(request)
    executed = rig.executed()
    found = await rig.provider.check(request)
    assert rig.executed() == executed == 1
    if rig.double is None:
        assert isinstance(found, Done)
    else:
        assert found == Unknowable(resend_is_safe=True)


@pytest.mark.parametrize("rig", ["mock", "openai"], indirect=True)
async def test_work_in_the_background_is_looked_up_until_it_is_done(rig: Rig) -> None:
    if rig.double is None:
        rig.meet("running")
        request = rig.request()
    else:
        request = rig.request(settings={"background": True})
    begun = await rig.provider.send(request)
    assert isinstance(begun, Running)
    found = await rig.provider.check(replace(request, native_ref=begun.native_ref))
    assert isinstance(found, Done)
    assert messages_seen(found.text) == 0
    assert rig.executed() <= 2  # one turn, and for OpenAI one look


async def test_a_thread_that_is_gone_can_be_closed(rig: Rig) -> None:
    reply = await answered(rig)
    await rig.provider.close(reply.thread_ref)
    await rig.provider.close(reply.thread_ref)


async def test_what_is_emitted_makes_up_the_reply(rig: Rig) -> None:
    pieces: list[str] = []

    async def emit(piece: str) -> None:
        pieces.append(piece)

    reply = await rig.provider.send(rig.request("Some  words\nhere"), emit)
    assert isinstance(reply, Done)
    assert "".join(pieces) == reply.text


async def test_a_cancelled_call_ends_at_once_and_hangs_up(rig: Rig) -> None:
    rig.meet("hang")
    call = asyncio.create_task(rig.provider.send(rig.request()))
    if rig.double is not None:
        await asyncio.wait_for(rig.double.arrived.wait(), 5)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    if rig.double is not None:
        await asyncio.wait_for(rig.double.last.abandoned.wait(), 5)
    assert rig.executed() == 0


async def test_fifty_calls_at_once_each_get_their_own_reply(rig: Rig) -> None:
    replies = await asyncio.gather(*(answered(rig, f"number {n}.") for n in range(50)))
    assert all(f"number {n}." in reply.text for n, reply in enumerate(replies))
    assert rig.executed() == 50


async def test_a_setting_that_cannot_be_used_is_refused_before_anything_is_sent(rig: Rig) -> None:
    if rig.double is None:
        settings: dict[str, object] = {"mock": {"faults": ["no such fault"]}}
    else:
        settings = {"thread": "no such kind"}
    with pytest.raises(Rejected) as caught:
        await rig.provider.send(rig.request(settings=settings))
    assert caught.value.error_code == "setting_refused"
    assert rig.executed() == 0


async def test_a_provider_can_be_closed_twice(rig: Rig) -> None:
    await answered(rig)
    await rig.provider.aclose()
    await rig.provider.aclose()


async def test_an_unknown_turn_is_absent_or_cannot_be_known(rig: Rig) -> None:
    found = await rig.provider.check(rig.request())
    assert isinstance(found, Absent if rig.double is None else Unknowable)
