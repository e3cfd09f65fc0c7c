"""What vendors say of tools and of JSON schemas, read without a look at what builds them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def closed(schema: object, *, all_required: bool, at: str = "schema") -> Iterator[str]:
    """Yield what is wrong with a schema whose objects may have nothing but their properties."""
    if isinstance(schema, list):
        for n, one in enumerate(schema):
            yield from closed(one, all_required=all_required, at=f"{at}[{n}]")
    if isinstance(schema, bool) and all_required:
        yield f"{at}: schema must have a 'type' key"
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            yield f"{at}: additionalProperties must be false"
        properties = schema.get("properties", {})
        if all_required and set(schema.get("required", [])) != set(properties):
            yield f"{at}: required must hold every property"
    if all_required and not schema.keys() & {"type", "anyOf", "$ref"}:
        yield f"{at}: schema must have a 'type' key"
    if all_required and schema.get("type") == "array" and not schema.get("items"):
        yield f"{at}: array schema missing items"
    if "$ref" in schema and all_required and set(schema) - {"$ref", "$defs", "definitions"}:
        yield f"{at}: nothing may stand beside a $ref"
    if unknown := schema.keys() & {"oneOf", "allOf", "not", "if", "patternProperties", "default"}:
        yield f"{at}: not supported: {min(unknown)}"
    for name in ("items", "anyOf", "prefixItems"):
        yield from closed(schema.get(name), all_required=all_required, at=f"{at}.{name}")
    for name in ("properties", "$defs", "definitions"):
        for key, one in (schema.get(name) or {}).items():
            yield from closed(one, all_required=all_required, at=f"{at}.{name}.{key}")


def arguments(schema: object, *, at: str) -> Iterator[str]:
    """Yield what is wrong with the schema of a tool's arguments."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        yield f"{at}: schema must be a JSON Schema of 'type: \"object\"'"
    elif not isinstance(schema.get("properties"), dict):
        yield f"{at}: object schema missing properties"
    elif unknown := schema.keys() & {"oneOf", "anyOf", "allOf", "enum", "not"}:
        yield f"{at}: must not have {min(unknown)!r} at the top level"
    yield from items(schema, at=at)


def items(schema: object, *, at: str) -> Iterator[str]:
    """Yield which arrays do not say what is in them."""
    if isinstance(schema, list):
        for n, one in enumerate(schema):
            yield from items(one, at=f"{at}[{n}]")
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    is_array = "array" in (kind if isinstance(kind, list) else [kind])
    if is_array and not isinstance(schema.get("items"), dict | bool):
        yield f"{at}: array schema missing items"
    for name, one in schema.items():
        if isinstance(one, dict | list) and name not in ("default", "enum", "examples"):
            yield from items(one, at=f"{at}.{name}")


def names(tools: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with the names of tools."""
    given = [one.get("name") for one in tools]
    for name in given:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            yield f"tools: invalid name {name!r}"
    if len({str(one) for one in given}) != len(given):
        yield "tools: names must be unique"


def form(given: Mapping[str, Any], *, at: str) -> Iterator[str]:
    """Yield what is wrong with the form of a reply, as OpenAI's APIs take it."""
    if set(given) - {"type", "name", "schema", "strict", "description"}:
        yield f"{at}: unknown parameter"
    if not isinstance(given.get("name"), str) or not NAME.fullmatch(given["name"]):
        yield f"{at}.name: invalid"
    schema = given.get("schema")
    if not isinstance(schema, dict):
        yield f"{at}.schema: required"
    elif schema.get("type") != "object":
        yield f"{at}.schema: must have type object"
    elif given.get("strict") is True:
        yield from closed(schema, all_required=True, at=f"{at}.schema")


def is_object(text: object) -> bool:
    """Tell whether a text is the JSON of an object, in the strict sense of RFC 8259."""
    if not isinstance(text, str):
        return False
    try:
        found = json.loads(text, parse_constant=_refuse)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict)


def _refuse(constant: str) -> None:
    raise ValueError(constant)
