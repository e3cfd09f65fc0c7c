"""What a conversation says again is read from the vendor's cache, and nothing else is changed."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.contract.rigs import a_history, a_request
from tests.doubles import anthropic_server, openai_server
from tests.doubles.charging import ChargingAnthropic, ChargingOpenAI, tokens
from tests.doubles.raw_vendor import RawVendor, http
from tests.doubles.whole_turn import Books, run_to_end
from tests.ledgers import stored
from tests.validators import anthropic_messages
from turnmill.domain.content import Message, Native, Text, ToolCall, ToolOutput
from turnmill.domain.ids import SessionId
from turnmill.domain.states import OnAmbiguous
from turnmill.store.records import Settlement
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Provider, ToolOffer
from turnmill_worker.turn.gauge import Gauge
from turnmill_worker.turn.in_hand import InHand

logger = logging.getLogger(__name__)

pytestmark = pytest.mark.anyio

TURNS = 40
Charging = ChargingAnthropic | ChargingOpenAI
APIS: dict[str, dict[str, Any]] = {
    "messages": {},
    "messages in a thread": {"thread": "chain"},
    "chain": {},
    "responses": {"thread": "client"},
    "chat": {"api": "chat"},
}


@asynccontextmanager
async def charging(api: str) -> AsyncIterator[tuple[Provider, Charging]]:
    """Give a provider whose vendor charges as the real one does, and that."""
    if api.startswith("messages"):
        async with ChargingAnthropic() as double:
            key = anthropic_server.KEY
            sdk = AsyncAnthropic(api_key=key, base_url=double.base_url)
            yield AnthropicProvider(sdk), double
    else:
        async with ChargingOpenAI() as vendor:
            key = openai_server.KEY
            yield OpenAIProvider(AsyncOpenAI(api_key=key, base_url=vendor.base_url)), vendor


def message(number: int) -> str:
    """Return a message of 300 tokens, unlike any other."""
    text = f"question {number}: " + " ".join(f"word{n * number % 977}" for n in range(200))
    assert tokens(text[:1200]) == 300
    return text[:1200]


async def talk(api: str, **settings: Any) -> list[Settlement]:
    books, session_id = Books(), SessionId(uuid4())
    async with charging(api) as (provider, _):
        ref = ""
        for number in range(1, TURNS + 1):
            said = Message.of("user", message(number))
            reply = await run_to_end(
                provider,
                books,
                settings=APIS[api] | settings,
                model="claude-sonnet-4-5" if api.startswith("messages") else "gpt-5-mini",
                system_prompt="Be brief.",
                messages=[said],
                history=stored([] if ref else books.past),
                provider_ref=ref,
                session_id=session_id,
            )
            ref = reply.provider_ref or ""
            books.past += [said, *reply.replies]
        await provider.aclose()
    return books.settled


def share(settled: list[Settlement]) -> float:
    told = sum(one.input_tokens or 0 for one in settled)
    return sum(one.cached_tokens or 0 for one in settled) / told


@pytest.mark.parametrize("api", APIS)
async def test_of_forty_turns_nine_tenths_of_what_is_sent_are_read_from_the_cache(api: str) -> None:
    settled = await talk(api)
    assert len(settled) == TURNS
    assert share(settled) >= 0.9


@pytest.mark.parametrize("api", ["messages", "responses"])
async def test_a_session_that_wants_no_cache_has_none(api: str) -> None:
    assert share(await talk(api, prompt_cache="off")) == 0


async def cancelled(
    turn: Coroutine[Any, Any, Settlement], double: Charging, in_hand: InHand
) -> Settlement:
    """Run a turn, and cancel it when nothing more of its reply comes."""
    running = asyncio.create_task(turn)
    await double.arrived.wait()
    await double.last.stalled.wait()
    in_hand.cancelled(in_hand.pairs())
    return await running


async def booked_and_billed(api: str, *, cuts: int) -> tuple[Decimal, Decimal]:
    """Return what was written down of conversations, many of whose replies are cut, and the bill.

    Of five replies two come whole, two are cut, and one is cancelled while it comes.
    """
    books, gauge, chance, in_hand = Books(), Gauge(), Random(7), InHand()
    async with charging(api) as (provider, double):
        double.says = lambda _: message(chance.randrange(1000))
        model = "claude-sonnet-4-5" if api == "messages" else "gpt-5-mini"
        for number in range(cuts):
            if number % 20 == 0:
                books.past, session_id = [], SessionId(uuid4())
            is_cut, is_cancelled = number % 5 > 1, number % 5 == 4
            how = "stall" if is_cancelled else "cut"
            double.meet(f"stream_{how}:{chance.randrange(3, 60)}" if is_cut else "ok")
            double.arrived.clear()
            said = Message.of("user", message(chance.randrange(1000)))
            turn = run_to_end(
                provider,
                books,
                gauge=gauge,
                in_hand=in_hand,
                settings=APIS[api],
                model=model,
                messages=[said],
                history=stored(books.past),
                session_id=session_id,
                stream=True,
                on_ambiguous=OnAmbiguous.RETRY,
                max_attempts=1,
            )
            reply = await (cancelled(turn, double, in_hand) if is_cancelled else turn)
            assert (reply.estimated, reply.state == "cancelled") == (is_cut, is_cancelled)
            books.past += [said, *reply.replies] if not is_cut else []
        await provider.aclose()
    booked = sum((one.cost_usd or Decimal(0) for one in books.settled), Decimal(0))
    return booked * 1_000_000, double.bill


@pytest.mark.parametrize("api", ["messages", "responses", "chat"])
async def test_calls_that_are_cut_are_booked_within_a_twentieth_of_the_bill(api: str) -> None:
    booked, billed = await booked_and_billed(api, cuts=60)
    assert abs(booked - billed) <= billed / 20, booked / billed


@pytest.mark.long
@pytest.mark.parametrize("api", ["messages", "chat"])
async def test_a_thousand_of_them_too(api: str) -> None:
    booked, billed = await booked_and_billed(api, cuts=1000)
    logger.info("booked %s of what was billed", booked / billed)
    assert abs(booked - billed) <= billed / 20


WEATHER = ToolOffer(name="weather", parameters={"type": "object", "properties": {}})


def marked(body: dict[str, Any]) -> list[str]:
    """Return what breakpoints stand on: each kind of place, in the vendor's order."""
    found = ["tools" for one in body.get("tools", ()) if "cache_control" in one]
    found += ["system" for one in body.get("system", ()) if "cache_control" in one]
    for place, said in enumerate(body["messages"]):
        blocks = said["content"] if isinstance(said["content"], list) else []
        found += [f"{place}" for one in blocks if "cache_control" in one]
    return found


