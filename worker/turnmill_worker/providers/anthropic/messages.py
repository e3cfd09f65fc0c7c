"""Anthropic's Messages API: `POST /v1/messages`, the history sent along."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from turnmill.domain.content import Message, ToolCall
from turnmill_worker.providers.anthropic.blocks import (
    REFUSAL,
    format_of,
    may_think,
    messages_of,
    parts_of,
    sums_up,
    tools_of,
)
from turnmill_worker.providers.anthropic.caching import mark
from turnmill_worker.providers.anthropic.refused import refusal_of, without_refused
from turnmill_worker.providers.anthropic.threads import Thread
from turnmill_worker.providers.counting import input_bound, output_bound
from turnmill_worker.providers.failures import raise_error_inside
from turnmill_worker.providers.offering import OF_TOOLS, reserved_of
from turnmill_worker.providers.parameters import TOOLS, setting_refused, vendor_parameters
from turnmill_worker.providers.pictures import counted_by_anthropic
from turnmill_worker.providers.port import Done, Request, Usage
from turnmill_worker.providers.pricing import window
from turnmill_worker.providers.untrusted import (
    Unreadable,
    mapping,
    mappings,
    name,
    text,
    tier,
    total,
)
from turnmill_worker.providers.usages import of_anthropic, summed

PATH = "v1/messages"
COUNT_PATH = "v1/messages/count_tokens"
DEFAULT_MAX_TOKENS = 8192  #: the vendor wants a number; the setting `max_output_tokens` changes it

#: `compaction` asks for a summary in the place of an answer, and would be asked for it for ever.
_RESERVED = TOOLS | {"compaction", "messages", "model", "prefill", "stream", "system"}

_MOST = ("max_tokens",)
_COUNTED = frozenset(
    {
        *("context_management", "messages", "model", "output_config"),
        *("system", "thinking", "tool_choice", "tools"),
    }
)

#: https://platform.claude.com/docs/en/build-with-claude/effort
_EFFORTS = ("low", "medium", "high", "xhigh", "max")

#: What changes no price.
_ORDINARY = frozenset({"", "standard", "global", "not_available"})

_FINISH = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "context_full",
        "pause_turn": "length",
        "compaction": "length",
        "tool_use": "stop",  # by the vendor's word; there is no call in it
        "refusal": "refusal",
    }
)


#: Of a message that is to go on: after long searches, or once what was said before is summed up.
_PAUSES = frozenset({"compaction", "pause_turn"})
#: A call in a reply that was cut off, or taken back, is none.
_CUT = _PAUSES | {"max_tokens", "model_context_window_exceeded", "refusal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """What the vendor has said before it paused: it goes on when it is sent back to it."""

    content: Sequence[Any] = field(repr=False)  #: the blocks as they came
    usage: Usage
    model: str = ""


def body_of(
    request: Request,
    *,
    paused: Paused | None = None,
    stream: bool = False,
    marked: bool = True,
    thread: Thread | None = None,
) -> dict[str, Any]:
    """Return the JSON body. System messages go to the front, where every model takes them from.

    With what was `paused` it lets the vendor go on there; `marked`, it says what is to be kept. A
    `thread` that goes on is sent what it lacks alone: it has its system prompt and tools.
    """
    body = vendor_parameters(request.settings, reserved=reserved_of(request, reserved=_RESERVED))
    _think_as_asked(body)
    body.setdefault("max_tokens", body.pop("max_output_tokens", DEFAULT_MAX_TOKENS))
    for setting in OF_TOOLS:
        body.pop(setting, None)
    system, said = _said_in(request, thread)
    if system:
        body["system"] = "\n\n".join(system)
    body["model"] = request.model
    body["messages"] = said
    body |= _around(request, said, thread)
    if request.output_schema is not None:
        form = {"format": format_of(request.output_schema)}
        body["output_config"] = {**mapping(body.get("output_config")), **form}
    if "thinking" in body and not may_think(body):
        del body["thinking"]
    if marked:
        mark(body, request)
    if paused is not None:
        said.append({"role": "assistant", "content": paused.content})
    return body | ({"stream": True} if stream else {})


def _said_in(request: Request, thread: Thread | None) -> tuple[list[str], list[dict[str, Any]]]:
    """Return what goes into `system`, and `messages`: in a thread that goes on, what is new."""
    if thread is not None and thread.after:
        held, news = request.messages[: request.continues], request.messages[request.continues :]
        return messages_of(request, news, held=held)
    system, said = messages_of(request, [*without_refused(request.history), *request.messages])
    if request.system_prompt:
        system.insert(0, request.system_prompt)
    return system, said


def _around(
    request: Request, said: Sequence[Mapping[str, Any]], thread: Thread | None
) -> dict[str, Any]:
    """Return the tools and the thread: one that goes on has its tools."""
    found = tools_of(request, said)
    if thread is None:
        return found
    if thread.after:
        found.pop("tools", None)
    return {**found, "thread": thread.field}


def _think_as_asked(body: dict[str, Any]) -> None:
    """Put `reasoning`, as OpenAI has it, in the vendor's words; raises Rejected for want of one."""
    if "text" in body:
        raise setting_refused("text", "Anthropic knows no verbosity, and no form but ours")
    if (asked := body.pop("reasoning", None)) is None:
        return
    if not isinstance(asked, dict) or asked.keys() - {"effort"}:
        raise setting_refused(
            "reasoning", "Anthropic knows its effort alone; what is shown of it says `thinking`"
        )
    effort = asked.get("effort")
    if effort is None:
        return
    if effort not in _EFFORTS:
        raise setting_refused("reasoning", "its effort must be " + " or ".join(_EFFORTS))
    body["output_config"] = {"effort": effort, **mapping(body.get("output_config"))}


