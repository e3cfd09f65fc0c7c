"""What a session's settings say to Turnmill itself: checked at the door, whoever gives them.

All others are parameters of the vendor's, which only the worker knows.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any, cast

from turnmill.domain.arguments import plain_number, whole, yes_or_no
from turnmill.domain.bounds import (
    LAYER_NAME,
    LONGEST_EXPIRY,
    LONGEST_TIMEOUT,
    MOST_LAYERS,
    MOST_OBSERVERS,
    MOST_TOOL_ROUNDS,
    MOST_TOOLS,
    SCHEMA_BYTES,
    SETTING_CHOICES,
    SHORTEST_EXPIRY,
    SHORTEST_TIMEOUT,
    TOOL_NAME,
)
from turnmill.domain.checks import check_name
from turnmill.domain.errors import InvalidInput
from turnmill.domain.json_values import json_object, json_size
from turnmill.domain.plain import items_of, text_of
from turnmill.domain.reply_limits import laid_over
from turnmill.domain.targets import FALLBACK, targets_given
from turnmill.domain.voice import named_given

#: The setting that names who is told of the session, besides those who are told of all.
OBSERVERS = "observers"

_LAYER_NAME = re.compile(LAYER_NAME)
_TOOL_NAME = re.compile(TOOL_NAME)
_LANGUAGE = re.compile("[a-z]{2,3}")
#: What is said of a tool whose calls are answered from outside, and of one that a worker runs.
_OF_CALLER = frozenset({"name", "description", "parameters", "expires"})
_OF_WORKER = frozenset({"name", "approval", "expires"})
_TOOLS_HINT = 'tools=["weather", {"name": "ask_user", "description": "…", "parameters": {…}}]'
_SCHEMA_HINT = '{"type": "object", "properties": {"city": {"type": "string"}}}'
_PROMPT_HINT = 'prompt={"id": "pmpt_…", "version": "2", "variables": {"city": "Rome"}}'
_NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}}


def checked_settings(value: object) -> dict[str, Any]:
    """Return the settings; raises InvalidInput where they say what Turnmill does not understand."""
    settings = json_object(value, name="settings")
    for name, check in _CHECKS.items():
        if settings.get(name) is not None:
            settings[name] = check(settings[name])
    return {name: one for name, one in settings.items() if name != FALLBACK or one}


def merged_settings(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with these given anew, within the bounds of all; None takes one out."""
    merged = laid_over(settings, changes)
    return json_object(
        {name: one for name, one in merged.items() if name not in changes or one is not None},
        name="settings",
    )


def tools_given(value: object) -> list[Any] | None:
    """Return the tools that a session may use, as its settings hold them; None for None.

    What `turnmill.tool` has made stands for its name: a worker runs it.
    """
    if value is None:
        return None
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        raise InvalidInput("tools must be a list of tools", hint=_TOOLS_HINT)
    try:
        plain = [_without_spans(_named(one)) for one in islice(value, MOST_TOOLS + 1)]
    except InvalidInput:
        raise
    except Exception as error:  # noqa: BLE001
        # The edge to a caller's own types.
        raise InvalidInput(
            f"tools cannot be read: {type(error).__name__}", hint=_TOOLS_HINT
        ) from None
    return _tools(json_object({"tools": plain}, name="tools")["tools"])


def fallback_given(value: object) -> list[dict[str, Any]] | None:
    """Return who else may answer, as settings hold it; None for nobody."""
    return targets_given(value, check=checked_settings)


def layers_given(value: object) -> object:
    """Return the layers of a session, by name; None for None."""
    if value is None:
        return None
    return _layers(items_of(value, most=MOST_LAYERS) if isinstance(value, list | tuple) else value)


def rounds_given(value: object) -> int | None:
    """Return how many rounds of tool calls a turn may take; None for None."""
    return None if value is None else _rounds(value)


def choice_given(value: object, *, name: str) -> str | None:
    """Return a word that the setting may be; None for None."""
    return None if value is None else _choice(name)(value)


def prompt_given(value: object) -> dict[str, Any] | None:
    """Return a prompt that is kept at the vendor, given by its id or with more; None for None."""
    if value is None:
        return None
    text = text_of(value)
    return _prompt(json_object(value, name="prompt") if text is None else text)


def format_given(value: object) -> dict[str, Any] | None:
    """Return the JSON schema of a reply, given as such or as a pydantic model; None for None."""
    if value is None:
        return None
    if isinstance(value, type):
        value = _schema_of(value)
    return _response_format(json_object(value, name="response_format"))


