"""Whether a result holds anything that was said."""

from dataclasses import fields, is_dataclass
from typing import Any

from turnmill.domain.content import Text, ToolCall, ToolOutput


def said_in(value: Any, depth: int = 6) -> bool:
    """Tell whether a result holds anything that somebody, a model or a tool has said."""
    if isinstance(value, Text | ToolCall | ToolOutput | bytes):
        return True
    if is_dataclass(value) and not isinstance(value, type) and depth:
        found = [getattr(value, one.name) for one in fields(value)]
        return any(said_in(one, depth - 1) for one in found)
    if isinstance(value, list | tuple) and depth:
        return any(said_in(one, depth - 1) for one in value)
    return False