def counting(request: Request, paused: Paused | None) -> Callable[[Usage], None] | None:
    """Return who is told what was used so far, before the vendor paused included."""
    counted = request.counted
    if counted is None or paused is None:
        return counted
    before = paused.usage
    return lambda usage: counted(summed(before, usage))


def counted_body_of(request: Request) -> dict[str, Any]:
    """Return the part of the body that decides how much is read: where it counts, all it takes."""
    return {name: one for name, one in body_of(request).items() if name in _COUNTED}


def most_of(request: Request, thread: Sequence[Message]) -> Usage:
    """Return what the call may take at the most: all of its input may be put in the cache.

    In a thread, what was thought in earlier steps is read as well.
    """
    told = input_bound(request, thread, counted=counted_by_anthropic(request))
    if told is None:
        told = window("anthropic", request.model)  # nobody can count a document: it is read whole
    settings = request.settings
    said = output_bound({"max_tokens": DEFAULT_MAX_TOKENS, **_given(settings)}, *_MOST)
    if told is not None and request.thread_ref:
        told += said * (request.step - 1)
    if sums_up(request):  # it is read once more for that, and the summary is paid for, too
        told, said = total(told, told), 2 * said
    asked = [settings.get("speed"), settings.get("inference_geo")]
    return Usage(
        input_tokens=told,
        output_tokens=said,
        cache_write_tokens=told,
        cache_write_1h_tokens=told if '"1h"' in json.dumps(dict(settings), default=str) else 0,
        service_tier=".".join(one for one in map(tier, asked) if one not in _ORDINARY),
    )


def _given(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return how long the reply may be, by the name that decides."""
    for setting in ("max_tokens", "max_output_tokens"):
        if setting in settings:
            return {"max_tokens": settings[setting]}
    return {}


def pause_in(payload: Mapping[str, Any], *, before: Paused | None) -> Paused | None:
    """Return all that was said until now where the vendor has paused; None where it has not."""
    if payload.get("error") or text(payload.get("stop_reason")) not in _PAUSES:
        return None
    content, usage = _all_said(payload, before)
    return Paused(content=content, usage=usage, model=name(payload.get("model")))


def used_until(paused: Paused | None, last: Done | None) -> Done | None:
    """Return what an answer has used that came to nothing, with what it had `paused` after."""
    if paused is None:
        return last
    usage = paused.usage if last is None else summed(paused.usage, last.usage)
    return Done(text="", usage=usage, model=paused.model)


def reply_of(payload: Mapping[str, Any], *, request_id: str, before: Paused | None = None) -> Done:
    """Read a message object, which goes on after what was said `before` in the same reply.

    Raises the error that it tells of, or Unreadable.
    """
    raise_error_inside(payload)
    stop = text(payload.get("stop_reason"))
    content, usage = _all_said(payload, before)
    parts = parts_of(content, called=stop not in _CUT)
    called = any(isinstance(one, ToolCall) for one in parts)
    if stop == REFUSAL:
        parts.append(refusal_of(payload))
    return Done(
        parts=tuple(parts),
        usage=usage,
        finish_reason="tool_calls" if called else _FINISH.get(stop, "stop"),
        request_id=request_id,
        model=name(payload.get("model")),
    )


def _all_said(
    payload: Mapping[str, Any], before: Paused | None
) -> tuple[list[Mapping[str, Any]], Usage]:
    content, usage = _content(payload.get("content")), of_anthropic(payload)
    if before is None:
        return content, usage
    return [*before.content, *content], summed(before.usage, usage)


def _content(content: object) -> list[Mapping[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    blocks = mappings(content)
    if not blocks and content != []:
        raise Unreadable
    return blocks
