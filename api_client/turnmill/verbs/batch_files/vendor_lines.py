"""Lines as vendors take them in their own batches, in our words.

OpenAI: {"custom_id", "method": "POST", "url", "body"}, for responses and chat completions.
Anthropic: {"custom_id", "params"}.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from turnmill.verbs.batch_files.problems import (
    MISSING,
    NO_SUCH_URL,
    UNKNOWN,
    WRONG_TYPE,
    WRONG_VALUE,
    Refused,
)

#: What answers one call with several replies, or piecewise: of a batch, no vendor takes it either.
_NEVER: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {"stream": (False, None), "n": (1, None), "background": (False, None)}
)
#: What would need tools of the vendor's own, or a thread that it keeps.
_NOT_TAKEN = (
    *("functions", "function_call", "mcp_servers"),
    *("previous_response_id", "conversation", "prompt", "container", "prefill"),
)
#: What says nothing about the answer.
_LEFT_OUT = frozenset({"stream", "n", "background", "stream_options", "store", "metadata"})
_SCHEMA = "input_schema"  #: as Anthropic names the parameters of a tool
_OF_FUNCTION = frozenset({"type", "name", "description", "parameters", _SCHEMA, "strict"})
_OF_OPENAI = frozenset({"custom_id", "method", "url", "body"})
_OF_ANTHROPIC = frozenset({"custom_id", "params"})


def translated(fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
    """Return the line in our words, and the vendor whose line it is, if it is one's.

    Raises Refused.
    """
    if "body" in fields:
        return _openai(fields), "openai"
    if "params" in fields:
        return _anthropic(fields), "anthropic"
    return fields, None


def _openai(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    _refuse_others(fields, _OF_OPENAI)
    if fields.get("method", "POST") != "POST":
        raise Refused(WRONG_VALUE, "method is not POST")
    url, body = fields.get("url"), _object(fields["body"], "body")
    if url is None:
        raise Refused(MISSING, "url is missing")
    read = _OF_URL.get(url.rstrip("/")) if isinstance(url, str) else None
    if read is None:
        raise Refused(NO_SUCH_URL, f"url is none of {', '.join(sorted(_OF_URL))}")
    return {"custom_id": _custom_id(fields), **read(_checked(body))}


def _responses(body: dict[str, Any]) -> dict[str, Any]:
    said = _needed(body, "input")
    messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
    line = {"messages": messages, **_common(body)}
    if (told := body.pop("instructions", None)) not in (None, ""):
        line["system_prompt"] = told
    text = body.get("text")
    if isinstance(text, dict) and "format" in text:
        rest = {name: one for name, one in text.items() if name != "format"}
        body |= {"text": rest} | _form(text["format"])
    if not body.get("text", True):
        del body["text"]
    return line | {"settings": {"api": "responses", **body}}


def _chat(body: dict[str, Any]) -> dict[str, Any]:
    line = {"messages": _needed(body, "messages"), **_common(body)}
    if "response_format" in body:
        form = _object(body.pop("response_format"), "response_format")
        body |= _form({**form, **_object(form.get("json_schema", {}), "json_schema")})
    return line | {"settings": {"api": "chat", **body}}


def _anthropic(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    _refuse_others(fields, _OF_ANTHROPIC)
    body = _checked(_object(fields["params"], "params"))
    line = {"messages": _needed(body, "messages"), **_common(body)}
    if told := _words(body.pop("system", None) or ""):
        line["system_prompt"] = told
    if "max_tokens" not in body:
        raise Refused(MISSING, "max_tokens is missing")
    return {
        "custom_id": _custom_id(fields),
        **line,
        "settings": {"prompt_cache": "off", **body},
    }


def _checked(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is sent along; raises Refused for what a line of a batch cannot have."""
    for name, allowed in _NEVER.items():
        if body.get(name) not in allowed:
            raise Refused(WRONG_VALUE, f"{name}: a line has one whole reply")
    for name in _NOT_TAKEN:
        if body.get(name):
            raise Refused(UNKNOWN, f"{name} is not taken from a vendor's line")
    left_out = _LEFT_OUT | frozenset(_NOT_TAKEN)
    found = {name: one for name, one in body.items() if name not in left_out and one is not None}
    _check_choice(found.pop("tool_choice", None))
    if not found.get("tools", True):
        del found["tools"]
    if "tools" in found:
        found["tools"] = [*_functions(found["tools"])]
    return found


