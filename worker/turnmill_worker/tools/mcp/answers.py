"""What an MCP server says of its tools, and what a call of one gives, as a model is told it."""

import json
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from mcp.types import CallToolResult, Tool

from turnmill.domain.bounds import SCHEMA_BYTES, TOOL_NAME
from turnmill.domain.checks import storable
from turnmill.tools import ToolError
from turnmill_worker.tools.mcp.configured import BETWEEN

_MOST_DESCRIPTION = 8_000  #: characters
_LONGEST = 64
_HASHED = 8  #: digits, in place of what a name cannot hold
_NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}}


def name_of_tool(server: str, tool: str) -> str:
    """Return the name under which models call a tool: always the same for the same tool.

    A server may use characters in it, and a length, that no vendor takes: what is left is followed
    by digits that tell it from all others.
    """
    plain = f"{server}{BETWEEN}{tool}"
    if re.fullmatch(TOOL_NAME, plain):
        return plain
    digits = sha256(tool.encode()).hexdigest()[:_HASHED]
    kept = re.sub(r"[^a-zA-Z0-9_-]", "_", plain)[: _LONGEST - _HASHED - 1]
    return f"{kept}_{digits}"


def description_of(tool: Tool) -> str:
    """Return what a model is told of the tool."""
    return storable(tool.description or tool.title or "")[:_MOST_DESCRIPTION]


def schema_of(tool: Tool) -> dict[str, Any] | None:
    """Return the schema of its arguments as vendors take it; None for one that is too large."""
    schema = {**_NO_ARGUMENTS, **tool.input_schema}
    schema.pop("$schema", None)
    try:
        size = len(json.dumps(schema, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError):
        return None
    return schema if schema["type"] == "object" and size <= SCHEMA_BYTES else None


def output_of(result: CallToolResult) -> str:
    """Return what the call gave, as a text. Raises ToolError in the server's words where it failed.

    What is no text is named: models are told texts.
    """
    words = "\n".join(_words_of(block) for block in result.content)
    if not words and result.structured_content is not None:
        words = json.dumps(result.structured_content, ensure_ascii=False)
    if result.is_error:
        raise ToolError(words or "The tool failed.")
    return words


def _words_of(block: Any) -> str:
    match block.type:
        case "text":
            return str(block.text)
        case "resource":
            return _words_of_resource(block.resource)
        case "resource_link":
            return " ".join(filter(None, (block.name, str(block.uri), block.description)))
        case kind:
            return f"[{kind} of type {block.mime_type}, which cannot be shown]"


def _words_of_resource(resource: Any) -> str:
    text = getattr(resource, "text", None)
    return f"[{resource.uri}, which cannot be shown]" if text is None else str(text)


def distinct(found: list[Tool]) -> Iterator[Tool]:
    """Yield each tool once: of two of one name, the first."""
    seen: set[str] = set()
    for tool in found:
        if tool.name not in seen:
            seen.add(tool.name)
            yield tool
