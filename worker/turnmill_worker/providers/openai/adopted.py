"""What a thread of OpenAI's holds, as messages: words, calls of functions, and their outputs.

Other items of the vendor's own mean nothing without the reasoning that they came with, which it
keeps to itself; what the model said about them is here.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from turnmill.domain.content import Message, Part, Text, ToolOutput
from turnmill_worker.providers.offering import call_of
from turnmill_worker.providers.pairing import is_blank
from turnmill_worker.providers.untrusted import mappings, text

_ROLES: Mapping[str, str] = MappingProxyType(
    {"assistant": "assistant", "developer": "system", "system": "system", "user": "user"}
)
_TEXTS = frozenset({"input_text", "output_text", "text"})
#: Where older messages stand that were too many to be read.
EARLIER = Message.of("system", "(What was said before this in the conversation is not known here.)")


def messages_of(items: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Return the items as messages, in order; what the model says in a row is one."""
    said: list[tuple[str, list[Part]]] = []
    for item in items:
        role, parts = _said(item)
        if parts and role == "assistant" and said and said[-1][0] == role:
            said[-1][1].extend(parts)
        elif parts:
            said.append((role, parts))
    return [Message(role, parts) for role, parts in said]


def _said(item: Mapping[str, Any]) -> tuple[str, list[Part]]:
    match item.get("type", "message"):
        case "message":
            role = _ROLES.get(text(item.get("role")), "")
            words = _joined(item.get("content")) if role else ""
            return role, [] if is_blank(words) else [Text(words)]
        case "function_call":
            return "assistant", [
                call_of(
                    call_id=item.get("call_id"),
                    called=item.get("name"),
                    arguments=item.get("arguments"),
                    taken=(),
                )
            ]
        case "function_call_output":
            output = _joined(item.get("output"))
            return "tool", [ToolOutput(call_id=text(item.get("call_id")), output=output)]
        case _:
            return "", []


def _joined(content: object) -> str:
    if isinstance(content, str):
        return text(content)
    return "\n".join(_words(content))


def _words(content: object) -> Iterator[str]:
    for part in mappings(content):
        kind = text(part.get("type"))
        if kind in _TEXTS:
            yield text(part.get("text"))
        elif kind == "refusal":
            yield text(part.get("refusal"))
        elif kind == "input_image":
            yield "[an image]"
        elif kind == "input_file":
            yield f"[a file: {text(part.get('filename')) or 'without a name'}]"
