"""A reply of the mock's own that fits the JSON schema which a session asks for."""

import json
from collections.abc import Mapping
from typing import Any

_DEEPEST = 20
#: Items of a list, and characters of a text; what asks for more is scripted.
_MOST_ITEMS, _LONGEST = 1_000, 100_000
_EXAMPLES: Mapping[str, str] = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def fitting(schema: Mapping[str, Any], words: str) -> str:
    """Return JSON that fits the schema, as small as it may be; texts in it are `words`.

    A pattern, and rules of several schemas at once, are not looked at: what needs those is
    scripted.
    """
    return json.dumps(_value(schema, schema, words, 0), ensure_ascii=False)


def _value(schema: Any, root: Mapping[str, Any], words: str, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return None
    if isinstance(reference := schema.get("$ref"), str):
        return _value(_referred(reference, root), root, words, depth + 1)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if isinstance(chosen := schema.get("enum"), list) and chosen:
        return chosen[0]
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(among := schema.get(key), list) and among:
            return _value(among[0], root, words, depth + 1)
    return _of_type(_type_of(schema), schema, root, words, depth)


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return str(kind[0]) if isinstance(kind, list) and kind else str(kind)


def _of_type(
    kind: str, schema: Mapping[str, Any], root: Mapping[str, Any], words: str, depth: int
) -> Any:
    match kind:
        case "object":
            properties, required = schema.get("properties", {}), schema.get("required", ())
            return {
                name: _value(one, root, words, depth + 1)
                for name, one in properties.items()
                if name in required
            }
        case "array":
            least = min(schema.get("minItems", 0), _MOST_ITEMS)
            return [_value(schema.get("items"), root, words, depth + 1) for _ in range(least)]
        case "integer" | "number":
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return _text(schema, words)


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    found = max(schema.get("minimum", 0), schema.get("exclusiveMinimum", -1) + 1, 0)
    found = min(schema.get("maximum", found), schema.get("exclusiveMaximum", found + 1) - 1, found)
    if step := schema.get("multipleOf"):
        found = -(-found // step) * step
    return int(found) if whole else float(found)


def _text(schema: Mapping[str, Any], words: str) -> str:
    if (example := _EXAMPLES.get(str(schema.get("format")))) is not None:
        return example
    least = min(schema.get("minLength", 0), _LONGEST)
    return words.ljust(least, ".")[: schema.get("maxLength")]


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for name in reference.removeprefix("#").split("/")[1:]:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
