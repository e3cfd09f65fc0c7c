"""Two hundred usages, as vendors write them, cost what their price pages say, to the last digit.

The rates were copied from these pages by hand: nothing here asks a price list.
"""

import json
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from itertools import product
from typing import Any, NamedTuple

import pytest

from tests.doubles import streams
from tests.doubles.raw_vendor import SETTINGS, RawVendor, http, stream
from tests.doubles.whole_turn import Books, run_to_end
from turnmill.store.records import Settlement

pytestmark = pytest.mark.anyio


class Rates(NamedTuple):
    """US dollars for a million tokens."""

    fresh: str
    cached: str
    output: str
    written: str = ""
    written_1h: str = ""


#: https://developers.openai.com/api/docs/pricing
OPENAI = {
    ("gpt-5", "default"): Rates("1.25", "0.125", "10"),
    ("gpt-5", "flex"): Rates("0.625", "0.0625", "5"),
    ("gpt-5", "batch"): Rates("0.625", "0.0625", "5"),
    ("gpt-5", "priority"): Rates("2.5", "0.25", "20"),
    ("gpt-5-mini", "default"): Rates("0.25", "0.025", "2"),
    ("gpt-5-mini", "flex"): Rates("0.125", "0.0125", "1"),
    ("gpt-5-mini", "batch"): Rates("0.125", "0.0125", "1"),
    ("gpt-5-mini", "priority"): Rates("0.45", "0.045", "3.6"),
    ("gpt-4o-mini", "default"): Rates("0.15", "0.075", "0.6"),
    ("gpt-4o-mini", "priority"): Rates("0.25", "0.125", "1"),
    ("gpt-4.1", "default"): Rates("2", "0.5", "8"),
    ("gpt-4.1", "priority"): Rates("3.5", "0.875", "14"),
    ("o3", "default"): Rates("2", "0.5", "8"),
    ("o3", "flex"): Rates("1", "0.25", "4"),
}
#: https://platform.claude.com/docs/en/about-claude/pricing
ANTHROPIC = {
    ("claude-sonnet-4-5", "standard"): Rates("3", "0.3", "15", "3.75", "6"),
    ("claude-sonnet-4-5", "batch"): Rates("1.5", "0.15", "7.5", "1.875", "3"),
    ("claude-haiku-4-5", "standard"): Rates("1", "0.1", "5", "1.25", "2"),
    ("claude-haiku-4-5", "batch"): Rates("0.5", "0.05", "2.5", "0.625", "1"),
    ("claude-opus-4-5", "standard"): Rates("5", "0.5", "25", "6.25", "10"),
    ("claude-opus-4-5", "batch"): Rates("2.5", "0.25", "12.5", "3.125", "5"),
}


class Used(NamedTuple):
    """What a call has used, each token once."""

    fresh: int
    cached: int
    output: int
    thought: int = 0  #: of the output
    written: int = 0  #: for minutes
    written_1h: int = 0


class Case(NamedTuple):
    api: str
    shape: str
    model: str
    tier: str
    rates: Rates
    used: Used

    @property
    def cost(self) -> Decimal:
        """Return what it comes to: each token at its rate."""
        terms = (
            (self.used.fresh, self.rates.fresh),
            (self.used.cached, self.rates.cached),
            (self.used.output, self.rates.output),
            (self.used.written, self.rates.written or "0"),
            (self.used.written_1h, self.rates.written_1h or "0"),
        )
        return sum((count * Decimal(rate) for count, rate in terms), Decimal(0)) / 1_000_000


#: No cache, some of it, all but a few; with thoughts and without.
OF_OPENAI = (
    Used(1_000, 0, 500),
    Used(1_000, 0, 500, thought=448),
    Used(399, 1_024, 128),
    Used(7, 130_048, 2_000, thought=1_984),
)
#: The first is the one that most have booked wrongly: 130,213 tokens, of which five were new.
OF_ANTHROPIC = (
    Used(5, 128_955, 700, written=1_253),
    Used(5, 128_955, 700, written=1_000, written_1h=253),
    Used(2_000, 0, 300),
    Used(12, 0, 300, thought=250, written=4_000),
    Used(12, 4_000, 300, written_1h=2_048),
    Used(3, 150_000, 64),
)


def of_responses(case: Case) -> dict[str, Any]:
    used, told = case.used, case.used.fresh + case.used.cached
    usage = {
        "input_tokens": told,
        "input_tokens_details": {"cached_tokens": used.cached},
        "output_tokens": used.output,
        "output_tokens_details": {"reasoning_tokens": used.thought},
        "total_tokens": told + used.output,
    }
    if case.shape == "bare" and not used.cached:
        usage = {"input_tokens": told, "output_tokens": used.output}
    if case.shape == "nulls" and not used.cached:
        usage |= {"input_tokens_details": None, "output_tokens_details": None}
    said = {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "Hi"}]}
    head = {"id": "resp_1", "status": "completed", "model": case.model, "output": [said]}
    return {**head, "service_tier": case.tier, "usage": usage}


