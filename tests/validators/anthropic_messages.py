"""What `POST /v1/messages` refuses: the vendor's published rules, one by one.

https://platform.claude.com/docs/en/api/messages, …/agents-and-tools/tool-use/implement-tool-use,
…/build-with-claude/extended-thinking, and the messages of its 400s.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, get_args, get_type_hints

from anthropic.types import TextCitationParam
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

from tests.validators import attached, schemas

PARAMETERS = frozenset(MessageCreateParamsNonStreaming.__annotations__) | {
    "context_management",  # of the beta API, as `compaction` blocks are
    "stream",
}

#: The fields of a citation in what is sent: all of them are to be there.
_CITATIONS: Mapping[str, frozenset[str]] = {
    get_args(get_type_hints(kind)["type"])[0]: frozenset(kind.__annotations__)
    for kind in get_args(TextCitationParam)
}

_KEY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_THINKING = frozenset({"thinking", "redacted_thinking"})
_USES = frozenset({"server_tool_use", "mcp_tool_use"})

#: The fields of a block, those that it must have first.
_FIELDS: Mapping[str, tuple[set[str], set[str]]] = {
    "text": ({"text"}, {"citations", "cache_control"}),
    "thinking": ({"thinking", "signature"}, set()),
    "redacted_thinking": ({"data"}, set()),
    "tool_use": ({"id", "name", "input"}, {"cache_control", "caller", "toolset_name"}),
    "tool_result": ({"tool_use_id"}, {"content", "is_error", "cache_control", "toolset_name"}),
    "server_tool_use": ({"id", "name", "input"}, {"cache_control", "caller"}),
    "mcp_tool_use": ({"id", "name", "input", "server_name"}, {"cache_control"}),
    "image": ({"source"}, {"cache_control"}),
    "document": ({"source"}, {"cache_control", "citations", "context", "title"}),
    "compaction": (
        {"content"},
        {"cache_control", "encrypted_content", "signature", "tool_changes"},
    ),
}


def violations(body: Mapping[str, Any], *, goes_on: bool = False) -> list[str]:
    """Return what the vendor would refuse the body for; `goes_on` after a `pause_turn`."""
    return [*_top(body), *_tools(body), *_messages(body, goes_on=goes_on)]


def _top(body: Mapping[str, Any]) -> Iterator[str]:
    for name in ("model", "max_tokens", "messages"):
        if name not in body:
            yield f"{name}: Field required"
    for name in sorted(set(body) - PARAMETERS):
        yield f"{name}: Extra inputs are not permitted"
    most = body.get("max_tokens", 1)
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        yield "max_tokens: must be at least 1"
    system = body.get("system", "-")
    if isinstance(system, str) and not system.strip():
        yield "system: text content blocks must be non-empty"
    form = (body.get("output_config") or {}).get("format")
    if form is not None:
        if form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
            yield "output_config.format: must be a json_schema"
        else:
            yield from schemas.closed(form["schema"], all_required=False, at="output_config.format")


def _tools(body: Mapping[str, Any]) -> Iterator[str]:
    tools = body.get("tools", [])
    yield from schemas.names(tools)
    for n, tool in enumerate(tools):
        if "type" not in tool or tool["type"] == "custom":
            at = f"tools.{n}.custom.input_schema"
            yield from schemas.arguments(tool.get("input_schema"), at=at)
            named = (tool.get("input_schema") or {}).get("properties") or {}
            if not all(map(_KEY.fullmatch, named)):
                yield f"{at}.properties: Property keys should match pattern"
        if set(tool) - {"name", "description", "input_schema", "type", "strict", "cache_control"}:
            yield f"tools.{n}: Extra inputs are not permitted"
    choice = body.get("tool_choice")
    if choice is None:
        return
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind not in {"auto", "any", "tool", "none"}:
        yield "tool_choice: Input should be a valid dictionary with a known type"
    elif not tools:
        yield "tool_choice: may only be specified while providing tools"
    elif kind == "tool" and choice.get("name") not in {one.get("name") for one in tools}:
        yield "tool_choice: tool not found in provided tools"
    elif kind in ("any", "tool") and _thinks(body):
        yield "tool_choice: thinking may not be enabled when tool_choice forces tool use"
    elif kind == "none" and "disable_parallel_tool_use" in choice:
        yield "tool_choice: Extra inputs are not permitted"


def _messages(body: Mapping[str, Any], *, goes_on: bool) -> Iterator[str]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        yield "messages: at least one message is required"
        return
    if messages[0].get("role") != "user":
        yield 'messages: first message must use the "user" role'
    if messages[-1].get("role") != "user" and not goes_on:
        yield "messages: the conversation must end with a user message"
    roles = [one.get("role") for one in messages]
    if any(one == other for one, other in pairwise(roles)):
        yield "messages: roles must alternate"
    pictures = sum(len(_of(one, "image")) for one in messages)
    if pictures > 600:
        yield "messages: too many images"
    for n, message in enumerate(messages):
        for m, block in enumerate(_blocks(message)):
            if block.get("type") == "compaction" and not body.get("context_management"):
                yield f"messages.{n}.content.{m}: Input tag 'compaction' found using 'type'"
            if block.get("type") in ("image", "document"):
                at = f"messages.{n}.content.{m}"
                yield from attached.source(block, at=at, many=pictures > 20)
    ids: list[str] = []
    for n, message in enumerate(messages):
        before = messages[n - 1] if n else None
        open_ended = goes_on and n == len(messages) - 1
        yield from _message(message, before, at=f"messages.{n}", open_ended=open_ended)
        ids += [str(use.get("id")) for use in _of(message, "tool_use")]
    if ids and not body.get("tools"):
        yield "messages: requests which include tool_use blocks must define tools"
    if len(set(ids)) != len(ids):
        yield "messages: tool_use ids must be unique"
    if {one["id"] for one in _of(messages[-1], "tool_use")}:
        yield "messages: tool_use ids were found without tool_result blocks immediately after"
    if _thinks(body) and _of(messages[-1], "tool_result") and len(messages) > 1:
        kinds = [one.get("type") for one in _blocks(messages[-2])]
        if next((one for one in kinds if one != "compaction"), None) not in _THINKING:
            yield "messages: a final assistant message must start with a thinking block"


def _message(
    message: Mapping[str, Any], before: Mapping[str, Any] | None, *, at: str, open_ended: bool
) -> Iterator[str]:
    if set(message) != {"role", "content"} or message["role"] not in {"user", "assistant"}:
        yield f"{at}: unexpected role or field"
        return
    content = message["content"]
    if isinstance(content, str):
        if not content.strip():
            yield f"{at}: text content blocks must contain non-whitespace text"
    elif not isinstance(content, list) or not content:
        yield f"{at}: all messages must have non-empty content"
    blocks = _blocks(message)
    for n, block in enumerate(blocks):
        yield from _block(block, role=message["role"], at=f"{at}.content.{n}")
    if blocks and blocks[-1].get("type") in _THINKING and not open_ended:
        yield f"{at}: the final block in an assistant message cannot be thinking"
    yield from _pairs(message, before, at=at)
    if not open_ended:
        yield from _own_pairs(blocks, at=at)


def _block(block: Mapping[str, Any], *, role: str, at: str) -> Iterator[str]:
    kind = block.get("type")
    if not isinstance(kind, str):
        yield f"{at}: type: Field required"
        return
    if kind in _FIELDS:
        needed, allowed = _FIELDS[kind]
        for name in sorted(needed - set(block)):
            yield f"{at}.{kind}.{name}: Field required"
        for name in sorted(set(block) - needed - allowed - {"type"}):
            yield f"{at}.{kind}.{name}: Extra inputs are not permitted"
    elif not kind.endswith("_tool_result") and kind != "container_upload":
        yield f"{at}: Input tag {kind!r} found does not match any of the expected tags"
    only = {"tool_result": "user", "image": "user", "document": "user"}.get(kind, "assistant")
    if kind != "text" and role != only:
        yield f"{at}: {kind} blocks can only be in {only} messages"
    yield from _values(block, kind, at=at)


def _values(block: Mapping[str, Any], kind: str, *, at: str) -> Iterator[str]:
    if kind == "text" and not str(block.get("text", "")).strip():
        yield f"{at}: text content blocks must contain non-whitespace text"
    for cited in block.get("citations") or () if kind == "text" else ():
        known = _CITATIONS.get(cited.get("type"), frozenset())
        for name in sorted(set(cited) ^ known):
            yield f"{at}: text.citations.{name}: Field required, or extra inputs are not permitted"
    if kind == "compaction" and not str(block.get("content") or "").strip():
        yield f"{at}: compaction.content: must not be empty"
    if kind == "thinking" and not block.get("signature"):
        yield f"{at}: thinking.signature: must not be empty"
    if kind == "redacted_thinking" and not block.get("data"):
        yield f"{at}: redacted_thinking.data: must not be empty"
    if kind in {"tool_use", *_USES}:
        if not isinstance(block.get("input"), dict):
            yield f"{at}: {kind}.input: Input should be a valid dictionary"
        if not isinstance(block.get("id"), str) or not _ID.fullmatch(block["id"]):
            yield f"{at}: {kind}.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
        if not isinstance(block.get("name"), str) or not schemas.NAME.fullmatch(block["name"]):
            yield f"{at}: {kind}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"
    if kind == "tool_result":
        content = block.get("content", "-")
        if not isinstance(content, str | list) or not isinstance(block.get("is_error", True), bool):
            yield f"{at}: tool_result: Input should be a valid string"
        if isinstance(content, str) and not content.strip():
            yield f"{at}: tool_result: text content blocks must be non-empty"
        if block.get("is_error") and not block.get("content"):
            yield f"{at}: tool_result: content cannot be empty if is_error is true"


def _pairs(
    message: Mapping[str, Any], before: Mapping[str, Any] | None, *, at: str
) -> Iterator[str]:
    """Yield what is wrong with calls of the message before, and the results in this one."""
    results = [one.get("tool_use_id") for one in _of(message, "tool_result")]
    calls = [one.get("id") for one in _of(before, "tool_use")] if before else []
    for call in calls:
        if results.count(call) == 0:
            yield f"{at}: tool_use ids were found without tool_result blocks immediately after"
    for result in results:
        if result not in calls:
            yield f"{at}: unexpected tool_use_id found in tool_result blocks"
        elif results.count(result) > 1:
            yield f"{at}: each tool_use must have a single result"
    kinds = [one.get("type") for one in _blocks(message)]
    if "tool_result" in kinds and kinds[: len(results)] != ["tool_result"] * len(results):
        yield f"{at}: tool_result blocks must come first"


def _own_pairs(blocks: Sequence[Mapping[str, Any]], *, at: str) -> Iterator[str]:
    """Yield what is wrong with the calls that the vendor has run itself."""
    uses = [one.get("id") for one in blocks if one.get("type") in _USES]
    results = [
        one.get("tool_use_id")
        for one in blocks
        if one.get("type") != "tool_result" and str(one.get("type")).endswith("_tool_result")
    ]
    for use in uses:
        if results.count(use) != 1:
            yield f"{at}: server_tool_use without a corresponding tool_result block"
    for result in results:
        if result not in uses:
            yield f"{at}: a tool_result block without its server_tool_use"


def _thinks(body: Mapping[str, Any]) -> bool:
    return (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")


def _blocks(message: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    content = message.get("content") if message else None
    return [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []


def _of(message: Mapping[str, Any] | None, kind: str) -> list[Mapping[str, Any]]:
    return [one for one in _blocks(message) if one.get("type") == kind]
