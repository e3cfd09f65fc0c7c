"""Estimates: what a call has used that was cut, or goes on without us, until somebody tells.

A token for each four bytes of UTF-8, rounded up: of what was sent, and of what had come. That is
about what English takes. The sizes of pictures, files and sounds are not known here, and neither is
then the number of tokens.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence

from turnmill.domain.content import Audio, File, Image, Message, strings_of
from turnmill.domain.errors import MaybeSent, ProviderError, StoreError
from turnmill.domain.ids import SessionId
from turnmill_worker.layers.holding import Holding, Stop
from turnmill_worker.providers.port import Request, Running, Usage

#: Bytes of UTF-8 that make a token.
BYTES_OF_A_TOKEN = 4

_UNSEEN = (Image, File, Audio)

#: Returns the messages of all succeeded turns of a session.
ReadHistory = Callable[[SessionId], Awaitable[Sequence[Message]]]


async def estimated(found: object, holding: Holding, read: ReadHistory) -> Usage | None:
    """Return what this call has used by our estimate; None where it was not cut, or never left.

    Work in the background is booked as what it was told: when its reply comes, the truth takes the
    place of that, and it stands where nobody waits for the reply any more. A vendor that holds the
    thread reads all of it: so does this, which may find it gone.
    """
    request = holding.request
    came = 0 if holding.partial is None else holding.partial.bytes
    if request is None or not holding.sent or not _is_cut(found, came=came):
        return None
    return Usage(input_tokens=_tokens(await _sent(request, read)), output_tokens=_tokens(came))


def _is_cut(found: object, *, came: int) -> bool:
    """Tell whether it ended for us before its end, and not with an error of the vendor's."""
    if isinstance(found, MaybeSent):
        return came > 0 or not found.answered
    return isinstance(found, Stop | Running)


async def _sent(request: Request, read: ReadHistory) -> int | None:
    """Return how many bytes the vendor has read; None where nobody knows."""
    try:
        history = await read(request.session_id) if request.thread_ref else request.history
        return _bytes_of(request, history)
    except (ProviderError, StoreError):
        return None  # a row of it cannot be read, or no row at the moment


def _bytes_of(request: Request, history: Sequence[Message]) -> int | None:
    parts = [part for message in (*history, *request.messages) for part in message.parts]
    if any(isinstance(part, _UNSEEN) for part in parts):
        return None
    texts: list[str] = [request.system_prompt or ""]
    texts += [text for part in parts for text in strings_of(part)]
    for tool in request.tools:
        texts += [tool.name, tool.description, json.dumps(tool.parameters)]
    if request.output_schema is not None:
        texts.append(json.dumps(request.output_schema))
    return _size(texts)


def _size(texts: Iterable[str]) -> int:
    return sum(
        len(text) if text.isascii() else len(text.encode(errors="surrogatepass")) for text in texts
    )


def _tokens(size: int | None) -> int | None:
    return None if size is None else -(-size // BYTES_OF_A_TOKEN)
