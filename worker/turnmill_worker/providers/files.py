"""What a provider is given to read attachments with: they are never in a request themselves."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from turnmill.domain.content import Attached, Audio, Message, Part, Text
from turnmill.store.codec import StoredHistory
from turnmill.store.file_records import Attachment

if TYPE_CHECKING:
    from turnmill_worker.providers.port import Request

#: What a model reads in the place of an attachment that is kept no longer.
GONE = "[an attachment that is no longer kept]"


class Files(Protocol):
    """The attachments that messages refer to. Raises NotSent where the file store is out of reach.

    That a turn may hold one was seen to when it was accepted. It may be gone by now, if somebody
    has deleted it; a conversation goes on all the same: see `standing`.
    """

    async def kept(self, parts: Iterable[Attached]) -> Mapping[str, Attachment]:
        """Return what is known of those that are kept, each by the `id` of its part."""
        ...

    async def info(self, part: Attached) -> Attachment | None:
        """Return what is known of one; None: it is kept no longer."""
        ...

    def chunks(self, part: Attached, *, start: int = 0) -> AsyncIterator[bytes]:
        """Yield its bytes from `start` on, in pieces of up to 256 KiB, read as they are asked for.

        Raises NotSent with the code `attachment_gone` where they are there no longer: it is found
        missing when the turn comes again.
        """
        ...

    async def read(self, part: Attached, *, at_most: int) -> bytes:
        """Return all its bytes, for what is small; raises Rejected where there are more."""
        ...


def holds_attachments(request: "Request") -> bool:
    """Tell whether a request carries any, without reading a history that is stored."""
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Attached):
                return True
    history = request.history
    if isinstance(history, StoredHistory):
        return history.holds_attachments
    return any(attached_in(message) for message in history)


async def standing(request: "Request") -> "Request":
    """Return the request with words in the place of attachments that are kept no longer.

    The same one where all are kept, or where there are none: then nothing is asked. A sound whose
    words stand beside it is sent to nobody, whether it is kept or not.
    """
    history = request.history if may_hold(request.history) else ()
    parts = [
        part
        for one in (*history, *request.messages)
        for part in attached_in(one)
        if not is_told(part)
    ]
    if not parts or request.files is None:
        return request
    kept = await request.files.kept(parts)
    if all(part.id in kept for part in parts):
        return request
    return replace(
        request,
        messages=[_said(one, kept) for one in request.messages],
        history=[_said(one, kept) for one in history] if history else request.history,
    )


def attached_in(message: Message) -> Sequence[Attached]:
    """Return the attachments that a message refers to."""
    return [part for part in message.parts if isinstance(part, Attached)]


def is_told(part: Part | Attached) -> bool:
    """Tell whether the words of a sound stand beside it: models are given those."""
    return isinstance(part, Audio) and part.is_told


def may_hold(history: Sequence[Message]) -> bool:
    """Tell whether messages may hold attachments, without reading what is stored."""
    return not isinstance(history, StoredHistory) or history.holds_attachments


def _said(message: Message, kept: Mapping[str, Attachment]) -> Message:
    return Message(message.role, [_standing(part, kept) for part in message.parts])


def _standing(part: Part, kept: Mapping[str, Attachment]) -> Part:
    if not isinstance(part, Attached) or part.id in kept or is_told(part):
        return part
    return Text(GONE)
