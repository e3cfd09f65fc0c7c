"""What a line came to as it would be over HTTP, and as OpenAI writes it into its files."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from turnmill.domain.replying import FinishReason
from turnmill.domain.states import TurnState
from turnmill.store.batch_records import BatchResult

_HTTP = "http_"
#: What an error would have been over HTTP, where its code does not say so. Others are refusals.
_STATUS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("key_missing", "invalid_api_key", "authentication_error"), 401),
        **dict.fromkeys(("insufficient_credits", "billing_error", "budget_exceeded"), 402),
        **dict.fromkeys(("permission_error",), 403),
        **dict.fromkeys(("provider_unknown", "model_not_found", "not_found_error"), 404),
        **dict.fromkeys(("rate_limited", "insufficient_quota", "rate_limit_exceeded"), 429),
        **dict.fromkeys(("overloaded", "unreachable", "not_sent"), 503),
        **dict.fromkeys(("timeout", "background_timeout"), 504),
    }
)
_OF_OPENAI: Mapping[TurnState, tuple[str, str]] = MappingProxyType(
    {
        TurnState.CANCELLED: ("batch_cancelled", "This request was cancelled."),
        TurnState.EXPIRED: ("batch_expired", "This request could not be executed in time."),
    }
)
#: Why OpenAI would call a reply incomplete.
_CUT_SHORT: Mapping[str, str] = MappingProxyType(
    {
        FinishReason.LENGTH: "max_output_tokens",
        FinishReason.CONTEXT_FULL: "max_output_tokens",
        FinishReason.CONTENT_FILTER: "content_filter",
    }
)
#: Why a chat completion of OpenAI's ends, but for those that end since all was said.
_FINISH: Mapping[str, str] = MappingProxyType(
    {
        FinishReason.LENGTH: "length",
        FinishReason.CONTEXT_FULL: "length",
        FinishReason.CONTENT_FILTER: "content_filter",
        FinishReason.TOOL_CALLS: "tool_calls",
    }
)


def as_openai(result: BatchResult) -> dict[str, Any] | None:
    """Return a result as OpenAI writes it into output and error files; None while there is none."""
    if not result.is_final or result.state is None:
        return None
    named = str(result.turn_id or result.line)
    line: dict[str, Any] = {
        "id": f"batch_req_{named}",
        "custom_id": result.custom_id,
        "response": None,
        "error": None,
    }
    if result.state in _OF_OPENAI:
        code, message = _OF_OPENAI[result.state]
        return line | {"error": {"code": code, "message": message}}
    body = _body(result, named) if result.parts is not None else _refusal(result)
    said = {"status_code": status_of(result), "request_id": named, "body": body}
    return line | {"response": said}


def _body(result: BatchResult, named: str) -> dict[str, Any]:
    at = 0 if result.finished_at is None else int(result.finished_at.timestamp())
    made = _response if result.api == "responses" else _completion
    return {**made(result, named, at), "model": result.model or ""}


def _response(result: BatchResult, named: str, at: int) -> dict[str, Any]:
    """Return a reply as OpenAI's Responses have it, with all that its readers insist on."""
    refused = result.finish_reason == FinishReason.REFUSAL
    said: dict[str, Any] = {"type": "output_text", "text": result.text, "annotations": []}
    content = {"type": "refusal", "refusal": result.text} if refused else said
    message = {"id": f"msg_{named}", "type": "message", "role": "assistant"}
    cut = _CUT_SHORT.get(result.finish_reason or "")
    usage = _usage(result, "input_tokens", "output_tokens")
    if usage is not None:
        usage["input_tokens_details"] = {
            "cached_tokens": result.cached_tokens or 0,
            "cache_write_tokens": 0,
        }
        usage["output_tokens_details"] = {"reasoning_tokens": 0}
    return {
        "id": f"resp_{named}",
        "object": "response",
        "created_at": at,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": cut} if cut else None,
        "error": None,
        "output": [{**message, "status": "completed", "content": [content]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }


def _completion(result: BatchResult, named: str, at: int) -> dict[str, Any]:
    refused = result.finish_reason == FinishReason.REFUSAL
    words = {"role": "assistant", "content": result.text, "refusal": None}
    if refused:
        words |= {"content": None, "refusal": result.text}
    finish = _FINISH.get(result.finish_reason or "", "stop")
    choice = {"index": 0, "message": words, "logprobs": None, "finish_reason": finish}
    return {
        "id": f"chatcmpl-{named}",
        "object": "chat.completion",
        "created": at,
        "choices": [choice],
        "usage": _usage(result, "prompt_tokens", "completion_tokens"),
    }


def _usage(result: BatchResult, asked: str, answered: str) -> dict[str, Any] | None:
    """Return what was used in the vendor's words; None where nobody knows."""
    told, said = result.input_tokens, result.output_tokens
    if told is None or said is None:
        return None
    return {asked: told, answered: said, "total_tokens": told + said}


def _refusal(result: BatchResult) -> dict[str, Any]:
    error = {"message": result.error_code, "type": "invalid_request_error", "param": None}
    return {"error": {**error, "code": result.error_code}}


def status_of(result: BatchResult) -> int | None:
    """Return what the answer to the line would be over HTTP; None where there was none."""
    if result.state is TurnState.SUCCEEDED:
        return 200
    if result.state not in (TurnState.FAILED, TurnState.DEAD):
        return None
    code = result.error_code or ""
    if code.startswith(_HTTP) and code.removeprefix(_HTTP).isdecimal():
        return int(code.removeprefix(_HTTP))
    return _STATUS.get(code, 400 if result.state is TurnState.FAILED else 500)
