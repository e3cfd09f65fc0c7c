"""What `POST /responses` refuses: the vendor's published rules, one by one.

https://developers.openai.com/api/reference/resources/responses, …/docs/guides/function-calling,
…/docs/guides/reasoning, and the messages of its 400s.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

from tests.validators import attached, schemas

PARAMETERS = frozenset(ResponseCreateParamsNonStreaming.__annotations__) | {"stream"}

_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ROLES = frozenset({"assistant", "developer", "system", "user"})

#: Calls that the vendor has answered itself: they stand alone.
_ALONE = frozenset(
    {
        "code_interpreter_call",
        "file_search_call",
        "image_generation_call",
        "mcp_approval_request",
        "mcp_call",
        "mcp_list_tools",
        "web_search_call",
    }
)
#: What the model says, or does: reasoning belongs to one of them.
_OF_MODEL = _ALONE | {"custom_tool_call", "function_call", "message", "reasoning", "shell_call"}
_INCLUDES = frozenset({"reasoning.encrypted_content"})


def violations(body: Mapping[str, Any], *, held: Collection[str] = ()) -> list[str]:
    """Return what the vendor would refuse the body for.

    `held` are ids of calls that wait in the thread which `previous_response_id` names.
    """
    return [*_top(body), *_tools(body), *_input(body, held=held)]


def _top(body: Mapping[str, Any]) -> Iterator[str]:
    given = body.get("input")
    items = given if isinstance(given, list) else []
    reasoning = any(isinstance(one, dict) and one.get("type") == "reasoning" for one in items)
    plain = re.match(r"(.*/)?(ft:)?(gpt-3\.5|gpt-4|chatgpt-4)", str(body.get("model")))
    if plain and "reasoning.encrypted_content" in (body.get("include") or []):
        yield "Encrypted content is not supported with this model."
    if reasoning and plain:
        yield "Reasoning input items can only be provided to a reasoning or computer use model."
    if not isinstance(body.get("model"), str):
        yield "Missing required parameter: 'model'."
    for name in sorted(set(body) - PARAMETERS):
        yield f"Unknown parameter: '{name}'."
    if body.get("previous_response_id") and body.get("conversation"):
        yield "Mutually exclusive parameters: 'conversation' and 'previous_response_id'."
    if not isinstance(body.get("instructions", ""), str):
        yield "Invalid type for 'instructions'."
    if set(body.get("include") or []) - _INCLUDES:
        yield "Invalid value for 'include'."
    form = (body.get("text") or {}).get("format")
    if form is not None and form.get("type") == "json_schema":
        yield from schemas.form(form, at="text.format")


def _tools(body: Mapping[str, Any]) -> Iterator[str]:
    tools = body.get("tools", [])
    functions = [one for one in tools if one.get("type") == "function"]
    yield from schemas.names(functions)
    for n, tool in enumerate(functions):
        if set(tool) - {"type", "name", "description", "parameters", "strict"}:
            yield f"tools[{n}]: unknown parameter"
        if not {"type", "name", "parameters", "strict"} <= set(tool):
            yield f"tools[{n}]: missing parameter"
        yield from schemas.arguments(tool.get("parameters"), at=f"tools[{n}].parameters")
        if tool.get("strict") is True:
            yield from schemas.closed(tool["parameters"], all_required=True, at=f"tools[{n}]")
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        if choice.get("name") not in {one.get("name") for one in functions}:
            yield "Tool choice not found in 'tools' parameter."
    elif choice not in {"auto", "none", "required"}:
        yield "Invalid value for 'tool_choice'."
    elif choice == "required" and not tools:
        yield "Tool choice 'required' must be specified with 'tools' parameter."


def _input(body: Mapping[str, Any], *, held: Collection[str]) -> Iterator[str]:
    given = body.get("input")
    if isinstance(given, str) and given.strip():
        return
    if not isinstance(given, list) or not given:
        yield "Missing required parameter: 'input'."
        return
    stored = body.get("store", True)
    for n, item in enumerate(given):
        yield from _item(item, given[n + 1 :], stored=stored, at=f"input[{n}]")
    thread = bool(body.get("previous_response_id") or body.get("conversation"))
    yield from _pairs(given, held=held, thread=thread)
    yield from _native_pairs(given)


def _item(
    item: Mapping[str, Any], after: Sequence[Mapping[str, Any]], *, stored: bool, at: str
) -> Iterator[str]:
    kind = item.get("type", "message")
    match kind:
        case "message":
            yield from _message(item, at=at)
        case "function_call":
            yield from _call(item, at=at)
        case "function_call_output":
            if set(item) - {"type", "call_id", "output"} or "call_id" not in item:
                yield f"{at}: unknown or missing parameter"
            if not isinstance(item.get("output"), str):
                yield f"{at}: invalid type for 'output'"
        case "reasoning":
            if not isinstance(item.get("id"), str) or not isinstance(item.get("summary"), list):
                yield f"{at}: reasoning without its id or summary"
            if not stored and not item.get("encrypted_content"):
                yield f"{at}: items are not persisted when `store` is set to false"
            following = after[0].get("type", "message") if after else ""
            said = following != "message" or after[0].get("role") == "assistant"
            if following not in _OF_MODEL or not said:
                yield f"{at}: 'reasoning' was provided without its required following item"
        case "compaction":
            if set(item) - {"type", "id", "encrypted_content"} or not item.get("encrypted_content"):
                yield f"{at}: unknown or missing parameter"
        case "item_reference":
            yield f"{at}: item not found"
        case str() if kind in _ALONE or kind.endswith(("_call", "_output")):
            pass
        case _:
            yield f"{at}: invalid value for 'type'"


def _message(item: Mapping[str, Any], *, at: str) -> Iterator[str]:
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        yield f"{at}: invalid value for 'role'"
    if set(item) - {"type", "role", "content", "id", "status", "phase"}:
        yield f"{at}: unknown parameter"
    if item.get("phase") is not None and role != "assistant":
        yield f"{at}: 'phase' is of the assistant's messages"
    if item.get("phase") not in (None, "commentary", "final_answer"):
        yield f"{at}: invalid value for 'phase'"
    # llama.cpp, which speaks the same API, cannot tell what an untyped assistant item is.
    if role == "assistant" and "type" not in item:
        yield f"{at}: cannot determine type of 'item'"
    if isinstance(content, str):
        if not content.strip():
            yield f"{at}: content is blank"
        return
    wanted = {"output_text", "refusal"} if role == "assistant" else {"input_text"}
    for block in content or [{}]:
        if role != "assistant" and block.get("type") == "input_image":
            yield from attached.input_image(block, at=at)
            continue
        if role != "assistant" and block.get("type") == "input_file":
            yield from attached.input_file(block, at=at)
            continue
        words = block.get("text", block.get("refusal"))
        if block.get("type") not in wanted or not isinstance(words, str):
            yield f"{at}: supported values are: {sorted(wanted)}"
        elif not words.strip():
            yield f"{at}: content is blank"


def _call(item: Mapping[str, Any], *, at: str) -> Iterator[str]:
    if set(item) - {"type", "call_id", "name", "arguments", "id", "status"}:
        yield f"{at}: unknown parameter"
    if not isinstance(item.get("call_id"), str) or not _ID.fullmatch(item["call_id"]):
        yield f"{at}.call_id: invalid, or longer than 64"
    if not isinstance(item.get("name"), str) or not schemas.NAME.fullmatch(item["name"]):
        yield f"{at}.name: does not match pattern '^[a-zA-Z0-9_-]+$'"
    if not schemas.is_object(item.get("arguments")):
        yield f"{at}.arguments: no JSON object"


def _pairs(
    items: Sequence[Mapping[str, Any]], *, held: Collection[str], thread: bool
) -> Iterator[str]:
    """Yield calls without an output right behind what the model has said, and outputs of none."""
    waiting = list(held)
    seen = set(held)
    for n, item in enumerate(items):
        kind, call_id = item.get("type", "message"), str(item.get("call_id"))
        if kind == "function_call":
            if call_id in seen:
                yield f"input[{n}]: duplicate call_id {call_id}"
            seen.add(call_id)
            waiting.append(call_id)
        elif kind == "function_call_output":
            if call_id not in waiting:
                yield f"input[{n}]: no tool call found for function call output"
            else:
                waiting.remove(call_id)
        elif waiting and kind == "message" and item.get("role") != "assistant":
            yield f"input[{n}]: no tool output found for function call {waiting}"
            waiting = []
    if waiting:
        yield f"no tool output found for function call {waiting}"
    if held and not thread:
        yield "calls are held by no thread"


def _native_pairs(items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    named = [(str(one.get("type")), one.get("call_id")) for one in items]
    for kind, call_id in named:
        if kind.startswith("function_call") or kind in _ALONE:
            continue
        if kind.endswith("_call") and (f"{kind}_output", call_id) not in named:
            yield f"no tool output found for {kind} {call_id}"
        if kind.endswith("_output") and (kind.removesuffix("_output"), call_id) not in named:
            yield f"no call found for {kind} {call_id}"