def of_chat(case: Case) -> dict[str, Any]:
    used, told = case.used, case.used.fresh + case.used.cached
    said, thought = used.output, used.thought
    if case.shape == "apart":  # as servers do that count thoughts beside the words
        said -= thought
    usage: dict[str, Any] = {
        "prompt_tokens": told,
        "completion_tokens": said,
        "total_tokens": told + used.output,
        "prompt_tokens_details": {"cached_tokens": used.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    if case.shape == "hits":  # as servers do that tell what was found from what was not
        del usage["prompt_tokens_details"]
        usage |= {"prompt_cache_hit_tokens": used.cached, "prompt_cache_miss_tokens": used.fresh}
    if case.shape == "floats":
        usage |= {"prompt_tokens": float(told), "completion_tokens": float(said)}
    choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "model": case.model, "service_tier": case.tier}
    return {**head, "choices": [choice], "usage": usage}


def of_messages(case: Case) -> dict[str, Any]:
    used = case.used
    written = used.written + used.written_1h
    usage: dict[str, Any] = {
        "input_tokens": used.fresh,
        "cache_read_input_tokens": used.cached,
        "cache_creation_input_tokens": written,
        "cache_creation": {
            "ephemeral_5m_input_tokens": used.written,
            "ephemeral_1h_input_tokens": used.written_1h,
        },
        "output_tokens": used.output,
        "output_tokens_details": {"thinking_tokens": used.thought},
        "server_tool_use": {"web_search_requests": 0},
        "service_tier": case.tier,
        "inference_geo": "not_available",
    }
    if case.shape == "nulls" and not used.written_1h:
        usage |= {"cache_creation": None, "server_tool_use": None, "inference_geo": None}
    if case.shape == "parts":
        del usage["cache_creation_input_tokens"]
    content = [{"type": "text", "text": "Hi"}]
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": case.model}
    return {**head, "content": content, "stop_reason": "end_turn", "usage": usage}


BODIES = {"responses": of_responses, "chat": of_chat, "messages": of_messages}
SHAPES = {
    "responses": ("whole", "stream", "bare", "nulls"),
    "chat": ("whole", "stream", "apart", "hits", "floats"),
    "messages": ("whole", "stream", "nulls", "parts"),
}


def cases() -> Iterator[Case]:
    for (model, tier), used in product(ANTHROPIC, OF_ANTHROPIC):
        for number, shape in enumerate(SHAPES["messages"]):
            if number < 2 or used in OF_ANTHROPIC[:3]:
                yield Case("messages", shape, model, tier, ANTHROPIC[model, tier], used)
    for (model, tier), used in product(OPENAI, OF_OPENAI):
        for api in ("responses", "chat"):
            number = len(model) + len(tier) + OF_OPENAI.index(used)
            shape = SHAPES[api][number % len(SHAPES[api])]
            yield Case(api, shape, model, tier, OPENAI[model, tier], used)


CASES = list(cases())


def events_of(case: Case) -> list[Any]:
    body = BODIES[case.api](case)
    if case.api == "responses":
        return [*streams.response_events(body)]
    if case.api == "messages":
        return [*streams.message_events(body)]
    return streams.chat_events(body)


@pytest.fixture
async def vendor() -> AsyncIterator[RawVendor]:
    async with RawVendor() as vendor:
        yield vendor


async def booked(vendor: RawVendor, case: Case) -> Settlement:
    provider = vendor.provider(case.api)
    if case.shape == "stream":
        vendor.meet(stream([streams.written(one) for one in events_of(case)]))
    else:
        vendor.meet(http(BODIES[case.api](case)))
    options: dict[str, Any] = {"settings": SETTINGS[case.api], "stream": case.shape == "stream"}
    try:
        return await run_to_end(provider, Books(), model="asked-for", **options)
    finally:
        await provider.aclose()


async def test_two_hundred_usages_cost_what_they_come_to_by_hand(vendor: RawVendor) -> None:
    assert len(CASES) >= 200
    wrong = []
    for case in CASES:
        found = await booked(vendor, case)
        told = case.used.fresh + case.used.cached + case.used.written + case.used.written_1h
        tokens = (found.input_tokens, found.cached_tokens, found.output_tokens)
        if (found.cost_usd, *tokens) != (case.cost, told, case.used.cached, case.used.output):
            wrong.append((case, found.cost_usd, tokens))
    assert wrong == []


async def test_five_new_tokens_among_130213_are_counted_once(vendor: RawVendor) -> None:
    rates = ANTHROPIC["claude-sonnet-4-5", "standard"]
    case = Case("messages", "whole", "claude-sonnet-4-5", "standard", rates, OF_ANTHROPIC[0])
    found = await booked(vendor, case)
    assert found.input_tokens == 130_213
    assert (found.cached_tokens, found.cache_write_tokens) == (128_955, 1_253)
    # 5 × 3 + 128,955 × 0.30 + 1,253 × 3.75 + 700 × 15, for a million
    assert found.cost_usd == Decimal("0.05390025")
    assert found.usage is not None
    assert json.loads(found.usage)[0]["usage"]["cache_read_input_tokens"] == 128_955


async def test_what_a_model_hears_and_speaks_itself_costs_what_sound_does(
    vendor: RawVendor,
) -> None:
    usage = {
        "prompt_tokens": 1_000,
        "prompt_tokens_details": {"audio_tokens": 900, "text_tokens": 100, "cached_tokens": 0},
        "completion_tokens": 200,
        "completion_tokens_details": {"audio_tokens": 150, "text_tokens": 50},
        "total_tokens": 1_200,
    }
    message = {"content": None, "audio": {"id": "audio_1", "data": "AAAA", "transcript": "Hi"}}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    payload = {"id": "chatcmpl-1", "model": "gpt-audio", "choices": [choice], "usage": usage}
    provider = vendor.provider("chat")
    vendor.meet(http(payload))
    found = await run_to_end(provider, Books(), model="gpt-audio", settings=SETTINGS["chat"])
    await provider.aclose()
    assert found.text == "Hi"  # the words of what was spoken
    # 100 × 2.50 + 900 × 32 + 50 × 10 + 150 × 64, for a million
    assert found.cost_usd == Decimal("0.03915")