def _check_choice(choice: object) -> None:
    """Raise Refused unless the model decides by itself whether it calls a tool, as it does here."""
    kind = choice.get("type") if isinstance(choice, dict) else choice
    if kind not in (None, "auto"):
        raise Refused(WRONG_VALUE, "tool_choice is not auto: the model decides")
    if isinstance(choice, dict) and choice.keys() - {"type"}:
        named = ", ".join(sorted(choice.keys() - {"type"}))[:100]
        raise Refused(UNKNOWN, f"tool_choice: {named} is not taken from a vendor's line")


def _functions(tools: object) -> Iterator[dict[str, Any]]:
    """Yield tools as sessions have them whose calls are answered from outside."""
    if not isinstance(tools, list):
        raise Refused(WRONG_TYPE, "tools is no list")
    for n, tool in enumerate(tools):
        found = _object(tool, f"tools[{n}]")
        kind = found.get("type", "custom")
        if kind not in ("function", "custom") or (kind == "custom" and _SCHEMA not in found):
            raise Refused(UNKNOWN, f"tools[{n}] is a tool of the vendor's own: functions are taken")
        # OpenAI's Chat has a function in the tool, its Responses the same beside the type.
        told = _object(found.get("function", found), f"tools[{n}].function")
        for name in told.keys() - _OF_FUNCTION:
            raise Refused(UNKNOWN, f"tools[{n}].{name[:40]} is not taken from a vendor's line")
        if told.get("strict"):
            raise Refused(WRONG_VALUE, f"tools[{n}].strict: arguments are not held to the letter")
        named = {name: told[name] for name in ("name", "description") if told.get(name) is not None}
        yield {**named, "parameters": told.get("parameters", told.get(_SCHEMA)) or {}}


def _common(body: dict[str, Any]) -> dict[str, Any]:
    return {"model": _needed(body, "model")}


def _needed(body: dict[str, Any], name: str) -> Any:
    if name not in body:
        raise Refused(MISSING, f"{name} is missing")
    return body.pop(name)


def _form(form: object) -> dict[str, Any]:
    """Return the setting that says in which form the reply is to be; text is what it is anyway."""
    found = _object(form, "format")
    kind = found.get("type")
    if isinstance(kind, str) and kind in _FORMS:
        return _FORMS[kind]
    if kind == "json_schema" and isinstance(found.get("schema"), dict):
        return {"response_format": found["schema"]}
    raise Refused(WRONG_VALUE, "a format is neither text, json_object nor a json_schema")


def _words(told: object) -> str:
    """Return a system prompt that is given as a text or as blocks of text."""
    if isinstance(told, str):
        return told
    blocks = told if isinstance(told, list) else [None]
    texts = [one.get("text") for one in blocks if isinstance(one, dict)]
    if len(texts) < len(blocks) or not all(isinstance(one, str) for one in texts):
        raise Refused(WRONG_TYPE, "system is neither a text nor blocks of text")
    return "\n\n".join(str(one) for one in texts)


def _custom_id(fields: Mapping[str, Any]) -> Any:
    if fields.get("custom_id") is None:
        raise Refused(MISSING, "custom_id is missing")
    return fields["custom_id"]


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(WRONG_TYPE, f"{name} is no object")
    return value


def _refuse_others(fields: Mapping[str, Any], known: frozenset[str]) -> None:
    if unknown := fields.keys() - known:
        names = ", ".join(repr(name[:40]) for name in sorted(unknown)[:5])
        raise Refused(UNKNOWN, f"unknown field {names}; known: {', '.join(sorted(known))}")


#: Forms that say all by their names.
_FORMS: Mapping[object, dict[str, Any]] = MappingProxyType(
    {"text": {}, "json_object": {"response_format": {"type": "object"}}}
)
_OF_URL: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = MappingProxyType(
    {"/v1/responses": _responses, "/v1/chat/completions": _chat}
)
