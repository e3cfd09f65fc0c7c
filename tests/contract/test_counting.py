"""What a call may take is never less than its vendor counts, and not many times more."""

import json
import string
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.claims import a_claim
from tests.doubles import anthropic_server, openai_server
from tests.doubles.charging import ChargingAnthropic, ChargingOpenAI
from turnmill.domain.content import Audio, Message, Native, Text, ToolCall, ToolOutput
from turnmill.domain.counting import most_tokens
from turnmill.store.codec import StoredHistory, content_of
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.counting import MOST_OUTPUT, input_bound, most_cost, most_of
from turnmill_worker.providers.mock.provider import MockProvider
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.own_prices import Prices, prices_in
from turnmill_worker.providers.port import Request, ToolOffer, Usage
from turnmill_worker.providers.pricing import price
from turnmill_worker.turn.attempt import request_of

PROSE = (
    "The rain had stopped before noon, and the streets of the town, which are narrow and steep,"
    " shone in the light that came between the clouds. Nobody was about but the baker's boy. "
)


def a_request(text: str = "hello", **options: Any) -> Request:
    from dataclasses import replace

    made = request_of(a_claim(messages=[Message.of("user", text)]))
    return replace(made, **options)


@given(
    st.lists(st.text(max_size=200), min_size=1, max_size=5),
    st.integers(min_value=0, max_value=400),
    st.booleans(),
)
def test_the_mock_counts_beforehand_what_it_counts_afterwards(
    said: list[str], limit: int, limited: bool
) -> None:
    import asyncio

    mock = MockProvider()
    history = [Message.of("user", one) for one in said]
    settings = {"max_output_tokens": limit} if limited else {}
    request = a_request(said[0], history=history, system_prompt=said[-1], settings=settings)
    done = asyncio.run(mock.send(request))
    assert done is not None
    usage, most = done.usage, mock.most(request, ())  # type: ignore[union-attr]
    assert most.input_tokens == usage.input_tokens
    assert most.output_tokens is not None and usage.output_tokens is not None
    assert usage.output_tokens <= most.output_tokens <= max(limit, usage.output_tokens)


def test_a_mock_that_may_say_little_says_no_more() -> None:
    import asyncio

    done = asyncio.run(MockProvider().send(a_request("x" * 150, settings={"max_output_tokens": 5})))
    assert done.usage.output_tokens == 5  # type: ignore[union-attr]
    assert done.finish_reason == "length"  # type: ignore[union-attr]


@given(st.text(max_size=500))
def test_no_text_has_more_tokens_than_bytes(text: str) -> None:
    bound = most_tokens([Message.of("user", text)])
    assert bound is not None and bound >= len(text.encode(errors="surrogatepass"))


def test_english_prose_is_counted_five_times_at_the_most() -> None:
    text = PROSE * 50
    bound = most_tokens([Message.of("user", text)])
    words = len(text.split())  # each is a token at the least
    assert bound is not None and words < bound < 6 * words


def test_tools_calls_outputs_and_items_of_a_vendor_count() -> None:
    tool = ToolOffer(name="weather", description="d" * 100, parameters={"type": "object"})
    bare = input_bound(a_request())
    offered = input_bound(a_request(tools=(tool,), output_schema={"type": "object"}))
    assert bare is not None and offered is not None and offered > bare + 1_000
    said = [
        Message("assistant", (ToolCall(id="1", name="w", arguments="a" * 300),)),
        Message("tool", (ToolOutput(call_id="1", output="o" * 300),)),
        Message("assistant", (Native(provider="openai", item="i" * 300),)),
    ]
    with_calls = input_bound(a_request(history=said))
    assert with_calls is not None and with_calls > bare + 900
    thread = input_bound(a_request(), said)
    assert thread == with_calls


@given(st.lists(st.text(min_size=1, max_size=50), max_size=5), st.booleans())
def test_a_history_as_the_store_returned_it_counts_as_its_messages_do(
    said: list[str], calls: bool
) -> None:
    history = [Message.of("user", one) for one in said]
    if calls:
        history.append(Message("assistant", (ToolCall(id="1", name="w", arguments="{}"),)))
    stored = StoredHistory.of_rows((one.role, content_of(one.parts)) for one in history)
    assert input_bound(a_request(history=stored)) == input_bound(a_request(history=history))


