"""What `POST /chat/completions` refuses: the vendor's published rules, one by one.

https://developers.openai.com/api/reference/resources/chat, and the messages of its 400s.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

from tests.validators import attached, schemas

PARAMETERS = frozenset(CompletionCreateParamsNonStreaming.__annotations__) | {"stream"}
ID_MAX = 40

_ROLES = frozenset({"assistant", "developer", "system", "tool", "user"})
#: Fields of reasoning that servers other than the vendor want back.
_OF_USERS = frozenset({"content", "role", "name"})
#: What it says in its 400s; https://github.com/microsoft/autogen/issues/4157.
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_FIELDS = frozenset({"content", "role", "tool_calls", "refusal", "name", "audio"}) | {
    "reasoning_content",
    "reasoning_details",
}


def violations(body: Mapping[str, Any]) -> list[str]:
    """Return what the vendor would refuse the body for."""
    return [*_top(body), *_tools(body), *_messages(body)]


def _top(body: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(body.get("model"), str):
        yield "you must provide a model parameter"
    for name in sorted(set(body) - PARAMETERS):
        yield f"Unknown parameter: '{name}'."
    form = body.get("response_format")
    if form is None:
        return
    if form.get("type") != "json_schema" or set(form) != {"type", "json_schema"}:
        yield "response_format: invalid"
    else:
        yield from schemas.form(form["json_schema"], at="response_format.json_schema")


def _tools(body: Mapping[str, Any]) -> Iterator[str]:
    tools = body.get("tools", [])
    if "tools" in body and not tools:
        yield "tools: [] is too short"
    functions = [one.get("function", {}) for one in tools]
    yield from schemas.names(functions)
    for n, (tool, function) in enumerate(zip(tools, functions, strict=True)):
        if tool.get("type") != "function" or set(tool) != {"type", "function"}:
            yield f"tools[{n}]: invalid"
        if set(function) - {"name", "description", "parameters", "strict"}:
            yield f"tools[{n}].function: unknown parameter"
        yield from schemas.arguments(function.get("parameters"), at=f"tools[{n}].function")
    for name in ("tool_choice", "parallel_tool_calls"):
        if name in body and not tools:
            yield f"'{name}' is only allowed when 'tools' are specified."
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        if choice.get("type") != "function" or wanted not in {f.get("name") for f in functions}:
            yield "tool_choice: not found in 'tools'"
    elif choice not in {"auto", "none", "required"}:
        yield "tool_choice: invalid"


def _messages(body: Mapping[str, Any]) -> Iterator[str]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        yield "Missing required parameter: 'messages'."
        return
    waiting: list[str] = []
    seen: set[str] = set()
    for n, message in enumerate(messages):
        at = f"messages[{n}]"
        if message.get("role") not in _ROLES:
            yield f"{at}: invalid role"
            continue
        if message["role"] == "tool":
            yield from _output(message, waiting, at=at)
            continue
        if waiting:
            yield f"{at}: tool_call_ids did not have response messages: {waiting}"
        waiting = []
        yield from _message(message, at=at)
        for call in message.get("tool_calls", []):
            yield from _call(call, seen, at=at)
            waiting.append(str(call.get("id")))
    if waiting:
        yield f"tool_call_ids did not have response messages: {waiting}"


def _message(message: Mapping[str, Any], *, at: str) -> Iterator[str]:
    content, role = message.get("content"), message["role"]
    known = {"assistant": _FIELDS, "user": _OF_USERS}.get(role, {"role", "content"})
    if set(message) - known:
        yield f"{at}: unknown parameter"
    if "name" in message and not _NAME.fullmatch(str(message["name"])):
        yield f"Invalid '{at}.name': string does not match pattern."
    if role == "assistant" and message.get("tool_calls"):
        if content is not None and not (isinstance(content, str) and content.strip()):
            yield f"{at}: content is blank"
    elif "tool_calls" in message:
        yield f"{at}.tool_calls: [] is too short"
    elif role == "user" and isinstance(content, list) and content:
        for n, block in enumerate(content):
            yield from _content(block, at=f"{at}.content[{n}]")
    elif not isinstance(content, str) or not content.strip():
        yield f"{at}: content is blank"


def _content(block: Mapping[str, Any], *, at: str) -> Iterator[str]:
    match block.get("type"):
        case "text":
            if set(block) != {"type", "text"} or not str(block["text"]).strip():
                yield f"{at}: content is blank"
        case "image_url":
            yield from attached.image_url(block, at=at)
        case "input_audio":
            yield from attached.input_audio(block, at=at)
        case "file":
            if set(block) != {"type", "file"} or not isinstance(block["file"], dict):
                yield f"{at}: invalid file"
            else:
                yield from attached.input_file(block["file"], at=at)
        case _:
            yield f"{at}: invalid content type"


def _call(call: Mapping[str, Any], seen: set[str], *, at: str) -> Iterator[str]:
    given, function = call.get("id"), call.get("function") or {}
    if set(call) != {"id", "type", "function"} or call["type"] != "function":
        yield f"{at}.tool_calls: invalid"
    if set(function) != {"name", "arguments"}:
        yield f"{at}.tool_calls: invalid function"
    if not isinstance(given, str) or not 0 < len(given) <= ID_MAX:
        yield f"{at}.tool_calls.id: string too long, or missing"
    elif given in seen:
        yield f"{at}.tool_calls.id: not unique"
    else:
        seen.add(given)
    if not isinstance(function.get("name"), str) or not schemas.NAME.fullmatch(function["name"]):
        yield f"{at}.tool_calls.function.name: does not match pattern '^[a-zA-Z0-9_-]+$'"
    if not schemas.is_object(function.get("arguments")):
        yield f"{at}.tool_calls.function.arguments: no JSON object"


def _output(message: Mapping[str, Any], waiting: list[str], *, at: str) -> Iterator[str]:
    if set(message) != {"role", "content", "tool_call_id"}:
        yield f"{at}: unknown or missing parameter"
    if not isinstance(message.get("content"), str):
        yield f"{at}: invalid type for content"
    if message.get("tool_call_id") in waiting:
        waiting.remove(message["tool_call_id"])
    else:
        yield f"{at}: role 'tool' must be a response to a preceding message with 'tool_calls'"
