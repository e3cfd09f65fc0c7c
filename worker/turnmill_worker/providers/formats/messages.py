"""Anthropic's Messages API: `POST /v1/messages`, the history sent along."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from turnmill.domain.errors import MaybeSent, Rejected
from turnmill_worker.providers.base import Done, Part, Request, Usage
from turnmill_worker.providers.parameters import vendor_parameters

PATH = "v1/messages"
DEFAULT_MAX_TOKENS = 8192  #: the vendor wants a number; the setting `max_output_tokens` changes it

_RESERVED = frozenset({"messages", "model", "prefill", "stream", "system"})

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
    parts = [part for part in (*request.history, Part("user", request.text)) if part.text.strip()]
    system = [part.text for part in parts if part.role == "system"]
    if request.system_prompt:
        system.insert(0, request.system_prompt)
    if system:
        body["system"] = "\n\n".join(system)
    body["model"] = request.model
    body["messages"] = [_message(part) for part in parts if part.role != "system"]
    return body


def reply_of(payload: Mapping[str, Any], *, request_id: str) -> Done:
    """Read a message object; raises MaybeSent when it is none."""
    try:
        texts = [block["text"] for block in payload["content"] if block["type"] == "text"]
        return Done(
            text="".join(texts),
            usage=_usage(payload["usage"]),
            finish_reason=_FINISH.get(payload["stop_reason"], "stop"),
            request_id=request_id,
            model=payload.get("model") or "",
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise MaybeSent("bad_reply", detail=type(error).__name__, request_id=request_id) from None


def _message(part: Part) -> dict[str, str]:
    if part.role not in {"user", "assistant"}:
        raise Rejected("unsupported_role", detail=f"a message with the role {part.role}")
    return {"role": part.role, "content": part.text}


def _usage(usage: Mapping[str, Any]) -> Usage:
    read = usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or 0
    # The vendor's `input_tokens` leaves out what came from or went to its cache; ours is the sum.
    return Usage(
        input_tokens=usage["input_tokens"] + read + written,
        output_tokens=usage["output_tokens"],
        cached_tokens=read,
        cache_write_tokens=written,
    )
