"""Tools that a worker has, one in a line."""

from __future__ import annotations

from typing import Any

from turnmill.show.listing import Listing
from turnmill.show.tables import fields
from turnmill.show.wording import duration


def registered_tools() -> Listing[Any]:
    """Return how tools of a worker are listed, of which only the worker knows the type."""
    return Listing(
        columns=("tool", "of", "effects", "timeout", "approval", "description"),
        row=_row,
        document=_document,
        spare=("approval", "description"),
    )


def _row(tool: Any) -> tuple[object, ...]:
    first_line = tool.description.strip().partition("\n")[0]
    of = "this worker" if tool.server is None else f"MCP server {tool.server}"
    approval = "is asked for" if tool.approval else None
    return tool.name, of, tool.effects, duration(tool.timeout), approval, first_line[:80]


def _document(tool: Any) -> dict[str, object]:
    said = fields(tool, "name", "server", "effects", "approval", "description")
    return {**said, "timeout": tool.timeout.total_seconds()}