def openai() -> OpenAIProvider:
    return OpenAIProvider.__new__(OpenAIProvider)


def anthropic() -> AnthropicProvider:
    return AnthropicProvider.__new__(AnthropicProvider)


def test_what_a_vendor_may_say_is_what_it_is_told() -> None:
    told = {"max_output_tokens": 77}
    assert most_of(openai(), a_request(settings=told), ()).output_tokens == 77
    assert most_of(openai(), a_request(model="o9"), ()).output_tokens == MOST_OUTPUT
    chat = {"api": "chat", "max_completion_tokens": 55}
    assert most_of(openai(), a_request(settings=chat), ()).output_tokens == 55
    assert most_of(anthropic(), a_request(settings=told), ()).output_tokens == 77
    default = most_of(anthropic(), a_request(), ()).output_tokens
    assert default == messages.DEFAULT_MAX_TOKENS == messages.body_of(a_request())["max_tokens"]
    given_ = {"max_tokens": 11, "max_output_tokens": 77}
    assert most_of(anthropic(), a_request(settings=given_), ()).output_tokens == 11


def test_the_reasoning_of_earlier_steps_is_read_again_in_a_chain() -> None:
    first = a_request(thread_ref="resp_1", settings={"max_output_tokens": 1_000})
    later = a_request(thread_ref="resp_1", step=3, settings={"max_output_tokens": 1_000})
    before, after = (most_of(openai(), one, ()).input_tokens for one in (first, later))
    assert before is not None and after == before + 2_000


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-1"])
def test_the_most_is_that_of_the_dearest_kind_of_input(model: str) -> None:
    request = a_request("x" * 10_000, settings={"max_output_tokens": 100})
    most = most_of(anthropic(), request, ())
    told = most.input_tokens
    assert told is not None
    found = most_cost(price, "anthropic", model, most)
    assert found is not None
    for usage in (
        Usage(input_tokens=told, output_tokens=100),
        Usage(input_tokens=told, output_tokens=100, cached_tokens=told),
        Usage(input_tokens=told, output_tokens=100, cache_write_tokens=told),
    ):
        cost = price("anthropic", model, usage)
        assert cost is not None and cost <= found
    hour = a_request(settings={"cache_control": {"type": "ephemeral", "ttl": "1h"}})
    assert most_of(anthropic(), hour, ()).cache_write_1h_tokens


@pytest.mark.parametrize(
    ("settings", "told", "dollars"),
    [
        ({}, Audio(id="q"), "4.11"),  # 128,000 × 32 + 1,000 × 10, for a million
        ({}, Audio(id="q", is_told=True), None),
        ({"modalities": ["text", "audio"]}, Audio(id="q"), "4.16"),
    ],
)
def test_of_sound_that_a_model_hears_or_speaks_itself_the_most_is_what_sound_costs(
    settings: dict[str, Any], told: Audio, dollars: str | None
) -> None:
    said = [Message("user", [Text("What is said?"), told])]
    settings = {"api": "chat", "max_output_tokens": 1_000, **settings}
    request = a_request(messages=said, settings=settings, model="gpt-audio")
    most = most_of(openai(), request, ())
    cost = most_cost(price, "openai", "gpt-audio", most)
    assert cost is not None
    assert (most.audio_tokens != 0) == (dollars is not None)
    if dollars is not None:
        assert round(cost, 2) == Decimal(dollars)


def test_sound_that_the_standard_tier_serves_in_place_of_a_cheaper_one_is_within_the_most() -> None:
    def dearest(_provider: str, _model: str, usage: Usage) -> Decimal:
        of_sound = 4 if usage.service_tier else 8
        return Decimal(of_sound * (usage.audio_tokens or 0) + usage.input_tokens)  # type: ignore[operator]

    most = Usage(input_tokens=10, output_tokens=1, audio_tokens=10, service_tier="flex")
    assert most_cost(dearest, "openai", "gpt-audio", most) == 90


def test_a_model_or_tier_that_nobody_prices_has_no_most() -> None:
    most = most_of(openai(), a_request(settings={"service_tier": "platinum"}), ())
    assert most_cost(price, "openai", "gpt-5", most) is None
    assert most_cost(price, "openai", "unheard-of", most_of(openai(), a_request(), ())) is None


