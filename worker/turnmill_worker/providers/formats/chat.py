"""Chat completions: `POST /chat/completions`, for servers that speak nothing newer."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from turnmill.domain.errors import MaybeSent, Rejected
from turnmill_worker.providers.base import Done, Part, Request, Usage
from turnmill_worker.providers.parameters import vendor_parameters

PATH = "chat/completions"

_RESERVED = frozenset({"messages", "model", "n", "store", "stream", "stream_options"})

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
    system = [Part("system", request.system_prompt)] if request.system_prompt else []
    parts = [*system, *request.history, Part("user", request.text)]
    body["model"] = request.model
    body["messages"] = [_message(part) for part in parts]
    return body


def reply_of(payload: Mapping[str, Any], *, request_id: str) -> Done:
    """Read a chat completion; raises MaybeSent when it is none."""
    try:
        choice = payload["choices"][0]
        message = choice["message"]
        refusal = message.get("refusal")
        return Done(
            text=message.get("content") or refusal or "",
            usage=_usage(payload.get("usage") or {}),
            finish_reason="refusal" if refusal else _FINISH.get(choice["finish_reason"], "stop"),
            request_id=request_id,
            model=payload.get("model") or "",
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise MaybeSent("bad_reply", detail=type(error).__name__, request_id=request_id) from None


def _message(part: Part) -> dict[str, str]:
    if part.role not in {"user", "assistant", "system"}:
        raise Rejected("unsupported_role", detail=f"a message with the role {part.role}")
    return {"role": part.role, "content": part.text}


def _usage(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        input_tokens=usage.get("prompt_tokens") or 0,
        output_tokens=usage.get("completion_tokens") or 0,
        cached_tokens=details.get("cached_tokens") or 0,
    )
