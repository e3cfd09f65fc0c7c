"""Anthropic's Messages API: `POST /v1/messages`, the history sent along."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from turnmill.domain.content import Message, Native, Part
from turnmill.domain.errors import Rejected
from turnmill_worker.providers.failures import raise_error_inside
from turnmill_worker.providers.fitting import item_of, natives, words
from turnmill_worker.providers.parameters import TOOLS, vendor_parameters
from turnmill_worker.providers.port import Done, Request, Usage
from turnmill_worker.providers.untrusted import (
    Unreadable,
    count,
    count_if_any,
    joined,
    mapping,
    mappings,
    name,
    text,
    tier,
    total,
)

PATH = "v1/messages"
API = "messages"  #: of native parts
DEFAULT_MAX_TOKENS = 8192  #: the vendor wants a number; the setting `max_output_tokens` changes it

_RESERVED = TOOLS | {"messages", "model", "prefill", "stream", "system"}

#: What changes no price.
_ORDINARY = frozenset({"", "standard", "global", "not_available"})

_FINISH = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "pause_turn": "length",
        "tool_use": "tool_calls",
        "refusal": "refusal",
    }
)


def body_of(request: Request) -> dict[str, Any]:
    """Return the JSON body.

    Blank messages are left out, since the vendor refuses them; neighbours of one role it joins
    itself. System messages go to the front, the one place that every model takes them from.
    """
    body = vendor_parameters(request.settings, reserved=_RESERVED)
    body.setdefault("max_tokens", body.pop("max_output_tokens", DEFAULT_MAX_TOKENS))
    said = [(one.role, _content(one)) for one in (*request.history, *request.messages)]
    system = [content for role, content in said if role == "system" and isinstance(content, str)]
    if request.system_prompt:
        system.insert(0, request.system_prompt)
    if system:
        body["system"] = "\n\n".join(system)
    body["model"] = request.model
    body["messages"] = [
        _message(role, content) for role, content in said if content and role != "system"
    ]
    return body


def reply_of(payload: Mapping[str, Any], *, request_id: str) -> Done:
    """Read a message object; raises the error that it tells of, or Unreadable."""
    raise_error_inside(payload)
    return Done(
        text=_said(payload.get("content")),
        usage=_usage(mapping(payload.get("usage"))),
        finish_reason=_FINISH.get(text(payload.get("stop_reason")), "stop"),
        request_id=request_id,
        model=name(payload.get("model")),
    )


def _said(content: object) -> str:
    if isinstance(content, str):
        return text(content)
    blocks = mappings(content)
    if not blocks and content != []:
        raise Unreadable
    return joined(block.get("text") for block in blocks if block.get("type") == "text")


def _content(message: Message) -> str | list[Any]:
    """Return a text, or blocks where the vendor's own stand among its words; "" for nothing."""
    if message.role == "system" or not any(isinstance(one, Native) for one in message.parts):
        said = words(message.parts)
        return said if said.strip() else ""
    return [*_blocks(message.parts)]


def _blocks(parts: Sequence[Part]) -> Iterator[Any]:
    for part in parts:
        if isinstance(part, Native):
            yield from (item_of(one) for one in natives([part], api=API))
        elif (said := words([part])).strip():
            yield {"type": "text", "text": said}


def _message(role: str, content: str | list[Any]) -> dict[str, Any]:
    if role not in {"user", "assistant"}:
        raise Rejected("unsupported_role", detail=f"a message with the role {role}")
    return {"role": role, "content": content}


def _usage(usage: Mapping[str, Any]) -> Usage:
    fresh = count(usage.get("input_tokens"))
    read = count_if_any(usage.get("cache_read_input_tokens"))
    written = count_if_any(usage.get("cache_creation_input_tokens"))
    lives = mapping(usage.get("cache_creation"))
    # The vendor's `input_tokens` leaves out what came from or went to its cache; ours is the sum.
    return Usage(
        input_tokens=total(fresh, read, written),
        output_tokens=count(usage.get("output_tokens")),
        cached_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=count_if_any(lives.get("ephemeral_1h_input_tokens")),
        service_tier=_tier(usage),
    )


def _tier(usage: Mapping[str, Any]) -> str:
    """Return what decides the price beside the tokens: the tier, the speed and the region."""
    named = [tier(usage.get(name)) for name in ("service_tier", "speed", "inference_geo")]
    return ".".join(one for one in named if one not in _ORDINARY)
