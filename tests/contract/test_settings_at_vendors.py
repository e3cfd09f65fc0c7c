"""What a session says of thinking, of length and of its tier, as each vendor has it."""

from decimal import Decimal
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.contract.rigs import a_request
from tests.validators import anthropic_messages, openai_chat, openai_responses
from turnmill.domain.errors import Rejected
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.counting import most_cost
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Request
from turnmill_worker.providers.pricing import price

THINKS = {"reasoning": {"effort": "low", "summary": "auto"}, "text": {"verbosity": "high"}}
FORM = {"type": "object", "properties": {"a": {"type": "string"}}}


def asked(**settings: Any) -> Request:
    return a_request(settings=settings, output_schema=FORM)


def test_responses_are_asked_for_thinking_and_verbosity_beside_a_form() -> None:
    body = responses.body_of(asked(**THINKS), chain=False)
    assert openai_responses.violations(body) == []
    assert body["reasoning"] == THINKS["reasoning"]
    assert body["text"]["verbosity"] == "high"
    assert body["text"]["format"]["type"] == "json_schema"


def test_chat_completions_are_asked_by_the_names_that_they_have() -> None:
    body = chat.body_of(asked(**THINKS))
    assert openai_chat.violations(body) == []
    assert (body["reasoning_effort"], body["verbosity"]) == ("low", "high")
    own = chat.body_of(asked(**THINKS, reasoning_effort="high"))
    assert own["reasoning_effort"] == "high"  # a name of its own goes before


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-5-mini", "max_completion_tokens"),
        ("o3", "max_completion_tokens"),
        ("gpt-6.2-sol", "max_completion_tokens"),
        ("gpt-10-mini", "max_completion_tokens"),
        ("gpt-4o", "max_tokens"),
        ("qwen3", "max_tokens"),
    ],
)
def test_a_chat_is_bounded_by_the_name_that_its_model_takes(model: str, name: str) -> None:
    body = chat.body_of(a_request(model=model, settings={"max_output_tokens": 99}))
    assert {one: body[one] for one in body if one.startswith("max_")} == {name: 99}
    assert openai_chat.violations(body) == []


def test_a_server_with_more_in_a_setting_than_openai_is_sent_it_as_it_is() -> None:
    routed = {"reasoning": {"effort": "low", "exclude": True}, "text": "plain"}
    body = chat.body_of(asked(**routed))
    assert {name: body[name] for name in routed} == routed


def test_anthropic_is_asked_for_an_effort_beside_a_form() -> None:
    body = messages.body_of(asked(reasoning={"effort": "low"}))
    assert anthropic_messages.violations(body) == []
    assert body["output_config"]["effort"] == "low"
    assert body["output_config"]["format"]["type"] == "json_schema"
    own = {"output_config": {"effort": "high"}, "reasoning": {"effort": "low"}}
    assert messages.body_of(a_request(settings=own))["output_config"] == {"effort": "high"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("reasoning", {"effort": "minimal"}),
        ("reasoning", {"effort": "low", "summary": "auto"}),
        ("reasoning", "low"),
        ("text", {"verbosity": "low"}),
    ],
)
def test_what_anthropic_does_not_have_is_refused_before_it_is_asked(
    setting: str, value: object
) -> None:
    with pytest.raises(Rejected) as caught:
        messages.body_of(a_request(settings={setting: value}))
    assert caught.value.error_code == "setting_refused"
    assert setting in caught.value.detail


@pytest.mark.parametrize(
    ("tier", "dearest"),
    [
        (None, "10"),  # of a million tokens of output, for gpt-5
        ("auto", "10"),
        ("flex", "10"),  # it may be served as any other
        ("priority", "20"),
        ("fast", "20"),  # the vendor's other name for it
    ],
)
def test_the_most_that_a_call_may_cost_is_by_the_tier_that_it_asks_for(
    tier: str | None, dearest: str
) -> None:
    settings: dict[str, Any] = {"max_output_tokens": 100_000}
    if tier is not None:
        settings["service_tier"] = tier
    provider = OpenAIProvider(AsyncOpenAI(api_key="k", base_url="http://127.0.0.1:1"))
    most = provider.most(a_request("Hello", settings=settings), ())
    cost = most_cost(price, "openai", "gpt-5", most)
    assert cost == pytest.approx(Decimal(dearest) / 10, rel=Decimal("0.01"))
