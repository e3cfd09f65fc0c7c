"""OpenAI's Responses API: `POST /responses`, as a chain or with the history sent along."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

from turnmill.domain.content import Message, Native, Part, Text
from turnmill.domain.errors import NotSent, ProviderError, RateLimited, Rejected
from turnmill_worker.providers.failures import (
    error_of_inside,
    raise_error_inside,
    safe_code,
    status_in,
    words_of,
)
from turnmill_worker.providers.fitting import item_of, natives, words
from turnmill_worker.providers.parameters import TOOLS, vendor_parameters
from turnmill_worker.providers.port import Done, Failed, Request, Running, Usage
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

PATH = "responses"
API = "responses"  #: of native parts

_RESERVED = TOOLS | {
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

#: Calls that the vendor answers itself. Every other one waits for somebody else's output, and a
#: chain that has none goes no further.
_ANSWERED = frozenset(
    {
        "code_interpreter_call",
        "file_search_call",
        "image_generation_call",
        "mcp_call",
        "web_search_call",
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

_ROLES = frozenset({"user", "assistant", "system"})
_ENDED = ("failed", "cancelled")
_OVER = ("completed", "incomplete")
_INCOMPLETE = MappingProxyType({"content_filter": "content_filter", "steered": "stop"})


def body_of(request: Request, *, chain: bool) -> dict[str, Any]:
    """Return the JSON body. A chain is kept by the vendor, so only what it lacks is sent."""
    body = vendor_parameters(request.settings, reserved=_RESERVED)
    body["model"] = request.model
    body["store"] = chain
    said: Sequence[Message] = request.messages
    if chain and request.thread_ref:
        body["previous_response_id"] = request.thread_ref
    else:
        said = [*request.history, *said]
    if request.system_prompt:
        # Not carried along by a chain: https://platform.openai.com/docs/api-reference/responses
        body["instructions"] = request.system_prompt
    body["input"] = [item for message in said for item in _items(message)]
    return body


def reply_of(payload: Mapping[str, Any], *, chain: bool, request_id: str) -> Done | Running:
    """Read a response object; raises when it failed or tells of an error, or Unreadable."""
    status = payload.get("status")
    given = name(payload.get("id"))
    kept = _kept(given, chain=chain)
    if status in ("queued", "in_progress") and given:
        return Running(native_ref=given, kept=kept)
    if status in _ENDED:
        raise _failure(payload, status=str(status), kept=kept)
    raise_error_inside(payload)
    items = mappings(payload.get("output"))
    said, refusal = _said(items)
    if not (said or refusal) and not _may_be_empty(payload, status):
        raise Unreadable
    unanswered = any(_is_unanswered(item) for item in items)
    return Done(
        text=said or refusal,
        usage=_usage(payload),
        finish_reason=_finish_reason(payload, called=unanswered, refused=bool(refusal)),
        thread_ref=given if chain and not unanswered else "",
        request_id=request_id,
        model=name(payload.get("model")),
        kept=kept,
    )


def found_of(
    payload: Mapping[str, Any], *, chain: bool, request_id: str
) -> Done | Running | Failed:
    """Read a response that was looked up; Failed where it has ended without an answer.

    An error beside it is one of the question: it raises, and says nothing about the work.
    """
    status = payload.get("status")
    if status in _ENDED:
        kept = _kept(name(payload.get("id")), chain=chain)
        error = _failure(payload, status=str(status), kept=kept)
        error.request_id = request_id
        return Failed(error=error)
    try:
        return reply_of(payload, chain=chain, request_id=request_id)
    except Unreadable:
        if status not in _OVER:
            raise
        # It has ended and will say the same tomorrow: as the answer to a call, it has no reply.
        kept = _kept(name(payload.get("id")), chain=chain)
        error = Rejected(
            "unreadable_reply", detail=words_of(payload), request_id=request_id, kept=kept
        )
        return Failed(error=error)


def _items(message: Message) -> Iterable[Any]:
    """Return what a message is here: its words, and items of the vendor's own where they stood."""
    role, parts = message.role, message.parts
    if role not in _ROLES:
        raise Rejected("unsupported_role", detail=f"a message with the role {role}")
    if len(parts) == 1 and isinstance(only := parts[0], Text):
        return (_item(role, only.text),)  # most are, and histories are long
    return _runs(role, parts or (Text(""),))


def _runs(role: str, parts: Sequence[Part]) -> Iterator[Any]:
    for is_native, run in groupby(parts, _is_native):
        if is_native:
            yield from (item_of(one) for one in natives(run, api=API))
        else:
            yield _item(role, words([*run]))


def _is_native(part: Part) -> bool:
    return isinstance(part, Native)


def _item(role: str, said: str) -> dict[str, Any]:
    if role == "assistant":
        # The long form: llama.cpp takes no other for what the model said.
        content = [{"type": "output_text", "text": said}]
        return {"type": "message", "role": "assistant", "content": content}
    return {"role": role, "content": said}


def _may_be_empty(payload: Mapping[str, Any], status: object) -> bool:
    """Tell whether nothing said is what the vendor means, and not what we fail to find."""
    if status not in (None, "completed", "incomplete"):
        return False
    output = payload.get("output")
    return output == [] or any(text(item.get("type")) for item in mappings(output))


def _said(items: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return what the model says, and its refusal; some servers send a text where parts were."""
    texts: list[object] = []
    refusals: list[object] = []
    for item in items:
        if item.get("type") != "message":
            continue
        content = item.get("content")
        parts = mappings(content)
        if not parts and content != []:
            texts.append(content)
        for part in parts:
            kind = part.get("type")
            if kind in ("output_text", "text"):
                texts.append(part.get("text"))
            elif kind == "refusal":
                refusals.append(part.get("refusal"))
    return joined(texts), joined(refusals)


def _is_unanswered(item: Mapping[str, Any]) -> bool:
    kind = item.get("type")
    if not isinstance(kind, str) or not kind.endswith(("_call", "_approval_request")):
        return False
    return kind not in _ANSWERED


def _finish_reason(payload: Mapping[str, Any], *, called: bool, refused: bool) -> str:
    if payload.get("status") == "incomplete":
        reason = text(mapping(payload.get("incomplete_details")).get("reason"))
        return _INCOMPLETE.get(reason, "length")
    if called:
        return "tool_calls"
    return "refusal" if refused else "stop"


def _usage(payload: Mapping[str, Any]) -> Usage:
    usage = mapping(payload.get("usage"))
    details = mapping(usage.get("input_tokens_details"))
    return Usage(
        input_tokens=count(usage.get("input_tokens")),
        output_tokens=count(usage.get("output_tokens")),
        cached_tokens=count_if_any(details.get("cached_tokens")),
        cache_write_tokens=count_if_any(details.get("cache_write_tokens")),
        service_tier=tier(payload.get("service_tier")),
    )


def _kept(given: str, *, chain: bool) -> tuple[str, ...]:
    """Return what the vendor stores, as it was asked to: also what failed, or leads nowhere."""
    return (given,) if chain and given else ()


def _failure(payload: Mapping[str, Any], *, status: str, kept: tuple[str, ...]) -> ProviderError:
    error = mapping(payload.get("error"))
    code = safe_code(error.get("code")) or safe_code(f"response_{status}")
    if code not in _FAILED and status_in(error):
        found = error_of_inside(error)
    else:
        found = _FAILED.get(code, Rejected)(code, detail=words_of(payload))
    found.kept = kept
    return found
