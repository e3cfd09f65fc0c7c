"""Chat completions: `POST /chat/completions`, for servers that speak nothing newer."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from turnmill.domain.content import Message, Native
from turnmill.domain.errors import NotSent, Rejected
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
)

PATH = "chat/completions"
API = "chat"  #: of native parts

_RESERVED = TOOLS | {"messages", "model", "n", "store", "stream", "stream_options"}

_FINISH = MappingProxyType(
    {
        "stop": "stop",
        "length": "length",
        "content_filter": "content_filter",
        "tool_calls": "tool_calls",
        "function_call": "tool_calls",
    }
)


def body_of(request: Request) -> dict[str, Any]:
    """Return the JSON body; `max_output_tokens` goes by its older name here."""
    body = vendor_parameters(request.settings, reserved=_RESERVED)
    if "max_output_tokens" in body:
        body["max_tokens"] = body.pop("max_output_tokens")
    system = [Message.of("system", request.system_prompt)] if request.system_prompt else []
    said = [*system, *request.history, *request.messages]
    body["model"] = request.model
    body["messages"] = [_message(one) for one in said]
    return body


def reply_of(payload: Mapping[str, Any], *, request_id: str) -> Done:
    """Read a chat completion; raises the error that it tells of, or Unreadable."""
    raise_error_inside(payload)
    choices = mappings(payload.get("choices"))
    if not choices:
        raise Unreadable
    choice = choices[0]
    finish = text(choice.get("finish_reason"))
    if finish == "error":
        raise NotSent("finish_reason_error")  # there will be no answer
    said, refusal = _said(mapping(choice.get("message")))
    return Done(
        text=said or refusal,
        usage=_usage(payload),
        finish_reason="refusal" if refusal else _FINISH.get(finish, "stop"),
        request_id=request_id,
        model=name(payload.get("model")),
    )


def _said(message: Mapping[str, Any]) -> tuple[str, str]:
    """Return what the model says, and its refusal; some servers send parts where a text was."""
    content, refusal = message.get("content"), text(message.get("refusal"))
    if isinstance(content, str):
        return text(content), refusal
    if isinstance(content, list | dict):
        parts = mappings(content)
        refusal = refusal or "".join(text(one.get("refusal")) for one in parts)
        texts = [one.get("text") for one in parts if one.get("type") in ("text", "output_text")]
        if not parts:
            raise Unreadable
        return joined(texts), refusal
    if content is not None or not message:
        raise Unreadable
    return "", refusal


def _message(message: Message) -> dict[str, Any]:
    """Return a message: its words, and the fields of the server's own that came with them."""
    if message.role not in {"user", "assistant", "system"}:
        raise Rejected("unsupported_role", detail=f"a message with the role {message.role}")
    own: dict[str, Any] = {}
    for native in natives(message.parts, api=API):
        own |= mapping(item_of(native))
    said = words([one for one in message.parts if not isinstance(one, Native)])
    return {**own, "role": message.role, "content": said}


def _usage(payload: Mapping[str, Any]) -> Usage:
    usage = mapping(payload.get("usage"))
    details = mapping(usage.get("prompt_tokens_details"))
    return Usage(
        input_tokens=count(usage.get("prompt_tokens")),
        output_tokens=count(usage.get("completion_tokens")),
        cached_tokens=count_if_any(details.get("cached_tokens")),
        service_tier=tier(payload.get("service_tier")),
    )
