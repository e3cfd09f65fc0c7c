"""Schemas: validators of JSON schemas that end in bounded time, whatever schema and value say."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import timedelta
from functools import lru_cache
from typing import Any

from pydantic_core import SchemaError, SchemaValidator, core_schema

#: A keyword of schemas: a validator, what the schema has there, what is held to it, the schema.
_Keyword = Callable[[Any, Any, Any, Mapping[str, Any]], Iterator[Any] | None]

#: When the time of whoever holds something to a schema now, in his thread, is over.
_ENDS: ContextVar[float] = ContextVar("ends")


class SchemaRefused(ValueError):
    """The schema is none, or nothing can be held to it in bounded time."""


def validator_of(schema: Mapping[str, Any], *, within: timedelta) -> Any:
    """Return what `iter_errors` is asked of; SchemaRefused is raised there when the time is over.

    A search of Python's `re` may take for ever over a few characters, and holds up all threads of
    its process. So patterns are looked for by an engine that is linear; it has neither look-around
    nor back-references, and neither have vendors in the form of a reply.
    """
    from referencing import Registry  # noqa: PLC0415  only where it is asked for

    usual = _kind_of(schema)
    _ENDS.set(time.monotonic() + within.total_seconds())
    # With a registry that is empty, nothing is ever fetched.
    return _bounded(usual)(schema, registry=Registry())


def require_usable(schema: Mapping[str, Any]) -> None:
    """Refuse a schema that is none, or to which nothing can be held, before there is a value.

    What shows only with one, as a schema that takes too long over it, is refused then.
    """
    _kind_of(schema)
    for at in _schemas_in(schema):
        if isinstance(pattern := at.get("pattern"), str):
            _searching(pattern)
        for pattern in at.get("patternProperties") or ():
            _searching(pattern)
        reference = at.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            _require_named(schema)


def _kind_of(schema: Mapping[str, Any]) -> Any:
    """Return the usual validator of such schemas."""
    return _kind_told(json.dumps(schema))


@lru_cache(maxsize=64)  # nearly all of the time that it takes to hold a reply to one
def _kind_told(said: str) -> Any:
    from jsonschema import exceptions, validators  # noqa: PLC0415  only where it is asked for

    schema = json.loads(said)
    _require_bounded(schema)
    usual = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        usual.check_schema(schema)
    except (exceptions.SchemaError, RecursionError) as error:
        raise SchemaRefused(type(error).__name__) from None
    return usual


#: What stands under these is a value, or are names of schemas that may be such words themselves.
_VALUES = frozenset({"const", "enum", "default", "examples"})
_NAMED = frozenset({"$defs", "definitions", "properties", "patternProperties", "dependentSchemas"})


def _schemas_in(schema: object) -> Iterator[Mapping[str, Any]]:
    """Yield the schema, and all that are in it."""
    if isinstance(schema, list):
        for one in schema:
            yield from _schemas_in(one)
    if isinstance(schema, Mapping):
        yield schema
        for name, inner in schema.items():
            if name in _NAMED and isinstance(inner, Mapping):
                for one in inner.values():
                    yield from _schemas_in(one)
            elif name not in _VALUES:
                yield from _schemas_in(inner)


def _require_named(schema: Mapping[str, Any]) -> None:
    """Refuse what refers to a schema that stands elsewhere: nothing is fetched."""
    if not any("$id" in one for one in _schemas_in(schema)):
        raise SchemaRefused("it refers to what stands elsewhere")


@lru_cache(maxsize=16)
def _bounded(usual: Any) -> Any:
    """Return the validator of a kind of schemas whose keywords are ours, or look at the clock."""
    from jsonschema import validators  # noqa: PLC0415

    words = {name: _timed(_OWN.get(name, word)) for name, word in usual.VALIDATORS.items()}
    return validators.extend(usual, words)


def _require_bounded(schema: Mapping[str, Any]) -> None:
    """Refuse what would bring in keywords that are not bounded, or whose patterns are not ours."""
    inner = set().union(*map(_names_in, schema.values()))
    if "$schema" in inner:
        raise SchemaRefused("there is one of another kind in it")
    if {"patternProperties", "unevaluatedProperties"} <= inner.union(schema):
        raise SchemaRefused("patternProperties beside unevaluatedProperties")


def _names_in(value: object) -> set[str]:
    """Return the names in all objects in there; `$schema` only where it names a kind."""
    if isinstance(value, Mapping):
        names = {name for name in value if name != "$schema" or isinstance(value[name], str)}
        return names.union(*map(_names_in, value.values()))
    if isinstance(value, list):
        return set().union(*map(_names_in, value))
    return set()


def _timed(word: _Keyword) -> _Keyword:
    def timed(
        validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]
    ) -> Iterator[Any]:
        if time.monotonic() > _ENDS.get():
            raise SchemaRefused("it takes too long")
        yield from word(validator, value, instance, schema) or ()

    return timed


def _pattern(validator: Any, value: Any, instance: Any, _: Mapping[str, Any]) -> Iterator[Any]:
    if isinstance(instance, str) and not _finds(value, instance):
        yield _fault(f"{instance!r} does not match {value!r}")


def _pattern_properties(
    validator: Any, value: Any, instance: Any, _: Mapping[str, Any]
) -> Iterator[Any]:
    if isinstance(instance, Mapping):
        for pattern, schema in value.items():
            for name in (one for one in instance if _finds(pattern, one)):
                yield from validator.descend(instance[name], schema, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[Any]:
    if not isinstance(instance, Mapping):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name in instance:
        if name in known or any(_finds(one, name) for one in patterns):
            continue
        if isinstance(value, Mapping):
            yield from validator.descend(instance[name], value, path=name)
        elif not value:
            yield _fault(f"Additional properties are not allowed ({name!r} was unexpected)")


def _unique_items(validator: Any, value: Any, instance: Any, _: Mapping[str, Any]) -> Iterator[Any]:
    if value and isinstance(instance, list) and len(set(map(_frozen, instance))) < len(instance):
        yield _fault(f"{instance!r} has non-unique elements")


def _frozen(value: Any) -> Any:
    """Return what is equal where schemas call values so: 1 is 1.0, and True is no number."""
    if isinstance(value, Mapping):
        return dict, frozenset((name, _frozen(one)) for name, one in value.items())
    if isinstance(value, list):
        return list, tuple(map(_frozen, value))
    return isinstance(value, bool), value


def _fault(words: str) -> Any:
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415  only where it is asked for

    return ValidationError(words)


def _finds(pattern: str, text: str) -> bool:
    return bool(_searching(pattern).isinstance_python(text))


@lru_cache(maxsize=64)
def _searching(pattern: str) -> SchemaValidator:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError:
        raise SchemaRefused("it has a pattern that cannot be looked for in linear time") from None


_OWN: Mapping[str, _Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
