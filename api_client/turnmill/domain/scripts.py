"""Scripts: conversations that were written down, and not had here, taken apart into turns."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from turnmill.domain.content import Message

_REPLIES = "assistant"
_ASKS = ("user", "system")


class Script(NamedTuple):
    """What was said, turn by turn, and what nobody has answered."""

    turns: Sequence[tuple[Message, ...]]  #: each with something that the assistant said in it
    open: tuple[Message, ...]  #: what stands behind the last of them


def script_of(messages: Iterable[Message]) -> Script:
    """Return the turns of a conversation: one begins where somebody asks after a reply.

    So what an assistant says first is a turn of its own, calls of tools and their outputs belong to
    the turn that they were made in, and several questions before one reply are one turn.
    """
    turns: list[tuple[Message, ...]] = []
    current: list[Message] = []
    for message in messages:
        if message.role in _ASKS and has_reply(current):
            turns.append(tuple(current))
            current = []
        current.append(message)
    if has_reply(current):
        turns.append(tuple(current))
        current = []
    return Script(turns, tuple(current))


def has_reply(messages: Iterable[Message]) -> bool:
    """Tell whether the assistant says anything in it."""
    return any(one.role == _REPLIES for one in messages)


def reply_in(messages: Sequence[Message]) -> int:
    """Return the place of what the turn has come to: the last thing that the assistant said."""
    return max(n for n, one in enumerate(messages) if one.role == _REPLIES)
