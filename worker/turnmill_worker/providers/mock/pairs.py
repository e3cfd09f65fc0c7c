"""A strict vendor's look at what it is sent: every call has its output, right behind it."""

from collections.abc import Iterable

from turnmill.domain.content import Message, Text, ToolCall, ToolOutput
from turnmill.domain.errors import Rejected
from turnmill_worker.providers.port import Request


def refuse_unpaired(request: Request) -> None:
    """Raise Rejected where a call of a tool has no output right behind it, or an output no call.

    Vendors do, and a session that is sent so once is refused for ever after. Each part of the
    conversation has to be whole by itself: what was said before, and this turn.
    """
    _follow(request.history)
    _follow(request.messages)


def _follow(messages: Iterable[Message]) -> None:
    missing: set[str] = set()
    for message in messages:
        parts = message.parts
        if len(parts) == 1 and type(parts[0]) is Text and message.role != "tool":
            if missing:
                raise _refused("a call of a tool has no output right behind it")
            continue  # most are
        if message.role == "tool":
            _answer(message, missing)
        elif missing:
            raise _refused("a call of a tool has no output right behind it")
        else:
            missing = _called(message)
    if missing:
        raise _refused("a call of a tool has no output")


def _called(message: Message) -> set[str]:
    calls = [part.id for part in message.parts if isinstance(part, ToolCall)]
    if calls and message.role != "assistant":
        raise _refused("somebody else than the model calls a tool")
    if any(isinstance(part, ToolOutput) for part in message.parts):
        raise _refused("an output stands in a message that is not of a tool")
    if not all(calls) or len(set(calls)) < len(calls):
        raise _refused("two calls have one id")
    return set(calls)


def _answer(message: Message, missing: set[str]) -> None:
    outputs = [part for part in message.parts if isinstance(part, ToolOutput)]
    if not outputs or len(outputs) < len(message.parts):
        raise _refused("a message of a tool is something else than outputs")
    for output in outputs:
        if output.call_id not in missing:
            raise _refused("an output belongs to no call right before it")
        missing.remove(output.call_id)


def _refused(why: str) -> Rejected:
    return Rejected("invalid_history", detail=why, hint="the vendors refuse such a conversation")
