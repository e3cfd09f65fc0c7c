"""Three kinds of tools, each of which does something to the world that stays."""

import sys

from tests import world
from turnmill import ToolContext, tool


def _touch(kind: str, context: ToolContext) -> str:
    """Have the effect, and walk into the trap that may lie behind it."""
    world.note(done=kind, turn=context.turn_id, key=context.idempotency_key, step=context.step)
    # Imported here, it would lay its traps.
    faulty = sys.modules.get("tests.chaos.faulty_worker")
    if faulty is not None:
        faulty.step_on(f"tool.{kind}")
    return f"{kind} {context.idempotency_key}"


@tool(effects="none")
def look(context: ToolContext) -> str:
    """Look something up."""
    return _touch("look", context)


@tool(effects="idempotent")
async def book(context: ToolContext) -> str:
    """Book something."""
    return _touch("book", context)


@tool(effects="at_most_once")
def strike(context: ToolContext) -> str:
    """Do what must not be done twice."""
    return _touch("strike", context)
