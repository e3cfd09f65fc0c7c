"""What the double checks of a body, and what it answers with."""

from collections.abc import Collection, Sequence
from typing import Any

from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

from tests.doubles.vendor_double import Refused
from tests.validators import openai_chat, openai_responses

#: The vendor refuses parameters that it does not know; these are the ones that it does.
RESPONSE_PARAMETERS = frozenset(ResponseCreateParamsNonStreaming.__annotations__)


CHAT_PARAMETERS = frozenset(CompletionCreateParamsNonStreaming.__annotations__)


def check_response_body(body: dict[str, Any], *, held: Collection[str] = ()) -> None:
    """Raise Refused for what `POST /responses` refuses; `held` are calls open in the thread."""
    if not isinstance(body.get("model"), str):
        raise Refused(400, "missing_required_parameter", "Missing required parameter: 'model'.")
    if not body.get("input"):
        raise Refused(400, "missing_required_parameter", "Missing required parameter: 'input'.")
    if body.get("background") and not body.get("store", True):
        raise Refused(400, "invalid_value", "Background requires store.")
    if body.get("max_output_tokens", 16) < 16:
        raise Refused(400, "integer_below_min_value", "Invalid 'max_output_tokens'.")
    if not 0 <= body.get("temperature", 1) <= 2:
        raise Refused(400, "decimal_above_max_value", "Invalid 'temperature'.")
    if not isinstance(body.get("instructions", ""), str):
        raise Refused(400, "invalid_type", "Invalid type for 'instructions'.")
    for wrong in openai_responses.violations({**body, "input": items_of(body["input"])}, held=held):
        raise Refused(400, "", wrong, param="input" if "tool output" in wrong else None)


def check_chat_body(body: dict[str, Any]) -> None:
    """Raise Refused for what `POST /chat/completions` refuses."""
    if not isinstance(body.get("model"), str):
        raise Refused(400, "missing_required_parameter", "you must provide a model parameter")
    if not body.get("messages"):
        raise Refused(400, "missing_required_parameter", "Missing required parameter: 'messages'.")
    for wrong in openai_chat.violations(body):
        raise Refused(400, "invalid_value", wrong)


def shown_as(conversation: Any) -> Any:
    return {"id": conversation} if isinstance(conversation, str) else conversation


def items_of(given: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def open_calls(items: Sequence[dict[str, Any]]) -> set[str]:
    """Return the calls in a thread that have no output yet."""
    ids: dict[str, set[str]] = {"function_call": set(), "function_call_output": set()}
    for item in items:
        if (kind := item.get("type")) in ids:
            ids[kind].add(item["call_id"])
    return ids["function_call"] - ids["function_call_output"]


def echo(items: list[dict[str, Any]]) -> str:
    last = items[-1]
    said = last.get("content", last.get("output"))
    text = said if isinstance(said, str) else "".join(map(shown, said or ()))
    return f"echo: {text} [{len(items) - 1} before]"


def shown(block: dict[str, Any]) -> str:
    return str(block["text"]) if "text" in block else f"[{block['type']}]"


def outcome_of(fault: str, text: str) -> tuple[str, str]:
    """Return the text and chat's finish reason."""
    if fault == "refusal":
        return "I can't help with that.", "stop"
    finish = fault if fault in {"length", "content_filter", "tool_calls"} else "stop"
    return text, finish


def output_of(number: int, text: str, *, outcome: str) -> list[dict[str, Any]]:
    if outcome == "tool_calls":
        call = {"id": f"fc_{number}", "call_id": f"call_{number}", "name": "f", "arguments": "{}"}
        return [{"type": "function_call", "status": "completed", **call}]
    block: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    if outcome == "refusal":
        block = {"type": "refusal", "refusal": text}
    return [
        {"id": f"rs_{number}", "type": "reasoning", "summary": []},
        {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [block],
        },
    ]


def chat_usage() -> dict[str, Any]:
    return {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


def usage_of() -> dict[str, Any]:
    return {
        "input_tokens": 1423,
        "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 16},
        "output_tokens": 128,
        "output_tokens_details": {"reasoning_tokens": 64},
        "total_tokens": 1551,
    }
