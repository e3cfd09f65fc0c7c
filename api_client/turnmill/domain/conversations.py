"""Conversations that were had elsewhere: as OpenAI, Anthropic and ShareGPT write them down.

The shapes are told apart by what is in them. Errors name the place, and quote nothing.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from turnmill.domain.arguments import yes_or_no
from turnmill.domain.bounds import MOST_HISTORY
from turnmill.domain.checks import check_text
from turnmill.domain.content import Attached, Message, Part, Text, ToolCall, ToolOutput
from turnmill.domain.errors import InvalidInput
from turnmill.domain.plain import items_of, text_of

_HINT = '{"role": "user", "content": "…"}, {"from": "human", "value": "…"}, or a Message'

_ROLES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("user", "human"), "user"),
        **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model"), "assistant"),
        **dict.fromkeys(("system", "developer"), "system"),
        **dict.fromkeys(("tool", "function", "observation"), "tool"),
        "function_call": "assistant",
    }
)
_WORDS = frozenset({"text", "input_text", "output_text", "refusal", "summary_text"})
#: What a model thought belongs to the vendor's own thread, and means nothing outside it.
_LEFT_OUT = frozenset({"thinking", "redacted_thinking", "reasoning"})
#: What is no text stands as a word on what it was: the bytes are not in the file.
_WERE_THERE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("image", "image_url", "input_image"), "[an image]"),
        **dict.fromkeys(("document", "file", "input_file"), "[a file]"),
        **dict.fromkeys(("audio", "input_audio"), "[audio]"),
    }
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was said, and what the model had been told before."""

    system_prompt: str | None = field(repr=False)
    messages: tuple[Message, ...]


def conversation_from(given: object, *, max_text_bytes: int, files: bool = False) -> Conversation:
    """Return what a document, or a list of messages, holds; raises InvalidInput.

    System messages before anybody else speaks are the system prompt; later ones stay where they
    stand. Images, files and audio become a word on what they were; what a model thought is left
    out. With `files`, messages of ours may hold what is to be kept.
    """
    try:
        system, listed = _listed(given)
    except InvalidInput:
        raise
    except Exception:  # noqa: BLE001
        # The edge to a caller's own kind of mapping.
        raise InvalidInput("this is no conversation: it cannot be read", hint=_HINT) from None
    messages = [*_messages(listed, max_bytes=max_text_bytes, files=files)]
    begins = next((n for n, one in enumerate(messages) if one.role != "system"), len(messages))
    said_first = [system] if system else []
    said_first += [one.text for one in messages[:begins]]
    return Conversation("\n\n".join(said_first) or None, tuple(messages[begins:]))


def _listed(given: object) -> tuple[str | None, Iterable[object]]:
    """Return the system prompt that stands apart, and the list of messages."""
    if not isinstance(given, Mapping):
        return None, _sequence(given, "history")
    for name in ("messages", "conversations", "conversation", "input"):
        if name in given:
            system = given.get("system") or given.get("system_prompt")
            said = _texts(system) if system else ""
            return (said or None), _sequence(given[name], name)
    raise InvalidInput("this is no conversation: no list of messages in it", hint=_HINT)


def _sequence(found: object, name: str) -> Sequence[object]:
    listed = items_of(found, most=MOST_HISTORY) if isinstance(found, list | tuple) else None
    if listed is None:
        raise InvalidInput(f"{name} must be a list of messages", hint=_HINT)
    if len(listed) > MOST_HISTORY:
        raise InvalidInput(f"{name} has more than {MOST_HISTORY} messages", hint="split it")
    return listed


def _messages(listed: Iterable[object], *, max_bytes: int, files: bool) -> Iterator[Message]:
    calls: list[str] = []  # ids of those that nobody has answered, of a shape without ids
    for n, one in enumerate(listed):
        try:
            found = (one,) if isinstance(one, Message) else tuple(_read(one, calls))
            for message in found:
                if checked := _checked(message, max_bytes=max_bytes, files=files):
                    yield checked
        except InvalidInput as error:
            raise type(error)(f"message {n}: {error}", hint=error.hint) from None
        except Exception:  # noqa: BLE001
            # The edge to a caller's own kind of mapping.
            raise InvalidInput(f"message {n} cannot be read", hint=_HINT) from None


def _checked(message: Message, *, max_bytes: int, files: bool) -> Message | None:
    """Return the message without its blanks; None where nothing is left. Raises InvalidInput."""
    if message.role not in _ROLES.values():
        raise InvalidInput("nobody speaks in this role", hint="user, assistant, tool or system")
    listed = _sequence(message.parts, "parts")
    parts: tuple[Any, ...] = tuple(one for one in listed if not _is_blank(one))
    for one in parts:
        if files and isinstance(one, Attached):
            continue
        if not isinstance(one, Text | ToolCall | ToolOutput):
            raise InvalidInput(
                f"a part of the kind {getattr(one, 'kind', '?')} is not taken",
                hint="texts, and calls of tools with their outputs",
            )
        if isinstance(one, ToolOutput):
            yes_or_no(one.is_error, name="is_error")
        for said in _strings(one):
            check_text(said, max_bytes=max_bytes)
    return Message(message.role, tuple(map(_plain, parts))) if parts else None


def _plain(part: Any) -> Any:
    """Return the part with texts that are of no kind of the caller's."""
    if isinstance(part, Attached):
        return part
    said = {field.name: text_of(getattr(part, field.name)) for field in fields(part)}
    return replace(part, **{name: text for name, text in said.items() if text is not None})


