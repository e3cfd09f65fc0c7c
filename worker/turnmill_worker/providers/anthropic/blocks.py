"""Blocks of the Messages API, and the parts that they are here."""

import json
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

from anthropic import transform_schema

from turnmill.domain.content import File, Image, Message, Native, Part, Text, ToolCall, ToolOutput
from turnmill_worker.providers.anthropic.argument_names import schema_of
from turnmill_worker.providers.anthropic.sources import document_of, picture_of
from turnmill_worker.providers.fitting import item_of, unsupported
from turnmill_worker.providers.offering import (
    call_of,
    native_of,
    tool_choice_of,
)
from turnmill_worker.providers.pairing import (
    NAME_MAX,
    NO_WORDS,
    Dialect,
    arguments_of,
    citing,
    is_blank,
    name_of_tool,
    paired,
    whole_pairs,
)
from turnmill_worker.providers.parameters import setting_refused
from turnmill_worker.providers.port import Request
from turnmill_worker.providers.untrusted import joined, mapping, mappings, text

API = "messages"  #: of native parts

_THINKING = frozenset({"redacted_thinking", "thinking"})
#: The vendor runs these itself; the result has the id of its use.
_USES = frozenset({"mcp_tool_use", "server_tool_use"})
#: What stands for all that was said before it, where a session lets the vendor sum up.
_SUMMARY = "compaction"
#: Where another model of the vendor's has gone on for one that had declined.
_HANDED_OVER = "fallback"
#: What ends a message that was refused. It is kept beside it, and no block: see `refused`.
REFUSAL = "refusal"
_UNSAID = frozenset({"", REFUSAL, _HANDED_OVER})
_ID = re.compile(r"[A-Za-z0-9_-]+")
#: Of one reply. What is cited beyond is left out, not the words: a message has so many parts.
_MOST_CITED = 300
_CHOICES: Mapping[str, str] = {"required": "any"}


