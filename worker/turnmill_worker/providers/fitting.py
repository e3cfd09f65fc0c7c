"""What of a conversation one provider can be sent: nothing else leaves, and nothing is left out."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from operator import is_
from typing import Any

from pydantic_core import from_json

from turnmill.domain.content import (
    Kind,
    Message,
    Native,
    Part,
    Sender,
    Text,
    sender_of,
    without_sender,
)
from turnmill.domain.errors import Rejected, UnreadableRow, UnsupportedPart
from turnmill.store.codec import StoredHistory
from turnmill_worker.providers.files import is_told
from turnmill_worker.providers.port import Request

#: Settings of `names` that tell them otherwise than in words.
_WAYS = ("field", "none")


def fitted(request: Request, *, name: str, takes: frozenset[Kind]) -> Request:
    """Return the request as a provider of this name can be sent it, which takes these kinds.

    Of natives it sees its own. Who of several people says something stands in their words, unless
    the session's setting `names` says otherwise. Raises Rejected where a message holds a part that
    it does not take: at once for what is said in this turn, and for the history when it is looked
    at.
    """
    fit = _fit(name, takes, _way_of(request.settings.get("names")))
    messages, history = _all(fit, request.messages), request.history
    history = history.fitted(fit) if isinstance(history, StoredHistory) else _all(fit, history)
    if messages is request.messages and history is request.history:
        return request  # most are: nothing in them but text, on a chain that the vendor keeps
    return replace(request, messages=messages, history=history)


def words(parts: Sequence[Part]) -> str:
    """Return the text that the parts are, joined; raises Rejected for one that is something else.

    For an API, or a place in it, that knows nothing else.
    """
    if len(parts) == 1 and isinstance(first := parts[0], Text):
        return first.text
    return "".join([_words(part) for part in parts])


def item_of(native: Native) -> Any:
    """Return a native item as it is sent; None for one that nobody can be; raises Rejected.

    Some servers say what is no JSON to any other: NaN, half a character, objects deeper than
    anybody reads. Sent back, it would have every later message of its session refused. What is no
    JSON at all was changed in its row.
    """
    with suppress(ValueError):
        return from_json(native.item, allow_inf_nan=False)
    try:
        json.loads(native.item)
    except (ValueError, RecursionError):
        raise Rejected(UnreadableRow.code, hint=UnreadableRow.hint) from None
    return None


def natives(parts: Iterable[Part], *, api: str) -> Iterator[Native]:
    """Yield the natives among the parts that are of this API; any other means nothing to it."""
    for part in parts:
        if isinstance(part, Native) and part.api in ("", api):
            yield part


def _all(
    fit: Callable[[Message], Message | None], messages: Sequence[Message]
) -> Sequence[Message]:
    """Return the messages as they fit: the very same where nothing is changed."""
    fitting = [fit(one) for one in messages]
    if all(map(is_, fitting, messages)):
        return messages
    return [one for one in fitting if one is not None]


def _way_of(names: object) -> str:
    """Return how a session wants names to be told, if it is one of the ways; anybody wrote it."""
    return names if isinstance(names, str) and names in _WAYS else ""


@lru_cache(maxsize=64)  # thousands of calls that wait share it
def _fit(name: str, takes: frozenset[Kind], names: str) -> Callable[[Message], Message | None]:
    plain = takes - {Native}
    takes_names = names == "field" and Sender in takes

    def fit(message: Message) -> Message | None:
        parts = message.parts
        if len(parts) == 1 and type(parts[0]) in plain and not is_told(parts[0]):
            return message  # most are
        if not takes_names and sender_of(parts) is not None:
            message = shown_as(message, names)
            parts = message.parts
        kept = [one for one in parts if not (_is_of_another(one, name) or is_told(one))]
        for part in kept:
            if type(part) not in takes:
                raise unsupported(part)
        if len(kept) == len(parts):
            return message
        return Message(message.role, kept) if kept else None

    return fit


def named(message: Message) -> Message:
    """Return the message with who says it in its words; the same where nobody is named."""
    name, said = sender_of(message.parts), without_sender(message.parts)
    if name is None:
        return message
    if said and isinstance(first := said[0], Text):
        return Message(message.role, (Text(f"{name}: {first.text}"), *said[1:]))
    return Message(message.role, (Text(f"{name}:"), *said))


def shown_as(message: Message, names: object) -> Message:
    """Return the message as the session's setting `names` has it, where a vendor has no field."""
    if names == "none":
        return Message(message.role, without_sender(message.parts))
    return named(message)


def _is_of_another(part: Part, name: str) -> bool:
    return isinstance(part, Native) and part.provider != name


def _words(part: Part) -> str:
    if isinstance(part, Text):
        return part.text
    raise unsupported(part)


def unsupported(part: Part) -> Rejected:
    """Return the error for a part that a provider cannot be sent."""
    return Rejected(
        UnsupportedPart.code,
        detail=f"a part of the kind {part.kind}",
        hint="move the session to a provider that takes it; nothing was sent",
    )