def body_of(**given: Any) -> dict[str, Any]:
    body = messages.body_of(a_request(**given))
    assert anthropic_messages.violations(body) == []
    return body


def test_breakpoints_stand_after_tools_and_system_and_at_this_tail_and_the_last_one() -> None:
    body = body_of(tools=[WEATHER], system_prompt="Be brief.", history=a_history(3))
    assert marked(body) == ["tools", "system", "4", "6"]
    assert marked(body_of()) == ["0"]


def test_a_round_of_many_tools_begins_where_the_last_request_ended() -> None:
    calls = [ToolCall(id=f"c{n}", name="weather", arguments="{}") for n in range(30)]
    outputs = [Message("tool", [ToolOutput(call_id=one.id, output="21")]) for one in calls]
    said = [Message.of("user", "Where?"), Message("assistant", calls), *outputs]
    body = body_of(tools=[WEATHER], messages=said)
    assert marked(body) == ["tools", "0", "2"]


def test_what_is_said_again_is_the_same_with_a_breakpoint_and_without() -> None:
    first = body_of(system_prompt="Be brief.", history=a_history(1))
    again = body_of(system_prompt="Be brief.", history=a_history(4))
    plain = [
        [
            {name: value for name, value in block.items() if name != "cache_control"}
            if isinstance(block, dict)
            else block
            for block in said["content"]
        ]
        for body in (first, again)
        for said in body["messages"][:2]
    ]
    assert plain[:2] == plain[2:]


def test_an_hour_is_asked_for_by_its_setting_and_words_of_a_session_s_own_stay_alone() -> None:
    body = body_of(settings={"prompt_cache": "1h"}, system_prompt="Be brief.")
    assert body["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert "prompt_cache" not in body
    source = {"type": "text", "media_type": "text/plain", "data": "x"}
    own = {"type": "document", "source": source, "cache_control": {"type": "ephemeral"}}
    native = Native(provider="anthropic", api="messages", item=json.dumps(own))
    before = [Message.of("user", "Read!"), Message("assistant", [native, Text("I have.")])]
    assert marked(messages.body_of(a_request(history=before, system_prompt="Be brief."))) == ["1"]
    assert marked(body_of(settings={"cache_control": {"type": "ephemeral"}})) == []


def test_what_a_batch_says_once_is_kept_where_others_begin_alike_and_no_further() -> None:
    body = body_of(is_single=True, system_prompt="Be brief.", tools=[WEATHER])
    assert marked(body) == ["tools", "system"]


async def test_a_server_that_knows_no_key_is_asked_without_it_and_not_told_of_it_again() -> None:
    refusal = {"error": {"message": "property 'prompt_cache_key' is unsupported"}}
    reply = {"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]}
    request = a_request(settings={"api": "chat"})
    async with RawVendor() as vendor:
        provider = vendor.provider("chat")
        vendor.meet(http(refusal, status=400), http(reply))
        await provider.send(request)
        assert ["prompt_cache_key" in body for body in vendor.bodies] == [True, False]
        vendor.meet(http(reply))
        await provider.send(request)
        assert ["prompt_cache_key" in body for body in vendor.bodies] == [False]
        await provider.aclose()


async def test_a_server_that_takes_no_breakpoints_is_asked_without_them_from_then_on() -> None:
    wrong = "messages.0.content.0.cache_control: Extra inputs are not permitted"
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": wrong}}
    content = [{"type": "text", "text": "Paris"}]
    reply = {"type": "message", "content": content, "stop_reason": "end_turn"}
    async with RawVendor() as vendor:
        provider = vendor.provider("messages")
        vendor.meet(http(refusal, status=400), http(reply))
        await provider.send(a_request())
        assert [marked(body) for body in vendor.bodies] == [["0"], []]
        vendor.meet(http(reply))
        await provider.send(a_request())
        assert [marked(body) for body in vendor.bodies] == [[]]
        await provider.aclose()


async def test_a_session_s_requests_have_one_key_unless_it_has_its_own() -> None:
    reply = {"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]}
    own = {"api": "chat", "prompt_cache_key": "mine"}
    async with RawVendor() as vendor:
        provider = vendor.provider("chat")
        vendor.meet(http(reply))
        first, other = a_request(settings={"api": "chat"}), a_request(settings=own)
        once = replace(first, is_single=True)
        for request in (first, replace(first, attempt=2), other, once):
            await provider.send(request)
        keys = [body.get("prompt_cache_key") for body in vendor.bodies]
        assert keys == [str(first.session_id), str(first.session_id), "mine", None]
        await provider.aclose()
