"""Names of a tool's arguments that the Messages API takes, and the way back from them.

It refuses each request in which one tool has an argument by another name, such as `größe`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from turnmill.domain.content import Part, ToolCall
from turnmill_worker.providers.offering import parameters_of
from turnmill_worker.providers.pairing import name_of_tool
from turnmill_worker.providers.port import Done, ToolOffer
from turnmill_worker.providers.untrusted import mapping

_TAKEN = re.compile(r"[a-zA-Z0-9_.-]{1,64}")


def schema_of(offer: ToolOffer) -> dict[str, Any]:
    """Return the schema of a tool's arguments, under names that are taken."""
    schema = parameters_of(offer)
    given: Mapping[str, Any] = schema["properties"]
    if all(map(_TAKEN.fullmatch, given)):
        return schema  # nearly always
    named = {_name_of(key): _titled(one, key) for key, one in given.items()}
    required = schema.get("required")
    if isinstance(required, list):
        schema["required"] = [_name_of(one) for one in required if isinstance(one, str)]
    return {**schema, "properties": named}


def by_own_names(reply: Done, offers: Iterable[ToolOffer]) -> Done:
    """Return a reply whose calls have their arguments by the names that the tools know."""
    called = {one.name for one in reply.parts if isinstance(one, ToolCall)}
    if not called:
        return reply
    names = {one.name: _own_names(one) for one in offers if one.name in called}
    return replace(reply, parts=tuple(_named_back(one, names) for one in reply.parts))


def _own_names(offer: ToolOffer) -> dict[str, str]:
    given = parameters_of(offer)["properties"]
    return {_name_of(key): key for key in given if not _TAKEN.fullmatch(key)}


def _named_back(part: Part, names: Mapping[str, Mapping[str, str]]) -> Part:
    own = names.get(part.name) if isinstance(part, ToolCall) else None
    if not own or not isinstance(part, ToolCall):
        return part
    try:
        said = mapping(json.loads(part.arguments))
    except (RecursionError, ValueError):  # of a number of thousands of digits, say
        return part
    back = {own.get(key, key): one for key, one in said.items()}
    return replace(part, arguments=json.dumps(back, ensure_ascii=False)) if said else part


def _name_of(key: str) -> str:
    return key if _TAKEN.fullmatch(key) else name_of_tool(key)


def _titled(schema: Any, key: str) -> Any:
    """Let the model read what it is called, where nothing else says so."""
    return {"title": key, **schema} if isinstance(schema, dict) else schema