def messages_of(
    request: Request, messages: Iterable[Message], *, held: Sequence[Message] = ()
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return what goes into `system`, and `messages`: from the user first to the user last.

    Roles alternate. A message's content is a text, or blocks where there are several or others.
    `held` are messages that the vendor has already.
    """
    talk: list[Message] = []
    system: list[str] = []
    dialect = _SUMMING_UP if sums_up(request) else _DIALECT
    for message in messages:
        if message.role == "system":
            system += [one.text for one in paired([message], dialect=dialect)]
        else:
            talk.append(message)
    found: list[dict[str, Any]] = []
    said = paired(talk, dialect=dialect, held=held)
    for is_assistant, run in groupby(said, lambda one: one.role == "assistant"):
        parts = [part for one in run for part in one.parts]
        if is_assistant and not found:
            found.append({"role": "user", "content": NO_WORDS})
        role = "assistant" if is_assistant else "user"
        found.append({"role": role, "content": _content(request, parts)})
    if not found or found[-1]["role"] == "assistant":
        found.append({"role": "user", "content": NO_WORDS})
    return system, found


def sums_up(request: Request) -> bool:
    """Tell whether the session lets the vendor sum up what was said, and so knows its summaries."""
    asked = mapping(request.settings.get("context_management"))
    return any(text(one.get("type")).startswith("compact") for one in mappings(asked.get("edits")))


def parts_of(content: Sequence[Mapping[str, Any]], *, called: bool) -> list[Part]:
    """Return the parts of a reply, in the order of its blocks; without `called`, no call."""
    joined(one.get("text") for one in content if one.get("type") == "text")  # or Unreadable
    content = _of_who_answered(content)
    found: list[Part] = []
    cited = 0
    for block in content:
        kind = text(block.get("type"))
        if kind == "text":
            said = text(block.get("text"))
            if found and isinstance(last := found[-1], Text):
                found[-1] = Text(last.text + said)
            else:
                found.append(Text(said))
            if _cites(block) and not is_blank(said) and cited < _MOST_CITED:
                cited += 1
                found.append(native_of("anthropic", API, block))
        elif kind == "tool_use" and called:
            found.append(_call(block, found))
        elif _is_own(kind):
            found.append(native_of("anthropic", API, block))
    return found or [Text("")]


def tools_of(request: Request, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return `tools` and `tool_choice`: what is offered, or else what was called, not to be again.

    The vendor takes no calls in a request that defines no tools.
    """
    if request.tools:
        tools = [
            {"name": name_of_tool(one.name), "input_schema": schema_of(one)}
            | ({"description": one.description} if one.description else {})
            for one in request.tools
        ]
        return {"tools": tools, **_tool_choice(request)}
    called = dict.fromkeys(block["name"] for block in _blocks_of(messages, "tool_use"))
    if not called:
        return {}
    schema = {"type": "object", "properties": {}}
    tools = [{"name": name, "input_schema": schema} for name in called]
    return {"tools": tools, "tool_choice": {"type": "none"}}


def format_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form of a reply as the vendor's own library puts it."""
    try:
        return {"type": "json_schema", "schema": transform_schema(dict(schema))}
    except (AssertionError, AttributeError, TypeError, ValueError):
        raise setting_refused("response_format", "Anthropic takes no such schema") from None


def may_think(body: Mapping[str, Any]) -> bool:
    """Tell whether the vendor takes `thinking` in this request.

    It does not where a call is forced, nor with outputs of calls that were not thought about: a
    turn that has changed its provider, or its settings, before them goes on without. In a thread
    that goes on nothing has changed, and the calls stand before what is sent.
    """
    if mapping(body.get("tool_choice")).get("type") in ("any", "tool"):
        return False
    messages = body["messages"]
    if len(messages) == 1 or not [*_blocks_of(messages[-1:], "tool_result")]:
        return True
    said = (one.get("type") for one in messages[-2]["content"])
    return next((kind for kind in said if kind != _SUMMARY), "") in _THINKING


def _content(request: Request, parts: Sequence[Part]) -> str | list[Any]:
    if len(parts) == 1 and isinstance(only := parts[0], Text):
        return only.text
    return [_block(request, part) for part in parts]


def _block(request: Request, part: Part) -> Any:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case ToolCall():
            said = {"id": part.id, "name": part.name, "input": arguments_of(part)}
            return {"type": "tool_use", **said}
        case ToolOutput():
            return _result(part)
        case Native():
            return _own(item_of(part))
        case Image():
            return picture_of(request, part)
        case File():
            return document_of(request, part)
        case _:
            raise unsupported(part)


def _result(output: ToolOutput) -> dict[str, Any]:
    """Return an output. Nothing is one, too, but no error: that has to say something."""
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": output.call_id}
    said = output.output
    if output.is_error:
        return result | {"content": "error" if is_blank(said) else said, "is_error": True}
    return result if is_blank(said) else result | {"content": said}


def _tool_choice(request: Request) -> dict[str, Any]:
    kind, tool = tool_choice_of(request)
    one_by_one = request.settings.get("parallel_tool_calls") is False
    if not kind and not one_by_one:
        return {}
    choice: dict[str, Any] = {"type": _CHOICES.get(kind, kind) or "auto"}
    if kind == "tool":
        choice["name"] = tool
    if one_by_one and kind != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tool_choice": choice}


def _blocks_of(messages: Sequence[Mapping[str, Any]], kind: str) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        content = message["content"]
        for block in () if isinstance(content, str) else content:
            if block.get("type") == kind:
                yield block


def _call(block: Mapping[str, Any], found: Sequence[Part]) -> ToolCall:
    return call_of(
        call_id=block.get("id"),
        called=block.get("name"),
        arguments=json.dumps(block.get("input", {}), ensure_ascii=False),
        taken={one.id for one in found if isinstance(one, ToolCall)},
    )


def _is_own(kind: str) -> bool:
    return kind in _THINKING or kind in _USES or kind == _SUMMARY or kind.endswith("_tool_result")


def _of_who_answered(content: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Leave out what a model has thought and called before it declined, and another went on.

    Its words stay, since they are the beginning of the answer. A call of its may be half a call.
    """
    kinds = [text(one.get("type")) for one in content]
    if _HANDED_OVER not in kinds:
        return content  # nearly always
    last = len(kinds) - 1 - kinds[::-1].index(_HANDED_OVER)
    told = [one for one, kind in zip(content[:last], kinds, strict=False) if kind == "text"]
    return [*told, *content[last + 1 :]]


def _part_of(block: Mapping[str, Any]) -> Part | None:
    """Return the part of ours that a block is, which somebody has kept as the vendor's own."""
    kind, content = block.get("type"), block.get("content", "")
    if kind == "tool_use":
        return _call(block, ())
    if kind == "text":
        return None if _cites(block) else Text(text(block.get("text")))
    if kind == "tool_result" and isinstance(content, str):
        is_error = block.get("is_error") is True
        call_id = text(block.get("tool_use_id"))
        return ToolOutput(call_id=call_id, output=content, is_error=is_error)
    return None


def _company(parts: Sequence[Part], *, sums_up: bool = False) -> Sequence[Part]:
    """Leave out what the vendor would miss something of: half a pair, thinking about nothing.

    Only where it `sums_up` it takes a summary of its own back.
    """
    parts = citing(parts, _words_cited)
    items = [mapping(item_of(one)) if isinstance(one, Native) else {} for one in parts]
    pairs = whole_pairs(map(_half, items))
    kept: list[Part] = []
    for place in reversed(range(len(parts))):
        item = items[place]
        if not isinstance(parts[place], Native) or place in pairs:
            stays = True
        elif text(item.get("type")) in _THINKING:
            stays = bool(kept) and _is_signed(item)
        elif item.get("type") == _SUMMARY:
            stays = sums_up and not is_blank(text(item.get("content")))
        else:
            stays = text(item.get("type")) not in _UNSAID and _half(item) is None
        if stays:
            kept.append(parts[place])
    return kept[::-1]


def _cites(block: Mapping[str, Any]) -> bool:
    citations = mappings(block.get("citations"))
    return bool(citations) and all(text(one.get("type")) for one in citations)


def _words_cited(part: Part) -> str | None:
    """Return the words of a block that says where they are from; None for any other part."""
    item = mapping(item_of(part)) if isinstance(part, Native) else {}
    return text(item.get("text")) if item.get("type") == "text" and _cites(item) else None


def _own(item: Any) -> Any:
    """Return a block of the vendor's own as it takes it back: of a citation, all but a file."""
    if not isinstance(item, dict) or item.get("type") != "text":
        return item
    citations = [
        {name: one for name, one in cited.items() if name != "file_id"}
        for cited in mappings(item.get("citations"))
    ]
    return {"type": "text", "text": item.get("text"), "citations": citations}


def _is_signed(item: Mapping[str, Any]) -> bool:
    if item.get("type") == "thinking":
        return isinstance(item.get("thinking"), str) and bool(text(item.get("signature")))
    return bool(text(item.get("data")))


def _half(item: Mapping[str, Any]) -> tuple[Hashable, bool] | None:
    """Return which pair a block is half of, and whether it is the use; None for any other.

    Of a use that the vendor would not read, and of what has no name, there is no other half.
    """
    kind = text(item.get("type"))
    if kind in _USES:
        said, called = text(item.get("id")), text(item.get("name"))
        is_named = _ID.fullmatch(said) and _ID.fullmatch(called) and len(called) <= NAME_MAX
        return said if is_named and isinstance(item.get("input"), dict) else object(), True
    if not kind.endswith("_tool_result"):
        return None
    return text(item.get("tool_use_id")) or object(), False


_DIALECT = Dialect(api=API, id_max=64, part_of=_part_of, company=_company)
_SUMMING_UP = replace(_DIALECT, company=partial(_company, sums_up=True))
