"""What a server says, before the SDK acts on it: one thing that cannot be read is lost alone.

The SDK drops a line that is no message to it, so that whoever waits for its answer waits until his
time is over; and it refuses a whole list of tools for one of them.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from mcp.shared.message import SessionMessage
from mcp.types import PARSE_ERROR, ErrorData, JSONRPCError, JSONRPCResponse, jsonrpc_message_adapter
from mcp_types.methods import validate_server_result
from pydantic import ValidationError

from turnmill.domain.checks import storable

logger = logging.getLogger("turnmill.mcp")

#: As the SDK says it of what comes over HTTP.
_UNREADABLE = ErrorData(code=PARSE_ERROR, message="Failed to parse JSON response")
#: A tool is read by this version of the protocol, which all later ones read, too.
_VERSION = "2025-11-25"


def heard(said: Any, *, server: str) -> Any:
    """Return what was said as the SDK can go on with it, as far as it can be read at all."""
    if isinstance(said, ValidationError):
        return _read_again(said)
    if isinstance(said, SessionMessage) and isinstance(said.message, JSONRPCResponse):
        _take_tools(said.message.result, server)
    return said


def _read_again(error: ValidationError) -> SessionMessage | Exception:
    """Read what is no message: as one after all, or as the failure of the call that it answers."""
    said = _object_in(error.errors(include_url=False, include_context=False)[0]["input"])
    if said is None or "method" in said or type(said.get("id")) not in (int, str):
        return error
    line = json.dumps({"jsonrpc": "2.0", **said}, ensure_ascii=False)
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(storable(line), by_name=False))
    except ValidationError:
        return SessionMessage(JSONRPCError(jsonrpc="2.0", id=said["id"], error=_UNREADABLE))


def _object_in(said: Any) -> Mapping[str, Any] | None:
    try:
        found = json.loads(said.removeprefix("\ufeff")) if isinstance(said, str) else said
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, Mapping) else None


def _take_tools(result: dict[str, Any], server: str) -> None:
    tools = result.get("tools")
    if not isinstance(tools, list):
        return
    result["tools"] = [one for one in map(_as_taken, tools) if _is_a_tool(one)]
    if len(result["tools"]) < len(tools):
        logger.warning("MCP server %s: a tool that cannot be read is left out", server)


def _as_taken(said: Any) -> Any:
    """Return a tool without the schema of its outputs, and with a type of its arguments.

    To such a schema, which a server chooses, the SDK would hold outputs on our event loop: a
    pattern that never ends would end all turns there. Of what type arguments are there is but one.
    """
    if not isinstance(said, dict):
        return said
    tool = {key: value for key, value in said.items() if key != "outputSchema"}
    schema = tool.get("inputSchema") or {}
    if isinstance(schema, dict) and "type" not in schema:
        tool["inputSchema"] = {**schema, "type": "object"}
    return tool


def _is_a_tool(said: object) -> bool:
    try:
        validate_server_result("tools/list", _VERSION, {"tools": [said]})
    except ValidationError:
        return False
    return True