def _schema_of(model: type) -> Mapping[str, Any]:
    """Return the schema of a pydantic model; whoever gives one has pydantic."""
    make = getattr(model, "model_json_schema", None)
    if not callable(make):
        raise InvalidInput(
            f"response_format is the class {model.__name__}, no pydantic model",
            hint="a class made from pydantic.BaseModel, or a JSON schema",
        )
    try:
        return cast("Mapping[str, Any]", make())
    except Exception as error:  # noqa: BLE001
        # The edge to a caller's own class.
        raise InvalidInput(
            f"response_format has no JSON schema: {type(error).__name__}",
            hint="`Model.model_json_schema()` tells why",
        ) from None


def _named(one: object) -> object:
    """Return the name of a tool that is given as the function it was made from."""
    if isinstance(one, str | Mapping):
        return one
    name = getattr(one, "name", None)
    if callable(one) and isinstance(name, str):
        return name
    raise InvalidInput(
        f"a tool is a {type(one).__name__}: no name, and nothing that @turnmill.tool has made",
        hint=_TOOLS_HINT,
    )


def _without_spans(tool: Any) -> Any:
    """Return what the caller gives of a tool, with `expires` in seconds."""
    if isinstance(tool, Mapping) and isinstance(span := tool.get("expires"), timedelta):
        return {**tool, "expires": span.total_seconds()}
    return tool


def _tools(tools: object) -> list[Any]:
    if not isinstance(tools, list):
        raise InvalidInput("setting 'tools' must be a list of tools", hint=_TOOLS_HINT)
    if len(tools) > MOST_TOOLS:
        raise InvalidInput(
            f"a session may use up to {MOST_TOOLS} tools", hint="vendors take no more in one call"
        )
    found = [_tool_name(one) if isinstance(one, str) else _tool(one) for one in tools]
    names = [one if isinstance(one, str) else one["name"] for one in found]
    if len(set(names)) < len(names):
        raise InvalidInput("two tools have one name", hint="a model calls them by it")
    return found


def _tool(tool: object) -> dict[str, Any]:
    """Return a tool whose calls are answered from outside, or more than the name of a worker's."""
    if not isinstance(tool, dict):
        raise InvalidInput("a tool is neither a name nor an object", hint=_TOOLS_HINT)
    if "parameters" in tool:
        return _of_caller(tool)
    _refuse_others(tool, _OF_WORKER, hint=f"{_NO_ARGUMENTS!r} are those of a tool without any")
    found = {**tool, "name": _tool_name(tool.get("name"))}
    if "approval" in found:
        found["approval"] = yes_or_no(found["approval"], name="approval of a tool")
    return _with_expiry(found)


def _of_caller(tool: dict[str, Any]) -> dict[str, Any]:
    _refuse_others(tool, _OF_CALLER, hint="whoever answers its calls decides whether to do so")
    description = tool.get("description", "")
    if not isinstance(description, str):
        raise InvalidInput("the description of a tool must be a text", hint=_TOOLS_HINT)
    name = _tool_name(tool.get("name"))
    parameters = _schema(tool["parameters"] or dict(_NO_ARGUMENTS), name="parameters of a tool")
    given = {"name": name, "description": description, "parameters": parameters}
    return _with_expiry({**tool, **given})


def _refuse_others(tool: dict[str, Any], known: frozenset[str], *, hint: str) -> None:
    if unknown := sorted(set(tool) - known):
        kind = "with parameters" if "parameters" in known else "without parameters"
        raise InvalidInput(f"a tool {kind} has no {', '.join(unknown)[:100]}", hint=hint)


def _with_expiry(tool: dict[str, Any]) -> dict[str, Any]:
    seconds = tool.pop("expires", None)
    return tool if seconds is None else {**tool, "expires": _expires(seconds)}


def _tool_name(name: object) -> str:
    if isinstance(name, str) and _TOOL_NAME.fullmatch(name):
        return name
    raise InvalidInput(
        "the name of a tool must be 1 to 64 letters, digits, - and _", hint=_TOOLS_HINT
    )


def _expires(seconds: Any) -> float:
    least, most = SHORTEST_EXPIRY.total_seconds(), LONGEST_EXPIRY.total_seconds()
    if _is_between(seconds, least, most):
        return float(seconds)
    raise InvalidInput(
        f"expires of a tool must be from {least:g} to {most:.0f} seconds",
        hint="so long its output is waited for; leave it out for what workers are set to",
    )


def _schema(schema: object, *, name: str) -> dict[str, Any]:
    """Return a JSON schema of an object, which is what vendors take."""
    if not isinstance(schema, dict):
        raise InvalidInput(f"the {name} must be a JSON schema", hint=_SCHEMA_HINT)
    if json_size(schema) > SCHEMA_BYTES:
        raise InvalidInput(
            f"the {name} are larger than {SCHEMA_BYTES} bytes", hint="make its descriptions shorter"
        )
    schema = _unfolded(schema)
    if schema.get("type") != "object":
        raise InvalidInput(
            f"the {name} must be the JSON schema of an object",
            hint=f"{_SCHEMA_HINT}: put a list, or a single value, into one",
        )
    properties, required = schema.get("properties", {}), schema.get("required", [])
    is_sound = isinstance(properties, dict) and isinstance(required, list)
    if not is_sound or not all(isinstance(one, dict | bool) for one in properties.values()):
        raise InvalidInput(f"the {name} are no JSON schema", hint=_SCHEMA_HINT)
    return schema


