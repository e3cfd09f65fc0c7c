"""Bodies against the types that the vendors publish with their own SDKs."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter, ValidationError

#: By the end of the path.
_TYPES: Mapping[str, Any] = {
    "/messages": MessageCreateParamsNonStreaming,
    "/chat/completions": CompletionCreateParamsNonStreaming,
    "/responses": ResponseCreateParamsNonStreaming,
}


def misfits(path: str, body: Any) -> list[str]:
    """Return where the body is none of the vendor's type, in a few words each."""
    for end in _TYPES:
        if path.endswith(end):
            try:
                _read(_adapter(end).validate_python(_as_declared(body)))
            except ValidationError as error:
                return [f"{path}: {one['loc']}: {one['msg']}" for one in error.errors()[:3]]
    return []


def _as_declared(body: Any) -> Any:
    """Return the body with what the types declare and the vendor does not ask for.

    A streamed one differs in that alone. What the model said is sent without the ids of it, which
    belong to whoever has stored them.
    """
    body = {name: one for name, one in body.items() if name != "stream"}
    if not isinstance(body.get("input"), list):
        return body
    return {**body, "input": [_item_as_declared(one) for one in body["input"]]}


def _item_as_declared(item: Any) -> Any:
    if item.get("type") != "message" or item.get("role") != "assistant":
        return item
    content = [{**block, "annotations": []} for block in item["content"]]
    return {**item, "id": "msg_1", "status": "completed", "content": content}


@cache
def _adapter(end: str) -> TypeAdapter[Any]:
    return TypeAdapter(_TYPES[end])


def _read(value: Any) -> None:
    """Look at all of it: what the types call iterable is looked at when it is read."""
    if isinstance(value, dict):
        value = value.values()
    if not isinstance(value, str | bytes | int | float) and value is not None:
        for one in value:
            _read(one)
