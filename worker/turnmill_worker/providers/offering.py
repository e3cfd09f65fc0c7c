"""Tools that a model may call, and schemas that its reply has to fit, as settings make them."""

import json
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from typing import Any
from uuid import uuid4

from turnmill.domain.checks import storable
from turnmill.domain.content import Native, ToolCall
from turnmill_worker.providers.pairing import name_of_tool
from turnmill_worker.providers.parameters import setting_refused
from turnmill_worker.providers.port import Request, ToolOffer
from turnmill_worker.providers.untrusted import mapping, mappings, name

#: Settings that say how tools are called: they mean nothing where none is offered.
OF_TOOLS = frozenset({"parallel_tool_calls", "tool_choice"})

#: The name that vendors want for the form of a reply.
REPLY = "reply"

#: Of strict schemas: https://developers.openai.com/api/docs/guides/structured-outputs
_FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"}
)
_LEFT_OUT = frozenset(
    {
        "$id",
        "$schema",
        "contains",
        "contentEncoding",
        "contentMediaType",
        "default",
        "deprecated",
        "discriminator",
        "examples",
        "maxContains",
        "maxProperties",
        "minContains",
        "minProperties",
        "propertyNames",
        "readOnly",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
        "writeOnly",
    }
)
_NEVER_STRICT = frozenset(
    {"allOf", "dependentRequired", "dependentSchemas", "else", "if", "not", "patternProperties"}
)

#: Vendors take none of these of a whole object.
_NOT_ON_TOP = frozenset({"allOf", "anyOf", "enum", "not", "oneOf"})
_ALTERNATIVES = frozenset({"allOf", "anyOf", "oneOf"})
#: Where schemas stand in a schema, by themselves or in a list, and where by names.
_SCHEMAS = frozenset(
    {"additionalProperties", "allOf", "anyOf", "contains", "items", "not", "oneOf", "prefixItems"}
)
_NAMED = frozenset({"$defs", "definitions", "patternProperties", "properties"})
_INNER = _SCHEMAS | _NAMED

_CHOICES = frozenset({"auto", "none", "required"})
_AT_ANTHROPIC = {"any": "required"}


def reserved_of(request: Request, *, reserved: frozenset[str]) -> frozenset[str]:
    """Return the parameters that a session may not set in this request."""
    return reserved if request.tools else reserved | OF_TOOLS


def tool_choice_of(request: Request) -> tuple[str, str]:
    """Return auto, none, required or tool, and the name of that tool; "" where nothing is said.

    Each vendor's own way to say it is understood. A choice that forces a call holds for the first
    call of a turn: in every step, there would be no end.
    """
    given = request.settings.get("tool_choice")
    if given is None:
        return "", ""
    kind, name = _choice(given)
    if kind == "tool" and name not in {one.name for one in request.tools}:
        raise setting_refused("tool_choice", "it names a tool that is not offered")
    if request.step > 1 and kind in ("required", "tool"):
        return "", ""
    return kind, name


def function_of(offer: ToolOffer) -> dict[str, Any]:
    """Return a tool as OpenAI's APIs take it."""
    said = {"description": offer.description} if offer.description else {}
    return {"name": name_of_tool(offer.name), **said, "parameters": parameters_of(offer)}


def parameters_of(offer: ToolOffer) -> dict[str, Any]:
    """Return the schema of a tool's arguments as vendors take it; they are held to the given one.

    An object with properties that are known at once, and whose arrays say what is in them: a vendor
    refuses each turn of a session that offers a tool which has it otherwise.
    """
    schema = {**offer.parameters, "type": "object"}
    schema["properties"] = {**_of_alternatives(schema), **mapping(schema.get("properties"))}
    said = {key: one for key, one in schema.items() if key not in _NOT_ON_TOP}
    itemised: dict[str, Any] = _itemised(said)
    return itemised


def form_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form of a reply as OpenAI's APIs take it: strict, where it can be."""
    schema = _resolved(schema, schema)
    tightened = strict(schema)
    if tightened is None:
        return {"name": REPLY, "strict": False, "schema": _itemised(schema)}
    return {"name": REPLY, "strict": True, "schema": tightened}


