"""A vendor's look at what it is sent: every call has its output, right behind it."""

from collections.abc import Iterable
from dataclasses import replace

from turnmill.domain.content import Message, Text, ToolCall, ToolOutput
from turnmill.domain.errors import Rejected
from turnmill_worker.providers.pairing import Dialect, paired
from turnmill_worker.providers.port import Request

_DIALECT = Dialect(api="mock", id_max=64)


def as_vendors_are_sent(request: Request) -> Request:
    """Return the request with each call of its history paired with its output, as they are sent it.

    A history may have been imported, or cut short: the other providers put in what is missing, and
    make words of what belongs to nothing. What this turn has said itself has to be whole, or is
    refused, as a vendor refuses what was not repaired. Raises Rejected.
    """
    _follow(request.messages)
    try:
        _follow(request.history)
    except Rejected:
        return replace(request, history=paired(request.history, dialect=_DIALECT))
    return request


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
