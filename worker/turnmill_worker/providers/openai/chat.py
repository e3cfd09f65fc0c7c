"""Chat completions: `POST /chat/completions`, for servers that speak nothing newer."""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from turnmill.domain.content import (
    Attached,
    Message,
    Native,
    Part,
    Text,
    ToolCall,
    ToolOutput,
    sender_of,
    text_of,
    without_sender,
)
from turnmill.domain.errors import NotSent, Rejected
from turnmill_worker.providers.failures import raise_error_inside
from turnmill_worker.providers.fitting import item_of, natives
from turnmill_worker.providers.offering import (
    call_of,
    form_of,
    function_of,
    native_of,
    reserved_of,
    tool_choice_of,
)
from turnmill_worker.providers.openai.inputs import chat_part_of
from turnmill_worker.providers.pairing import (
    NO_WORDS,
    Dialect,
    name_of_tool,
    paired,
    said_arguments_of,
)
from turnmill_worker.providers.parameters import TOOLS, vendor_parameters
from turnmill_worker.providers.port import Done, Request
from turnmill_worker.providers.untrusted import (
    Unreadable,
    joined,
    mapping,
    mappings,
    name,
    text,
)
from turnmill_worker.providers.usages import of_openai

PATH = "chat/completions"
API = "chat"  #: of native parts

_NOTHING_SAID = Message.of("user", NO_WORDS)

#: Fields of a message that our own parts decide.
_OURS = frozenset({"content", "function_call", "role", "tool_call_id", "tool_calls"})
#: Where the words are from: kept to be seen, and taken back by nobody.
_CITED = "annotations"
_NOT_SENT = _OURS | {_CITED}
#: Where servers that paint put a picture: beside what is said, or in its place.
_PICTURES = frozenset({"image", "image_url", "output_image"})
#: What servers name their reasoning, which some want back with the outputs that it has asked for.
_REASONING = ("reasoning_content", "reasoning_details")
#: A call in a reply that was cut off here may be half a call.
_CUT = frozenset({"content_filter", "length"})

#: What is said by other names than in the Responses API, and which fields it is made of there.
_SETTINGS: Mapping[str, tuple[Mapping[str, str], frozenset[str]]] = MappingProxyType(
    {
        "reasoning": ({"effort": "reasoning_effort"}, frozenset({"effort", "summary"})),
        "text": ({"verbosity": "verbosity"}, frozenset({"verbosity"})),
    }
)

#: They refuse the older name of `max_output_tokens`, which servers of others may know alone.
_THINKING = re.compile(r"gpt-([5-9]|[1-9]\d)|o\d")

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
    """Return the JSON body; `max_output_tokens` goes by a name of its own here."""
    body = vendor_parameters(request.settings, reserved=reserved_of(request, reserved=_RESERVED))
    if "max_output_tokens" in body:
        newer = _THINKING.match(request.model)
        body["max_completion_tokens" if newer else "max_tokens"] = body.pop("max_output_tokens")
    for setting, (known, fields) in _SETTINGS.items():
        _put_as(body, setting, known=known, fields=fields)
    system = [Message.of("system", request.system_prompt)] if request.system_prompt else []
    said = paired([*request.history, *request.messages], dialect=_DIALECT)
    body["model"] = request.model
    body["messages"] = [
        one
        for message in (*system, *(said or [_NOTHING_SAID]))
        for one in _messages(request, message)
    ]
    if request.tools:
        body["tools"] = [
            {"type": "function", "function": function_of(one)} for one in request.tools
        ]
        kind, tool = tool_choice_of(request)
        body.pop("tool_choice", None)
        if kind:
            named = {"type": "function", "function": {"name": tool}}
            body["tool_choice"] = named if kind == "tool" else kind
    if request.output_schema is not None:
        form = {"type": "json_schema", "json_schema": form_of(request.output_schema)}
        body["response_format"] = form
    return body


def _put_as(
    body: dict[str, Any], setting: str, *, known: Mapping[str, str], fields: frozenset[str]
) -> None:
    """Put a setting of the Responses API by the names that it has here.

    One that holds more than that API knows is of a server that has it here, too: it goes as it is.
    """
    given = body.get(setting)
    if not isinstance(given, dict) or given.keys() - fields:
        return
    del body[setting]
    for field, here in known.items():
        if given.get(field) is not None:
            body.setdefault(here, given[field])


def speaks(request: Request) -> bool:
    """Tell whether the session asks for a sound of the model's own."""
    return "audio" in str(request.settings.get("modalities") or "")


