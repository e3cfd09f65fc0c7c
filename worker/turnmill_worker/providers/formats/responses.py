"""OpenAI's Responses API: `POST /responses`, as a chain or with the history sent along."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from turnmill.domain.errors import MaybeSent, NotSent, ProviderError, RateLimited, Rejected
from turnmill_worker.providers.base import Done, Part, Request, Running, Usage
from turnmill_worker.providers.failures import safe_code
from turnmill_worker.providers.parameters import vendor_parameters

PATH = "responses"

_RESERVED = frozenset(
    {
        "conversation",
        "input",
        "instructions",
        "model",
        "previous_response_id",
        "prompt",
        "store",
        "stream",
        "stream_options",
    }
)

#: A response that failed was not answered for certain: these are worth another try.
_FAILED: Mapping[str, type[ProviderError]] = MappingProxyType(
    {
        "rate_limit_exceeded": RateLimited,
        "server_error": NotSent,
        "vector_store_timeout": NotSent,
        "response_cancelled": NotSent,  # by somebody at the vendor: a turn of ours that was
        # cancelled is final, and not looked up any more
    }
)

_INCOMPLETE = MappingProxyType({"content_filter": "content_filter", "steered": "stop"})


def body_of(request: Request, *, chain: bool) -> dict[str, Any]:
    """Return the JSON body. A chain is kept by the vendor, so only what it lacks is sent."""
    parts = [*request.history, Part("user", request.text)]
    body = vendor_parameters(request.settings, reserved=_RESERVED)
    body["model"] = request.model
    body["store"] = chain
    if chain and request.thread_ref:
        body["previous_response_id"] = request.thread_ref
        parts = parts[-1:]
    if request.system_prompt:
        # Not carried along by a chain: https://platform.openai.com/docs/api-reference/responses
        body["instructions"] = request.system_prompt
    body["input"] = [_item(part) for part in parts]
    return body


def reply_of(payload: Mapping[str, Any], *, chain: bool, request_id: str) -> Done | Running:
    """Read a response object; raises when it failed, or is none."""
    try:
        status = payload["status"]
        kept = _kept(payload, chain=chain)
        if status in {"queued", "in_progress"}:
            return Running(native_ref=payload["id"], kept=kept)
        if status not in {"completed", "incomplete"}:
            raise _failure(payload, status=status, kept=kept, request_id=request_id)
        return Done(
            text=_text(payload["output"], "output_text") or _text(payload["output"], "refusal"),
            usage=_usage(payload.get("usage") or {}),
            finish_reason=_finish_reason(payload),
            thread_ref=payload["id"] if chain else "",
            request_id=request_id,
            model=payload.get("model") or "",
            kept=kept,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise MaybeSent("bad_reply", detail=type(error).__name__, request_id=request_id) from None


def _item(part: Part) -> dict[str, Any]:
    if part.role == "assistant":
        # The long form: llama.cpp takes no other for what the model said.
        content = [{"type": "output_text", "text": part.text}]
        return {"type": "message", "role": "assistant", "content": content}
    if part.role not in {"user", "system"}:
        raise Rejected("unsupported_role", detail=f"a message with the role {part.role}")
    return {"role": part.role, "content": part.text}


def _text(output: list[dict[str, Any]], kind: str) -> str:
    return "".join(
        content["text" if kind == "output_text" else kind]
        for item in output
        if item["type"] == "message"
        for content in item["content"]
        if content["type"] == kind
    )


def _finish_reason(payload: Mapping[str, Any]) -> str:
    if payload["status"] == "incomplete":
        reason = (payload.get("incomplete_details") or {}).get("reason")
        return _INCOMPLETE.get(str(reason), "length")
    kinds = {item["type"] for item in payload["output"]}
    if kinds & {"function_call", "custom_tool_call"}:
        return "tool_calls"
    return "refusal" if _text(payload["output"], "refusal") else "stop"


def _usage(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("input_tokens_details") or {}
    return Usage(
        input_tokens=usage.get("input_tokens") or 0,
        output_tokens=usage.get("output_tokens") or 0,
        cached_tokens=details.get("cached_tokens") or 0,
        cache_write_tokens=details.get("cache_write_tokens") or 0,
    )


def _kept(payload: Mapping[str, Any], *, chain: bool) -> tuple[str, ...]:
    """Return what the vendor stores, as it was asked to: also what failed, or leads nowhere."""
    name = payload.get("id")
    return (name,) if chain and isinstance(name, str) and name else ()


def _failure(
    payload: Mapping[str, Any], *, status: str, kept: Sequence[str], request_id: str
) -> ProviderError:
    error = payload.get("error") or {}
    code = safe_code(error.get("code")) or safe_code(f"response_{status}")
    kind = _FAILED.get(code, Rejected)
    detail = str(error.get("message") or "")
    return kind(code, detail=detail, kept=kept, request_id=request_id)
