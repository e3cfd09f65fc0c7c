"""What the tools of a turn gave, in words."""

from turnmill.domain.content import ToolCall, ToolOutput
from turnmill_worker.providers.port import Request

#: Stands in a scripted reply for what the tools gave.
OUTPUTS = "{outputs}"


def outputs_in(request: Request, *, most: int | None = None) -> str:
    """Return what tools gave in this turn, each behind its name: `weather: 21 degrees; …`.

    No more than `most` characters of each.
    """
    if len(request.messages) == 1:
        return ""
    names: dict[str, str] = {}
    told: list[str] = []
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, ToolCall):
                names[part.id] = part.name
            elif isinstance(part, ToolOutput):
                failed = " failed" if part.is_error else ""
                told.append(f"{names.get(part.call_id, '?')}{failed}: {part.output[:most]}")
    return "; ".join(told)