def reply_of(payload: Mapping[str, Any], *, request_id: str) -> Done:
    """Read a chat completion; raises the error that it tells of, or Unreadable.

    A reply that is a picture and nothing else would be an empty one here: it is Rejected.
    """
    raise_error_inside(payload)
    choices = mappings(payload.get("choices"))
    if not choices:
        raise Unreadable
    choice = choices[0]
    finish = text(choice.get("finish_reason"))
    if finish == "error":
        raise NotSent("finish_reason_error")  # there will be no answer
    message = mapping(choice.get("message"))
    calls = _calls(message) if finish not in _CUT else []
    said, refusal = _said(message)
    if not (said or refusal or calls) and _paints(message):
        raise Rejected("pictures_unsupported", request_id=request_id)
    if not (said or refusal) and calls:
        parts: list[Part] = []
    else:
        parts = [Text(said or refusal)]
    finish_reason = "refusal" if refusal else _FINISH.get(finish, "stop")
    return Done(
        parts=(*_own(message, calls), *parts, *calls, *_citations(message)),
        usage=of_openai(payload),
        finish_reason="tool_calls" if calls else finish_reason,
        request_id=request_id,
        model=name(payload.get("model")),
    )


def _paints(message: Mapping[str, Any]) -> bool:
    """Tell whether there is a picture in it, where some servers put one."""
    kinds = {text(one.get("type")) for one in mappings(message.get("content"))}
    return bool(mappings(message.get("images"))) or not _PICTURES.isdisjoint(kinds)


def _calls(message: Mapping[str, Any]) -> list[ToolCall]:
    asked = [
        (one.get("id"), mapping(one.get("function"))) for one in mappings(message.get("tool_calls"))
    ]
    if not asked and (older := mapping(message.get("function_call"))):
        asked = [(None, older)]
    found: list[ToolCall] = []
    for given, function in asked:
        called, arguments = function.get("name"), function.get("arguments")
        taken = {one.id for one in found}
        found.append(call_of(call_id=given, called=called, arguments=arguments, taken=taken))
    return found


def _own(message: Mapping[str, Any], calls: Sequence[ToolCall]) -> list[Native]:
    """Return what some servers want back of their reasoning, as long as tools are called."""
    own = {one: message[one] for one in _REASONING if calls and message.get(one)}
    return [native_of("openai", API, own)] if own else []


def _citations(message: Mapping[str, Any]) -> list[Native]:
    """Return where the words are from, as far as it is told."""
    told = mappings(message.get(_CITED))
    return [native_of("openai", API, {_CITED: told})] if told else []


def _said(message: Mapping[str, Any]) -> tuple[str, str]:
    """Return what the model says, and its refusal; some servers send parts where a text was.

    Of a sound that it has spoken these are the words.
    """
    content, refusal = message.get("content"), text(message.get("refusal"))
    if not content and (spoken := text(mapping(message.get("audio")).get("transcript"))):
        return spoken, refusal
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


def _messages(request: Request, message: Message) -> Iterator[dict[str, Any]]:
    """Yield a message: its words and calls, and the fields of the server's own that came along."""
    if message.role == "tool":
        for output in message.parts:
            if isinstance(output, ToolOutput):
                yield {"role": "tool", "tool_call_id": output.call_id, "content": output.output}
        return
    who, parts = sender_of(message.parts), without_sender(message.parts)
    own: dict[str, Any] = {} if who is None else {"name": name_of_tool(who)}
    if any(isinstance(one, Attached) for one in parts):
        content = [chat_part_of(request, one) for one in parts]
        yield own | {"role": message.role, "content": content}
        return
    for native in natives(message.parts, api=API):
        own |= mapping(item_of(native))
    calls = [_call(one) for one in message.parts if isinstance(one, ToolCall)]
    said: dict[str, Any] = {"role": message.role, "content": text_of(message.parts)}
    if calls:
        said |= {"content": said["content"] or None, "tool_calls": calls}
    yield {name: value for name, value in own.items() if name not in _NOT_SENT} | said


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": said_arguments_of(call)}
    return {"id": call.id, "type": "function", "function": function}


def _company(parts: Sequence[Part]) -> Sequence[Part]:
    """Leave out the fields of a message that has nothing left to say."""
    return parts if any(isinstance(one, Text | ToolCall) for one in parts) else ()


_DIALECT = Dialect(api=API, id_max=40, company=_company)
