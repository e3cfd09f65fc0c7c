"""Whatever schema a tool or a form has, the vendors are sent one that they take."""

import json
from collections.abc import Mapping
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from tests.contract.rigs import a_request
from tests.doubles.openai_server import OpenAIDouble
from tests.doubles.raw_vendor import SETTINGS, RawVendor, http, stream
from tests.doubles.reading_along import Heard
from tests.doubles.streams import message_events, written
from tests.validators import anthropic_messages, openai_chat, openai_responses
from turnmill import ToolContext, tool
from turnmill.domain.content import ToolCall
from turnmill.domain.ids import SessionId, TurnId
from turnmill.new_ids import new_id
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.offering import form_of, parameters_of
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Done, Request, ToolOffer


@tool(effects="none")
def near(at: tuple[float, float], box: tuple[int, int] | None = None) -> str:
    """Tell what is near."""
    return f"{at} {box}"


A = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
B = {"type": "object", "properties": {"b": {"type": "array"}}}
PATHS = {"type": "object", "properties": {"paths": {"type": "array"}}}
PARAMETERS: list[Mapping[str, Any]] = [
    near.parameters,
    PATHS,
    {"properties": {"deep": {"type": "object", "properties": {"x": {"type": ["array", "null"]}}}}},
    {"type": "object", "properties": {"size": {"type": "array", "items": [{"type": "array"}]}}},
    {"type": "object", "oneOf": [A, B]},
    {
        "type": "object",
        "properties": {"c": {}},
        "anyOf": [{"$ref": "#/$defs/A"}],
        "$defs": {"A": A},
    },
    {"type": "object", "allOf": [{"required": ["a"]}], "not": {"required": ["b"]}, **A},
    {"type": ["object", "null"], "properties": None},
    {"type": "object", "additionalProperties": {"type": "array"}},
    {"properties": {"größe": {"type": "integer"}, "$filter": True, "": {}, "x" * 65: {}}},
]


def wrong_with(request: Request) -> list[str]:
    return [
        *openai_responses.violations(responses.body_of(request, chain=False)),
        *openai_chat.violations(chat.body_of(request)),
        *anthropic_messages.violations(messages.body_of(request)),
    ]


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_a_tool_is_offered_in_a_schema_that_no_vendor_refuses(
    parameters: Mapping[str, Any],
) -> None:
    offer = ToolOffer(name="near", parameters=parameters)
    assert wrong_with(a_request(tools=[offer])) == []


def test_all_that_may_be_said_in_one_of_several_ways_is_offered() -> None:
    said = parameters_of(ToolOffer(name="f", parameters={"type": "object", "oneOf": [A, B]}))
    assert said == {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {}}},
    }
    named = {"properties": {"c": {}}, "anyOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": A}}
    said = parameters_of(ToolOffer(name="f", parameters=named))
    assert said["properties"] == {"a": {"type": "string"}, "c": {}}


def test_a_schema_that_vendors_take_is_sent_as_it_is() -> None:
    listed = {"type": "array", "items": {"$ref": "#/$defs/A"}}
    plain = {**A, "properties": {"a": listed, "items": {"type": "string"}}, "$defs": {"A": A}}
    assert parameters_of(ToolOffer(name="f", parameters=plain)) == plain


CONTEXT = ToolContext(
    turn_id=TurnId(new_id()),
    session_id=SessionId(new_id()),
    user_id="ada",
    metadata={},
    attempt=1,
    step=1,
    call_id="c1",
    idempotency_key="k",
)


@tool(effects="none")
def buy(größe: int, farbe: str = "blau") -> str:
    """Buy something."""
    return f"{größe} {farbe}"


@pytest.mark.anyio
@pytest.mark.parametrize("streams", [False, True])
async def test_arguments_that_a_vendor_takes_by_another_name_come_back_by_their_own(
    *, streams: bool
) -> None:
    offers = [ToolOffer(name="buy", parameters=buy.parameters), ToolOffer(name="other")]
    body = messages.body_of(a_request(tools=offers))
    schema = body["tools"][0]["input_schema"]
    (called, _) = schema["properties"]
    assert schema["required"] == [called]
    calls = [
        {"type": "tool_use", "id": "c1", "name": "buy", "input": {called: 4, "farbe": "röt"}},
        {"type": "tool_use", "id": "c2", "name": "other", "input": {called: 4}},
    ]
    message = {"content": calls, "stop_reason": "tool_use", "usage": {}, "model": "claude"}
    wire = stream([written(one) for one in message_events(message)]) if streams else http(message)
    async with RawVendor() as vendor:
        vendor.meet(wire)
        provider, heard = vendor.provider("messages"), Heard()
        given = a_request(tools=offers, settings=SETTINGS["messages"])
        found = await provider.send(given, heard.emit if streams else None)
        await provider.aclose()
    assert isinstance(found, Done)
    first, second = (one for one in found.parts if isinstance(one, ToolCall))
    assert buy.function(**buy.arguments(first.arguments, CONTEXT)) == "4 röt"
    assert second.arguments == json.dumps({called: 4})


class Anything(BaseModel):
    """Whose field may be anything."""

    value: Any


class Bare(BaseModel):
    """Whose list may hold anything."""

    value: list  # type: ignore[type-arg]


class Pair(BaseModel):
    """Whose field is of two."""

    value: tuple[float, str]


class Mixed(BaseModel):
    """Whose field is one of different kinds."""

    value: Literal[1, "a"]


class Tree(BaseModel):
    """Which holds others of its kind."""

    name: str
    inner: list["Tree"]


@pytest.mark.parametrize(
    ("model", "strict"),
    [(Anything, False), (Bare, False), (Pair, False), (Mixed, False), (Tree, True)],
)
def test_a_form_is_strict_only_where_the_vendor_takes_it_so(
    model: type[BaseModel], *, strict: bool
) -> None:
    schema = model.model_json_schema()
    assert form_of(schema)["strict"] is strict
    request = a_request(output_schema=schema)
    assert openai_responses.violations(responses.body_of(request, chain=False)) == []
    assert openai_chat.violations(chat.body_of(request)) == []


@pytest.mark.parametrize(
    "given",
    [
        {"value": True},
        {"value": False},
        {"value": {"anyOf": [{"type": "null"}, True]}},
        {"value": {"type": "object", "properties": {"any": True}}},
    ],
)
def test_a_form_of_which_something_may_be_anything_is_not_strict(given: dict[str, Any]) -> None:
    request = a_request(output_schema={"type": "object", "properties": given})
    assert openai_responses.violations(responses.body_of(request, chain=False)) == []
    assert openai_chat.violations(chat.body_of(request)) == []


@pytest.mark.anyio
async def test_a_tool_that_is_described_at_length_is_so_in_fewer_words_to_who_takes_no_more(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    long = ToolOffer(name="book", description="Books a flight. " * 100)
    brief = ToolOffer(name="weather", description="Tells the weather.")

    async def told(model: str, api: str) -> list[str]:
        before = len(openai_double.calls)
        await openai.send(a_request(tools=[brief, long], model=model, settings={"api": api}))
        asked = [one.body["tools"] for one in [*openai_double.calls][before:]]
        return [tools[1].get("function", tools[1])["description"] for tools in asked]

    given, cut = await told("gpt-4o", "chat")
    assert given == long.description
    assert (len(cut), cut[-1]) == (1024, "…") and given.startswith(cut[:-1])
    assert await told("gpt-4o", "chat") == [cut]  # it is remembered of that model
    assert openai_double.last.body["tools"][0]["function"]["description"] == brief.description
    assert await told("gpt-5", "responses") == [long.description]