def strict(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema as OpenAI takes a strict one: all is required, and nothing else allowed.

    None where it cannot be one, such as an object with keys of any name. A few rules that strict
    schemas do not know are left out of it, so a reply is still to be held against the given one.
    """
    tightened = deepcopy(dict(schema))
    if tightened.get("type") != "object" or tightened.keys() & _NOT_ON_TOP:
        return None
    if not _tightened(tightened):
        return None
    return tightened


def call_of(
    *, call_id: object, called: object, arguments: object, taken: Collection[str]
) -> ToolCall:
    """Return a call as a vendor has named it; under an id of ours where its own is none.

    `taken` are the ids of calls beside it: some servers give all of them the same.
    """
    given = name(call_id)
    if not given or given in taken:
        given = f"call_{uuid4().hex[:24]}"
    said = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolCall(id=given, name=name(called), arguments=storable(said))


def native_of(provider: str, api: str, item: Mapping[str, Any]) -> Native:
    """Return an item of a vendor's own as it came."""
    said = json.dumps(item, ensure_ascii=False, separators=(",", ":"))
    return Native(provider=provider, api=api, item=storable(said))


def _choice(given: Any) -> tuple[str, str]:
    if isinstance(given, str) and given in _CHOICES:
        return given, ""
    if isinstance(given, dict):
        function = given.get("function")
        name = function.get("name") if isinstance(function, dict) else given.get("name")
        kind = _AT_ANTHROPIC.get(str(given.get("type")), given.get("type"))
        if isinstance(name, str) and name:
            return "tool", name
        if isinstance(kind, str) and kind in _CHOICES:
            return str(kind), ""
    raise setting_refused("tool_choice", "it must be auto, none, required, or name a tool")


def _tightened(schema: Any) -> bool:
    """Make a schema strict in its place, and all within; False where one cannot be."""
    if isinstance(schema, list):
        return all(map(_tightened, schema))
    if not isinstance(schema, dict):
        return not isinstance(schema, bool)  # which is what anything fits, or nothing
    if "oneOf" in schema:
        schema["anyOf"] = schema.pop("oneOf")
    for key in [key for key, value in schema.items() if not _is_taken(key, value, schema)]:
        del schema[key]
    if schema.keys() & _NEVER_STRICT or not _says_what(schema):
        return False
    return _is_closed(schema) and all(_within(schema))


def _says_what(schema: Mapping[str, Any]) -> bool:
    """Tell whether a schema names a type, and an array what is in it; a strict one has to."""
    if _is_array(schema) and not mapping(schema.get("items")):
        return False
    return bool(schema.keys() & {"$ref", "anyOf", "type"})


def _is_array(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    return kind == "array" or (isinstance(kind, list) and "array" in kind)


def _itemised(schema: Any) -> Any:
    """Return a schema all of whose arrays say what is in them, if only anything."""
    if isinstance(schema, list):
        return [*map(_itemised, schema)]
    if not isinstance(schema, dict) or (_INNER.isdisjoint(schema) and not _is_array(schema)):
        return schema  # most are
    found = dict(schema)
    for key in _SCHEMAS & found.keys():
        found[key] = _itemised(found[key])
    for key in _NAMED & found.keys():
        found[key] = {name: _itemised(one) for name, one in mapping(found[key]).items()}
    if isinstance(found.get("items"), list):  # of drafts before 2020-12
        found["prefixItems"] = found.pop("items")
    if _is_array(found):
        found.setdefault("items", {})
    return found


def _of_alternatives(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties that an object may have in one of the ways in which it may be made."""
    found: dict[str, Any] = {}
    for key in sorted(_ALTERNATIVES & schema.keys()):
        for one in mappings(schema[key]):
            found = {**mapping(_resolved(one, schema).get("properties")), **found}
    return found


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema in the place of a reference to it, where it stands among definitions."""
    place = str(schema.get("$ref", "")).split("/")
    if len(place) != 3 or place[0] != "#" or place[1] not in ("$defs", "definitions"):
        return dict(schema)
    named = mapping(mapping(root.get(place[1])).get(place[2]))
    return {**{key: one for key, one in schema.items() if key != "$ref"}, **named}


def _is_closed(schema: dict[str, Any]) -> bool:
    """Let an object have nothing but its properties, and all of them; False where it has others."""
    if schema.get("type") == "object" or "properties" in schema:
        if schema.get("additionalProperties", False) is not False:
            return False
        schema["additionalProperties"] = False
        schema["required"] = [*mapping(schema.setdefault("properties", {}))]
    return True


def _within(schema: dict[str, Any]) -> Iterator[bool]:
    for key in ("anyOf", "items", "prefixItems"):
        yield _tightened(schema.get(key))
    for key in ("properties", "$defs", "definitions"):
        yield from map(_tightened, mapping(schema.get(key)).values())


def _is_taken(key: str, value: object, schema: Mapping[str, Any]) -> bool:
    if key == "format":
        return isinstance(value, str) and value in _FORMATS
    if "$ref" in schema:
        return key in ("$ref", "$defs", "definitions")  # beside a reference stands nothing else
    return key not in _LEFT_OUT
