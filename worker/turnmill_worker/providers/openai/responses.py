"""OpenAI's Responses API: `POST /responses`, as a chain or with the history sent along."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from turnmill.domain.content import ToolCall, text_of
from turnmill.domain.errors import NotSent, ProviderError, RateLimited, Rejected
from turnmill_worker.providers.causes import cause_of
from turnmill_worker.providers.failures import (
    error_of_inside,
    raise_error_inside,
    safe_code,
    status_in,
    words_of,
)
from turnmill_worker.providers.offering import (
    form_of,
    function_of,
    reserved_of,
    tool_choice_of,
)
from turnmill_worker.providers.openai.items import (
    input_of,
    is_refusal,
    paints,
    parts_of,
    reasons,
    unanswered_in,
)
from turnmill_worker.providers.parameters import TOOLS, vendor_parameters
from turnmill_worker.providers.port import Done, Failed, Request, Running
from turnmill_worker.providers.untrusted import (
    Unreadable,
    mapping,
    mappings,
    name,
    text,
)
from turnmill_worker.providers.usages import of_openai, used_at_openai

PATH = "responses"
COUNT_PATH = "responses/input_tokens"

_RESERVED = TOOLS | {
    "conversation",
    "input",
    "instructions",
    "model",
    "previous_response_id",
    "store",
    "stream",
    "stream_options",
}

_COUNTED = frozenset(
    {"input", "instructions", "model", "reasoning", "text", "tool_choice", "tools", "truncation"}
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

_ENDED = ("failed", "cancelled")
_OVER = ("completed", "incomplete")
_INCOMPLETE = MappingProxyType({"content_filter": "content_filter", "steered": "stop"})


class OnlyPainted(Rejected):
    """The answer is a picture, and no word is beside it."""


def body_of(
    request: Request, *, chain: bool, conversation: str = "", store: bool | None = None
) -> dict[str, Any]:
    """Return the JSON body. A thread is kept by the vendor, so only what it lacks is sent.

    To a `conversation` everything is added that is sent; of one that was just begun that is all.
    """
    body = vendor_parameters(request.settings, reserved=reserved_of(request, reserved=_RESERVED))
    body["model"] = request.model
    body["store"] = chain or bool(conversation) if store is None else store
    if request.system_prompt:
        # Not carried along by a chain: https://platform.openai.com/docs/api-reference/responses
        body["instructions"] = request.system_prompt
    if conversation:
        body["conversation"] = conversation
    if chain and request.thread_ref:
        body["previous_response_id"] = request.thread_ref
    if request.continues:
        held, said = request.messages[: request.continues], request.messages[request.continues :]
        body["input"] = input_of(request, said, held=held)
    elif chain and request.thread_ref:
        body["input"] = input_of(request, request.messages)
    else:
        body["input"] = input_of(request, request.messages, history=request.history)
    if request.tools:
        _offer_tools(body, request, chain=chain or bool(conversation))
    if request.output_schema is not None:
        form = {"type": "json_schema", **form_of(request.output_schema)}
        body["text"] = {**mapping(body.get("text")), "format": form}
    return body


def counted_body_of(request: Request) -> dict[str, Any]:
    """Return the part of the body that decides how much is read, with the whole history in it."""
    body = body_of(request, chain=False)
    return {name: one for name, one in body.items() if name in _COUNTED}


def _offer_tools(body: dict[str, Any], request: Request, *, chain: bool) -> None:
    body["tools"] = [
        {"type": "function", "strict": False, **function_of(one)} for one in request.tools
    ]
    kind, tool = tool_choice_of(request)
    body.pop("tool_choice", None)
    if kind:
        body["tool_choice"] = {"type": "function", "name": tool} if kind == "tool" else kind
    if not chain and reasons(request.model):
        body.setdefault("include", ["reasoning.encrypted_content"])


def reply_of(
    payload: Mapping[str, Any],
    *,
    chain: bool,
    request_id: str,
    offered: bool = True,
    thread: str | None = None,
) -> Done | Running:
    """Read a response object; raises when it failed or tells of an error, or Unreadable.

    A reply that is a picture and nothing else would be an empty one here: it raises OnlyPainted.
    `chain`: the vendor has stored it. `thread` goes on from there; None: the response itself.
    Where no tools were `offered`, nobody will answer calls: no thread goes on from there.
    """
    status = payload.get("status")
    given = name(payload.get("id"))
    kept = _kept(given, chain=chain)
    if status in ("queued", "in_progress") and given:
        return Running(native_ref=given, kept=kept)
    if status in _ENDED:
        raise _failure(payload, status=str(status), kept=kept)
    raise_error_inside(payload)
    output = mappings(payload.get("output"))
    parts = parts_of(output, keep=not chain or thread == "", called=status != "incomplete")
    called = any(isinstance(one, ToolCall) for one in parts)
    if not (called or text_of(parts)):
        if paints(output):
            raise OnlyPainted("pictures_unsupported", request_id=request_id, kept=kept)
        if not _may_be_empty(payload, status):
            raise Unreadable
    return Done(
        parts=tuple(parts),
        usage=of_openai(payload),
        finish_reason=_finish_reason(payload, output),
        thread_ref=_goes_on(given if thread is None else thread, output, called and offered)
        if chain
        else "",
        request_id=request_id,
        model=name(payload.get("model")),
        kept=kept,
    )


def used_by(payload: Mapping[str, Any]) -> Done | None:
    """Return what a response that was stopped had used; None where it does not say so.

    Raises the error that is answered in its place.
    """
    if not payload.get("status"):
        raise_error_inside(payload)
    return used_at_openai(payload)


def found_of(
    payload: Mapping[str, Any],
    *,
    chain: bool,
    request_id: str,
    offered: bool = True,
    thread: str | None = None,
) -> Done | Running | Failed:
    """Read a response that was looked up; Failed where it has ended without an answer.

    An error beside it is one of the question: it raises, and says nothing about the work.
    """
    status = payload.get("status")
    if status in _ENDED:
        kept = _kept(name(payload.get("id")), chain=chain)
        error = _failure(payload, status=str(status), kept=kept)
        error.request_id, error.used = request_id, used_at_openai(payload)
        return Failed(error=error)
    try:
        return reply_of(payload, chain=chain, request_id=request_id, offered=offered, thread=thread)
    except OnlyPainted as painted:
        painted.used = used_at_openai(payload)
        return Failed(error=painted)
    except Unreadable:
        if status not in _OVER:
            raise
        # It has ended and will say the same tomorrow: as the answer to a call, it has no reply.
        kept = _kept(name(payload.get("id")), chain=chain)
        error = Rejected(
            "unreadable_reply",
            detail=words_of(payload),
            request_id=request_id,
            kept=kept,
            used=used_at_openai(payload),
        )
        return Failed(error=error)


def _goes_on(thread: str, output: Sequence[Mapping[str, Any]], answered: bool) -> str:
    """Return the thread, or "" where it waits for an output that nobody here will give.

    Some servers give all calls one id: ours are others then, and the thread knows nothing of them.
    """
    waiting = unanswered_in(output)
    if not waiting:
        return thread
    ids = {name(one.get("call_id")) for one in waiting} - {""}
    of_others = any(one.get("type") != "function_call" or not answered for one in waiting)
    return "" if of_others or len(ids) < len(waiting) else thread


def _may_be_empty(payload: Mapping[str, Any], status: object) -> bool:
    """Tell whether nothing said is what the vendor means, and not what we fail to find."""
    if status not in (None, "completed", "incomplete"):
        return False
    output = payload.get("output")
    return output == [] or any(text(item.get("type")) for item in mappings(output))


def _finish_reason(payload: Mapping[str, Any], output: Sequence[Mapping[str, Any]]) -> str:
    if payload.get("status") == "incomplete":
        reason = text(mapping(payload.get("incomplete_details")).get("reason"))
        return _INCOMPLETE.get(reason, "length")
    if unanswered_in(output):
        return "tool_calls"
    return "refusal" if is_refusal(output) else "stop"


def _kept(given: str, *, chain: bool) -> tuple[str, ...]:
    """Return what the vendor stores, as it was asked to: also what failed, or leads nowhere."""
    return (given,) if chain and given else ()


def _failure(payload: Mapping[str, Any], *, status: str, kept: tuple[str, ...]) -> ProviderError:
    error = mapping(payload.get("error"))
    code = safe_code(error.get("code")) or safe_code(f"response_{status}")
    if code not in _FAILED and status_in(error):
        found = error_of_inside(error)
    else:
        words = words_of(payload)
        about = cause_of(400, code, words)
        found = about(detail=words) if about else _FAILED.get(code, Rejected)(code, detail=words)
    found.kept = kept
    return found