def _unfolded(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with its root in place: that of a model that holds itself is elsewhere."""
    root = schema.get("$ref")
    defined = schema.get("$defs")
    if not isinstance(root, str) or not isinstance(defined, dict) or "type" in schema:
        return schema
    found = defined.get(root.removeprefix("#/$defs/"))
    if not isinstance(found, dict):
        return schema
    return {**found, **{name: one for name, one in schema.items() if name != "$ref"}}


def _response_format(schema: object) -> dict[str, Any]:
    return _schema(schema, name="response_format")


def _prompt(value: object) -> dict[str, Any]:
    """Return a prompt's id, and perhaps its version, and what its variables stand for."""
    given = {"id": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or set(given) - {"id", "version", "variables"}:
        raise InvalidInput("a prompt is an id, or has id, version and variables", hint=_PROMPT_HINT)
    prompt = {name: one for name, one in given.items() if one is not None}
    if type(prompt.get("version")) is int:
        prompt["version"] = str(prompt["version"])
    for name in ("id", "version"):
        if name in prompt or name == "id":
            check_name(prompt.get(name), name=f"{name} of a prompt")
    variables = prompt.get("variables", {})
    if not isinstance(variables, dict) or not all(
        isinstance(one, str | dict) for one in variables.values()
    ):
        raise InvalidInput(
            "variables of a prompt stand for texts, or for inputs of the vendor's",
            hint=_PROMPT_HINT,
        )
    return prompt


def _rounds(value: object) -> int:
    return whole(value, name="max_tool_rounds", most=MOST_TOOL_ROUNDS)


def _timeout(value: Any) -> Any:
    shortest, longest = SHORTEST_TIMEOUT.total_seconds(), LONGEST_TIMEOUT.total_seconds()
    if _is_between(value, shortest, longest):
        return value
    raise InvalidInput(
        f"setting 'timeout' must be from {shortest:g} to {longest:g} seconds",
        hint="it bounds one call; leave it out for the provider's default",
    )


def _is_between(value: Any, least: float, most: float) -> bool:
    found = plain_number(value)
    return found is not None and least <= found <= most


def _layers(names: object) -> object:
    """Return what may be names of layers; which there are, the worker knows."""
    if (
        isinstance(names, list)
        and len(names) <= MOST_LAYERS
        and all(isinstance(one, str) and _LAYER_NAME.fullmatch(one) for one in names)
    ):
        return [str.__str__(one) for one in names]
    raise InvalidInput(
        f"setting 'layers' must be a list of up to {MOST_LAYERS} names of layers",
        hint='such as ["redact"]; the worker\'s TURNMILL_LAYERS says which there are',
    )


def observers_given(value: object) -> list[str] | None:
    """Return names of observers; which there are, the worker knows. None for None."""
    if value is None:
        return None
    names = items_of(value, most=MOST_OBSERVERS) if isinstance(value, list | tuple) else None
    if (
        names is not None
        and len(names) <= MOST_OBSERVERS
        and all(isinstance(one, str) and _LAYER_NAME.fullmatch(one) for one in names)
    ):
        return [str.__str__(one) for one in names]
    raise InvalidInput(
        f"observers must be a list of up to {MOST_OBSERVERS} names of observers",
        hint='such as ["crm"]; the worker\'s TURNMILL_OBSERVERS says which there are',
    )


def _choice(name: str) -> Callable[[Any], Any]:
    def check(value: object) -> Any:
        if (word := text_of(value)) in SETTING_CHOICES[name]:
            return word
        raise InvalidInput(
            f"setting {name!r} must be one of {', '.join(SETTING_CHOICES[name])}",
            hint="leave it out for the provider's default",
        )

    return check


def _language(value: object) -> str:
    if isinstance(value, str) and _LANGUAGE.fullmatch(value):
        return value
    raise InvalidInput(
        "setting 'voice_language' must be a language's code", hint="two or three letters: de, en"
    )


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    **{name: _choice(name) for name in SETTING_CHOICES},
    "timeout": _timeout,
    "layers": _layers,
    OBSERVERS: observers_given,
    "tools": _tools,
    "max_tool_rounds": _rounds,
    "response_format": _response_format,
    "prompt": _prompt,
    FALLBACK: fallback_given,
    "transcribe": partial(named_given, name="transcribe"),
    "audio_model": partial(named_given, name="audio_model"),
    "voice": partial(check_name, name="voice"),
    "voice_language": _language,
    "keep_audio": partial(yes_or_no, name="keep_audio"),
}
