"""The validators of bodies find what each vendor refuses, and take what its own library sends."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import pytest
from anthropic.types.message_param import MessageParam
from anthropic.types.tool_param import ToolParam
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from openai.types.responses import FunctionToolParam, ResponseInputItemParam
from pydantic import TypeAdapter, ValidationError

from tests.contract.test_tools_at_vendors import own, step
from tests.validators import anthropic_messages, openai_chat, openai_responses
from turnmill.domain.content import Text
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.openai import chat, responses

REASONING = '{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA"}'
THINKING = '{"type":"thinking","thinking":"Hm.","signature":"EqQB"}'
THINKS = {"thinking": {"type": "enabled", "budget_tokens": 2000}}

Body = dict[str, Any]
Change = Callable[[Body], object]


def good() -> Mapping[str, Body]:
    return {
        "responses": responses.body_of(
            step(own("openai", "responses", REASONING), Text("Let me see.")), chain=False
        ),
        "chat": chat.body_of(step(Text("Let me see."))),
        "messages": messages.body_of(
            step(own("anthropic", "messages", THINKING), Text("Let me see."), settings=THINKS)
        ),
    }


JUDGES: Mapping[str, Callable[[Body], list[str]]] = {
    "responses": openai_responses.violations,
    "chat": openai_chat.violations,
    "messages": anthropic_messages.violations,
}


def at(*path: str | int) -> Callable[[Body], Any]:
    def find(body: Body) -> Any:
        found: Any = body
        for one in path:
            found = found[one]
        return found

    return find


def put(*path: str | int, value: Any) -> Change:
    return lambda body: at(*path[:-1])(body).__setitem__(path[-1], value)


def drop(*path: str | int) -> Change:
    return lambda body: at(*path[:-1])(body).__delitem__(path[-1])


def swap(*path: str | int, one: int, other: int) -> Change:
    def change(body: Body) -> None:
        items = at(*path)(body)
        items[one], items[other] = items[other], items[one]

    return change


#: input: user, reasoning, words, call, call, output, output
WRONG_RESPONSES: Mapping[str, Change] = {
    "no output": drop("input", 6),
    "no call": drop("input", 3),
    "output before its call": swap("input", one=3, other=5),
    "words of the user before an output": swap("input", one=0, other=5),
    "two outputs": lambda body: body["input"].append(body["input"][5]),
    "one id twice": put("input", 4, "call_id", value="c1"),
    "an id too long": put("input", 3, "call_id", value="c" * 65),
    "a blank": put("input", 0, "content", value=" "),
    "no role": drop("input", 0, "role"),
    "reasoning about nothing": swap("input", one=1, other=6),
    "reasoning that is not stored": drop("input", 1, "encrypted_content"),
    "a name with a dot": put("input", 3, "name", value="a.b"),
    "arguments that are a list": put("input", 3, "arguments", value="[]"),
    "an output that is no text": put("input", 5, "output", value={"a": 1}),
    "an unknown parameter": put("temprature", value=1),
    "no input": put("input", value=[]),
    "a tool without a schema": put("tools", 0, "parameters", value={}),
    "two tools of a name": lambda body: body["tools"].append(body["tools"][0]),
    "a form that is not strict": put(
        "text",
        value={
            "format": {
                "type": "json_schema",
                "name": "r",
                "strict": True,
                "schema": {"type": "object"},
            }
        },
    ),
    "a search that nobody answered": lambda body: body["input"].insert(
        2, {"type": "custom_tool_call", "call_id": "x", "name": "f", "input": ""}
    ),
}

#: messages: user, assistant, tool, tool
WRONG_CHAT: Mapping[str, Change] = {
    "no output": drop("messages", 3),
    "no call": drop("messages", 1, "tool_calls", 0),
    "no calls": put("messages", 1, "tool_calls", value=[]),
    "output before its call": swap("messages", one=1, other=2),
    "words before an output": swap("messages", one=0, other=2),
    "two outputs": lambda body: body["messages"].append(body["messages"][2]),
    "an id too long": put("messages", 1, "tool_calls", 0, "id", value="c" * 41),
    "a blank": put("messages", 0, "content", value=""),
    "arguments that are no JSON": put(
        "messages", 1, "tool_calls", 0, "function", "arguments", value='{"a": '
    ),
    "an unknown role": put("messages", 0, "role", value="narrator"),
    "an unknown parameter": put("temprature", value=1),
    "a choice without tools": lambda body: (body.pop("tools"), body.update(tool_choice="auto")),
    "a tool that is not there": put(
        "tool_choice", value={"type": "function", "function": {"name": "nobody"}}
    ),
}

#: messages: user; thinking, words, use, use; result, result
WRONG_MESSAGES: Mapping[str, Change] = {
    "no result": drop("messages", 2, "content", 1),
    "no results": drop("messages", 2),
    "no use": drop("messages", 1, "content", 2),
    "words before a result": lambda body: body["messages"][2]["content"].insert(
        0, {"type": "text", "text": "x"}
    ),
    "words of the user between": lambda body: body["messages"].insert(
        2, {"role": "user", "content": "x"}
    ),
    "the assistant first": drop("messages", 0),
    "two users in a row": lambda body: body["messages"].append({"role": "user", "content": "x"}),
    "the assistant last": lambda body: body["messages"].append(
        {"role": "assistant", "content": "x"}
    ),
    "one id twice": put("messages", 1, "content", 3, "id", value="c1"),
    "an odd id": put("messages", 1, "content", 2, "id", value="c 1"),
    "arguments that are a text": put("messages", 1, "content", 2, "input", value="{}"),
    "a blank": put("messages", 1, "content", 1, "text", value="\n"),
    "an error that says nothing": put("messages", 2, "content", 1, "content", value=""),
    "thinking without its signature": drop("messages", 1, "content", 0, "signature"),
    "thinking that is empty of its signature": put(
        "messages", 1, "content", 0, "signature", value=""
    ),
    "thinking behind the words": swap("messages", 1, "content", one=0, other=1),
    "thinking last": swap("messages", 1, "content", one=0, other=3),
    "no tools": drop("tools"),
    "a search without its result": lambda body: body["messages"][1]["content"].insert(
        1, {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    ),
    "a result without its search": lambda body: body["messages"][1]["content"].insert(
        1, {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
    ),
    "a forced call with thinking": put("tool_choice", value={"type": "any"}),
    "an unknown parameter": put("parallel_tool_calls", value=False),
    "a system that is empty": put("system", value=" "),
    "a form that is open": put(
        "output_config",
        value={"format": {"type": "json_schema", "schema": {"type": "object"}}},
    ),
}

WRONG: list[tuple[str, str, Change]] = [
    (api, name, change)
    for api, changes in (
        ("responses", WRONG_RESPONSES),
        ("chat", WRONG_CHAT),
        ("messages", WRONG_MESSAGES),
    )
    for name, change in changes.items()
]


@pytest.mark.parametrize(("api", "name", "change"), WRONG, ids=[f"{a}: {n}" for a, n, _ in WRONG])
def test_each_rule_of_a_vendors_is_seen_to_be_broken(api: str, name: str, change: Change) -> None:
    body = deepcopy(good()[api])
    assert JUDGES[api](body) == []
    change(body)
    assert JUDGES[api](body) != [], name


TYPES: Mapping[str, tuple[str, TypeAdapter[Any], TypeAdapter[Any]]] = {
    "responses": (
        "input",
        TypeAdapter(ResponseInputItemParam),
        TypeAdapter(FunctionToolParam),
    ),
    "chat": (
        "messages",
        TypeAdapter(ChatCompletionMessageParam),
        TypeAdapter(ChatCompletionFunctionToolParam),
    ),
    "messages": ("messages", TypeAdapter(MessageParam), TypeAdapter(ToolParam)),
}


@pytest.mark.parametrize("api", TYPES)
def test_a_body_is_of_the_types_that_the_vendors_own_library_declares(api: str) -> None:
    body = good()[api]
    field, said, tool = TYPES[api]
    for one in body[field]:
        _read(said.validate_python(_as_declared(one)))
    for one in body["tools"]:
        _read(tool.validate_python(one))
    with pytest.raises(ValidationError):
        _read(said.validate_python({"role": "nobody", "type": "nothing"}))


def _as_declared(one: Body) -> Body:
    """Return an item with what the library declares and the vendor does not ask for.

    What the model said is sent without the ids of it, which belong to whoever has stored them.
    """
    if one.get("type") != "message":
        return one
    content = [{**block, "annotations": []} for block in one["content"]]
    return {**one, "id": "msg_1", "status": "completed", "content": content}


def _read(found: Any) -> None:
    """Read all that the library would: what it declares as iterable is judged only then."""
    match found:
        case dict():
            for one in found.values():
                _read(one)
        case str() | int() | float() | None:
            pass
        case _:
            for one in found:
                _read(one)