def _strings(part: Text | ToolCall | ToolOutput) -> Iterator[Any]:
    """Yield what has to be text in it, and is not empty where it may be."""
    if isinstance(part, Text):
        yield part.text
        return
    if isinstance(part, ToolCall):
        yield from (part.id, part.name)
    else:
        yield part.call_id
    said: Any = part.arguments if isinstance(part, ToolCall) else part.output
    if not isinstance(said, str) or said.strip():
        yield said


def _is_blank(part: object) -> bool:
    text: Any = part.text if isinstance(part, Text) else None
    return isinstance(text, str) and not text.strip()


def _read(one: object, calls: list[str]) -> Iterator[Message]:
    if not isinstance(one, Mapping):
        raise InvalidInput("this is no message", hint=_HINT)
    kind = _kind(one)
    if "from" in one:
        yield _of_sharegpt(one, calls)
    elif kind in _ITEMS:
        yield from _ITEMS[kind](one)
    elif kind not in _LEFT_OUT:
        yield from _of_roles(one)


def _kind(found: Mapping[str, Any], *, default: str = "") -> str:
    kind = found.get("type", default)
    return kind if isinstance(kind, str) else "unknown"


def _role(value: object) -> str:
    role = _ROLES.get(value.lower()) if isinstance(value, str) else None
    if role is None:
        raise InvalidInput("nobody speaks in this role", hint="user, assistant, tool or system")
    return role


def _of_roles(one: Mapping[str, Any]) -> Iterator[Message]:
    """Yield what a message of OpenAI's or Anthropic's says: outputs of tools by themselves."""
    role = _role(one.get("role"))
    parts = [*_parts(one.get("content"))]
    if role == "tool":
        name = one.get("tool_call_id") or one.get("name") or ""
        yield Message(role, (_output(name, _texts(one.get("content"))),))
        return
    parts += [_call_of(call) for call in _sequence(one.get("tool_calls") or [], "tool_calls")]
    if isinstance(legacy := one.get("function_call"), Mapping):
        parts.append(_call(legacy.get("name"), legacy.get("name"), legacy.get("arguments")))
    outputs = tuple(part for part in parts if isinstance(part, ToolOutput))
    if outputs:
        yield Message("tool", outputs)
    if others := tuple(part for part in parts if not isinstance(part, ToolOutput)):
        yield Message(role, others)


def _parts(content: object) -> Iterator[Part]:
    if content is None:
        return
    if isinstance(content, str):
        yield Text(str.__str__(content))
        return
    if not isinstance(content, list | tuple):
        raise InvalidInput("content must be a text, or a list of parts", hint=_HINT)
    for block in _sequence(content, "content"):
        if isinstance(block, str):
            yield Text(str.__str__(block))
        elif isinstance(block, Mapping):
            yield from _part(block)
        else:
            raise InvalidInput("a part must be an object", hint=_HINT)


def _part(block: Mapping[str, Any]) -> Iterator[Part]:
    kind = _kind(block, default="text")
    if kind in _WORDS:
        yield Text(_str(block.get("text", block.get("refusal")), "text"))
    elif kind == "tool_use":
        yield _call(block.get("id"), block.get("name"), block.get("input"))
    elif kind == "tool_result":
        said, failed = _texts(block.get("content")), bool(block.get("is_error"))
        yield _output(block.get("tool_use_id"), said, is_error=failed)
    elif kind in _WERE_THERE:
        yield Text(_WERE_THERE[kind])
    elif kind not in _LEFT_OUT:
        raise InvalidInput("a part is of a kind that nobody here knows", hint="text, tool_use, …")


def _texts(content: object) -> str:
    """Return the words of a content."""
    return "\n\n".join(one.text for one in _parts(content) if isinstance(one, Text))


def _call_of(found: object) -> ToolCall:
    if not isinstance(found, Mapping):
        raise InvalidInput("a call of a tool must be an object", hint=_HINT)
    function = found.get("function")
    named = function if isinstance(function, Mapping) else found
    return _call(found.get("id"), named.get("name"), named.get("arguments"))


def _call(call_id: object, name: object, arguments: object) -> ToolCall:
    said = arguments if isinstance(arguments, str) else _as_json(arguments or {})
    return ToolCall(id=_str(call_id, "id"), name=_str(name, "name"), arguments=said)


def _output(call_id: object, said: str, *, is_error: bool = False) -> ToolOutput:
    return ToolOutput(call_id=_str(call_id, "id of a call"), output=said, is_error=is_error)


def _str(found: object, name: str) -> str:
    if not isinstance(found, str) or not found:
        raise InvalidInput(f"the {name} of a part must be a text", hint=_HINT)
    return found


def _of_sharegpt(one: Mapping[str, Any], calls: list[str]) -> Message:
    role, said = _role(one.get("from")), one.get("value")
    text = said if isinstance(said, str) else _as_json(said)
    if one.get("from") == "function_call":
        calls.append(f"call_{len(calls) + 1}")
        named = _object(text)
        call = _call(calls[-1], named.get("name") or "tool", named.get("arguments", text))
        return Message(role, (call,))
    if role == "tool" and calls:
        return Message(role, (_output(calls[-1], text),))
    return Message("user" if role == "tool" else role, (Text(text),))


def _as_json(value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False)  # who is sent a NaN later takes no turn with it
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput("a value is no JSON", hint=_HINT) from None


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _item_call(one: Mapping[str, Any]) -> Iterator[Message]:
    call = _call(one.get("call_id"), one.get("name"), one.get("arguments"))
    yield Message("assistant", (call,))


def _item_output(one: Mapping[str, Any]) -> Iterator[Message]:
    yield Message("tool", (_output(one.get("call_id"), _texts(one.get("output"))),))


#: Items of OpenAI's Responses API that are no messages.
_ITEMS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Message]]] = MappingProxyType(
    {"function_call": _item_call, "function_call_output": _item_output}
)
