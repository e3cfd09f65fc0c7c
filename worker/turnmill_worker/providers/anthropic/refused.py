"""Turns that Anthropic has refused: it asks that they are taken out of what is said next.

What still holds them is refused again, whatever it goes on with.
https://platform.claude.com/docs/en/test-and-evaluate (handle streaming refusals)
"""

from collections.abc import Mapping, Sequence
from typing import Any

from turnmill.domain.content import Message, Native, ToolCall
from turnmill.domain.summaries import is_opening
from turnmill_worker.providers.anthropic.blocks import API, REFUSAL
from turnmill_worker.providers.fitting import item_of
from turnmill_worker.providers.offering import native_of
from turnmill_worker.providers.untrusted import mapping


def refusal_of(payload: Mapping[str, Any]) -> Native:
    """Return what a message that was refused says of it."""
    return native_of("anthropic", API, {**mapping(payload.get("stop_details")), "type": REFUSAL})


def without_refused(history: Sequence[Message]) -> Sequence[Message]:
    """Return the history without the turns that were refused, from the user's words on."""
    said = list(history)
    if not any(map(_is_refused, said)):
        return said
    kept: list[Message] = []
    turn: list[Message] = []
    for message in said:
        turn.append(message)
        if _is_refused(message):
            kept += filter(_stays, turn)
            turn = []
        elif _ends_a_turn(message):
            kept += turn
            turn = []
    return [*kept, *turn]


def _ends_a_turn(message: Message) -> bool:
    calls = any(isinstance(part, ToolCall) for part in message.parts)
    return message.role == "assistant" and not calls


def _stays(message: Message) -> bool:
    """Tell whether a message was not said for this turn alone."""
    return message.role == "system" or is_opening(message)


def _is_refused(message: Message) -> bool:
    if message.role != "assistant" or len(message.parts) == 1:
        return False  # most are
    return any(_is_refusal(part) for part in message.parts if isinstance(part, Native))


def _is_refusal(part: Native) -> bool:
    return REFUSAL in part.item and mapping(item_of(part)).get("type") == REFUSAL