def _listed(vendor: str) -> list[str]:
    from genai_prices.data import providers

    return [model.id for one in providers if one.id == vendor for model in one.models]


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
@pytest.mark.parametrize("told", [1, 199_999, 272_001])
@pytest.mark.parametrize("tier", ["", "priority"])
def test_of_no_listed_model_a_call_can_cost_more_than_its_most(
    vendor: str, told: int, tier: str
) -> None:
    said = 4_000
    most = Usage(input_tokens=told, output_tokens=said, cache_write_tokens=told, service_tier=tier)
    for model in _listed(vendor):
        found = most_cost(price, vendor, model, most)
        for kept, thought, served in product((0, told), (0, said), ("", tier)):
            usage = Usage(
                input_tokens=told,
                output_tokens=said,
                cache_write_tokens=kept,
                reasoning_tokens=thought,
                service_tier=served,
            )
            cost = price(vendor, model, usage)
            assert found is None or cost is None or cost <= found


def test_where_reading_costs_more_than_keeping_that_is_the_most(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"openai/*": {"input": 3, "output": 0, "cache_write": 1}}')
    most = Usage(input_tokens=1_000_000, output_tokens=0, cache_write_tokens=1_000_000)
    assert most_cost(prices_in(file, Prices()).price, "openai", "m", most) == 3


def test_where_words_cost_more_than_sound_they_are_the_most(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    rates = {"input": 3, "output": 2, "audio_input": 1, "audio_output": 4}
    file.write_text(json.dumps({"openai/*": rates}))
    all_of_it = Usage(
        input_tokens=1_000_000,
        output_tokens=1_000_000,
        audio_tokens=1_000_000,
        audio_output_tokens=1_000_000,
    )
    assert most_cost(prices_in(file, Prices()).price, "openai", "m", all_of_it) == 7


class Odd:
    """A provider of somebody's whose bound makes no sense."""

    def most(self, request: Request, thread: object) -> object:
        raise RuntimeError(string.ascii_letters)


def test_a_bound_that_breaks_is_none() -> None:
    most = most_of(Odd(), a_request(), ())
    assert (most.input_tokens, most.output_tokens) == (None, None)
    assert most_cost(price, "openai", "gpt-5", most) is None


CONVERSATION = [
    Message.of("user", PROSE * 20),
    Message.of("assistant", "Ich weiß: das Gedicht geht so weiter, 雨が止んだ。" * 20),
]


@pytest.mark.parametrize("text", ["hi", PROSE * 30, "雨が止んだ。" * 100, "🙂" * 200, '"\\' * 100])
@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
@pytest.mark.anyio
async def test_what_a_vendor_bills_is_never_more_than_was_reserved(
    vendor: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = ToolOffer(name="weather", description="d" * 100, parameters={"type": "object"})
    settings = {"max_output_tokens": 64, "thread": "client"}
    given_ = {"system_prompt": PROSE, "history": CONVERSATION, "tools": (tool,)}
    async with _charging(vendor, monkeypatch) as provider:
        for _ in range(2):  # the second one finds the first in the cache
            request = a_request(text, settings=settings, model="gpt-5-mini", **given_)
            most = most_of(provider, request, ())
            done = await provider.send(request)
            assert most.input_tokens >= done.usage.input_tokens


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
@pytest.mark.anyio
async def test_a_vendor_that_is_asked_counts_what_would_be_read(
    vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"max_output_tokens": 64, "thread": "client", "timeout": 5}
    async with _charging(vendor, monkeypatch) as provider:
        short = await provider.count(a_request("hi", settings=settings))
        long = await provider.count(a_request("hi", settings=settings, history=CONVERSATION))
    assert 0 < short < 200 < long


@asynccontextmanager
async def _charging(vendor: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    double: Any = ChargingOpenAI() if vendor == "openai" else ChargingAnthropic()
    key = openai_server.KEY if vendor == "openai" else anthropic_server.KEY
    kind: Any = OpenAIProvider if vendor == "openai" else AnthropicProvider
    async with double:
        monkeypatch.setenv(f"{vendor.upper()}_API_KEY", key)
        monkeypatch.setenv(f"{vendor.upper()}_BASE_URL", double.base_url)
        provider = kind.from_env()
        yield provider
        await provider.aclose()
