"""Repair: a history that a vendor has refused for its structure is told again in plain words, once.

No session is bricked by what was once said in it. The attempt that was refused stands for itself,
with the vendor's code and words; its verdict gives the turn back, and the next claim says why.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from turnmill.domain.content import Message, Native, Part, Text, ToolCall, ToolOutput, text_of
from turnmill.domain.errors import HistoryRefused
from turnmill_worker.layers.call import Call, Go, Layer
from turnmill_worker.layers.history import ReadHistory, with_history
from turnmill_worker.providers.boundary import Answer
from turnmill_worker.providers.port import Request

#: Stands where somebody has to have said something, and nothing is known.
_GO_ON = Message.of("user", "Go on.")


def repair(read: ReadHistory) -> Layer:
    """Return the layer. It stands inside of all that chooses a history, and outside of others'."""

    async def layer(call: Call, go: Go) -> Answer:
        if call.kind == "send" and call.claim.error_code == HistoryRefused.code:
            if call.request.thread_ref:
                call = await with_history(call, read)
            call = replace(call, request=plain(call.request))
        return await go(call)

    return layer


def plain(request: Request) -> Request:
    """Return the request with nothing in it that a vendor could refuse for its structure.

    Its history is sent along. Items of the vendor's own are left out, calls of tools and their
    outputs become words; user and model take turns, the user first and last.
    """
    system, past = _plain(request.history)
    now, said = _plain(request.messages)
    if not said or said[-1].role != "user":
        said.append(_GO_ON)
    if past and past[-1].role == said[0].role:
        said[0] = _joined(said[0].role, [past.pop(), said[0]])
    first = past or said
    if first[0].role == "assistant":
        first.insert(0, _GO_ON)
    history, messages = [*system, *past], [*now, *said]
    return replace(request, thread_ref="", continues=0, history=history, messages=messages)


def _plain(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """Return the system's messages, and those of user and model, who take turns in them."""
    said = [one for one in map(_in_words, messages) if one is not None]
    system = [one for one in said if one.role == "system"]
    talk = [one for one in said if one.role != "system"]
    return system, [_joined(role, run) for role, run in groupby(talk, key=lambda one: one.role)]


def _in_words(message: Message) -> Message | None:
    """Return it as a message of the user's, the model's or the system's; None where it is blank."""
    role = "user" if message.role == "tool" else message.role
    parts = [one for part in message.parts for one in _part(part)]
    if role != "user":
        parts = [Text(text_of(parts))]
    is_blank = all(isinstance(one, Text) and not one.text.strip() for one in parts)
    return None if is_blank else Message(role, parts)


def _part(part: Part) -> Iterator[Part]:
    match part:
        case Native():
            return
        case ToolCall():
            yield Text(f"[called {part.name} with {part.arguments}]")
        case ToolOutput():
            yield Text(f"[{'error' if part.is_error else 'output'}: {part.output}]")
        case _:
            yield part


def _joined(role: str, run: Iterable[Message]) -> Message:
    """Return messages of one role as one, a blank line between their words."""
    parts: list[Part] = []
    for message in run:
        if parts:
            parts.append(Text("\n\n"))
        parts += message.parts
    if all(isinstance(one, Text) for one in parts):
        parts = [Text(text_of(parts))]
    return Message(role, tuple(parts))
