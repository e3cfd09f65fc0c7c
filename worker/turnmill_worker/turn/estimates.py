"""Estimates: what a call has used that was cut, or goes on without us, until somebody tells.

By the bytes of what was sent, and of what had come: see `gauge`. The sizes of pictures, files and
sounds are not known here, and neither is then the number of tokens.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from turnmill.domain.content import Audio, File, Image, Message, strings_of
from turnmill.domain.errors import MaybeSent, ProviderError, StoreError
from turnmill.domain.ids import SessionId
from turnmill_worker.layers.holding import Holding, Stop
from turnmill_worker.providers.boundary import attempted
from turnmill_worker.providers.fields import usage_of
from turnmill_worker.providers.port import Done, Request, Running, Usage, used_by
from turnmill_worker.providers.rereading import come_back, is_gone
from turnmill_worker.providers.usages import summed
from turnmill_worker.turn.gauge import Gauge

#: Messages of a history that is read for its size alone.
_MOST_MEASURED = 200

_UNSEEN = (Image, File, Audio)

#: Returns the messages of all succeeded turns of a session.
ReadHistory = Callable[[SessionId], Awaitable[Sequence[Message]]]


async def estimated(
    found: object, holding: Holding, read: ReadHistory, gauge: Gauge
) -> Usage | None:
    """Return what this call has used by our estimate; None where it was not cut, or never left.

    What the vendor had counted by then is no estimate.
    Work in the background is booked as what it was told: when its reply comes, the truth takes the
    place of that, and it stands where nobody waits for the reply any more. A vendor that holds the
    thread reads all of it: so does this, which may find it gone.
    """
    request, streamed = holding.request, holding.partial
    came = 0 if streamed is None else streamed.bytes
    if request is None or not (holding.sent or came) or not _is_cut(found, came=came):
        return None
    told = None if streamed is None or streamed.usage is None else usage_of(streamed.usage)
    before = used_by(found) if isinstance(found, ProviderError) else None
    if before is not None and told is None and not _is_open(found):
        return None  # all of it was counted
    measure = gauge.of(holding.claim.provider, request.model)
    if told is not None and told.input_tokens is not None:
        said = told.output_tokens
        return replace(told, output_tokens=measure.said(came) if said is None else said)
    tokens = measure.told(await _sent(request, read))
    own = measure.told(_size_of(request.messages))
    cached = gauge.cached(holding.claim, told=tokens, own=own)
    usage = Usage(input_tokens=tokens, output_tokens=measure.said(came), cached_tokens=cached)
    return usage if before is None else summed(before.usage, usage)


def _is_cut(found: object, *, came: int) -> bool:
    """Tell whether it ended for us before its end: an error of the vendor's, while it spoke, too.

    That is told in the middle of what it has said, and is thus paid for, perhaps.
    """
    if isinstance(found, ProviderError):
        return came > 0 or _is_open(found)
    return isinstance(found, Stop | Running)


def _is_open(found: object) -> bool:
    """Tell whether nobody knows how far the vendor has come."""
    return isinstance(found, MaybeSent) and not found.answered


def learn(gauge: Gauge, holding: Holding, reply: Done) -> None:
    """Learn from a call that was counted; what stands in the way costs nothing but that."""
    if gauge.has_use_for(holding.claim, reply.usage):
        attempted("an estimate", partial(_learn, gauge, holding, reply))


def _learn(gauge: Gauge, holding: Holding, reply: Done) -> None:
    """Learn from a call that was counted how large a token is, now and then: it has to be read.

    What it was told may have been let go of; see `Gauge.keeps_one`.
    """
    claim, request, usage = holding.claim, holding.request, reply.usage
    gauge.remember(claim, usage)
    if request is None or request.thread_ref or is_gone(request) or not gauge.is_due():
        return
    if len(request.history) <= _MOST_MEASURED:
        size = _bytes_of(request, request.history)
        gauge.learn(claim.provider, request.model, usage, told=size, said=_size([reply.text]))


async def _sent(request: Request, read: ReadHistory) -> int | None:
    """Return how many bytes the vendor has read; None where nobody knows."""
    try:
        if is_gone(request):
            await come_back(request)
        history = await read(request.session_id) if request.thread_ref else request.history
        return _bytes_of(request, history)
    except (ProviderError, StoreError):
        return None  # a row of it cannot be read, or no row at the moment


def _bytes_of(request: Request, history: Sequence[Message]) -> int | None:
    said = _size_of([*history, *request.messages])
    if said is None:
        return None
    texts: list[str] = [request.system_prompt or ""]
    for tool in request.tools:
        texts += [tool.name, tool.description, json.dumps(tool.parameters)]
    if request.output_schema is not None:
        texts.append(json.dumps(request.output_schema))
    return said + _size(texts)


def _size_of(messages: Sequence[Message]) -> int | None:
    """Return the bytes of what is said; None where some of it is no text."""
    parts = [part for message in messages for part in message.parts]
    if any(isinstance(part, _UNSEEN) for part in parts):
        return None
    return _size(text for part in parts for text in strings_of(part))


def _size(texts: Iterable[str]) -> int:
    return sum(
        len(text) if text.isascii() else len(text.encode(errors="surrogatepass")) for text in texts
    )
