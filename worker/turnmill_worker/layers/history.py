"""History: what a claim did not bring along, because it is long, is read before the call."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from turnmill.domain.content import Message
from turnmill.domain.ids import SessionId
from turnmill.store.codec import StoredHistory
from turnmill.store.records import Claim
from turnmill_worker.layers.call import Call, Go, Layer, from_store
from turnmill_worker.layers.shortening import kind_of
from turnmill_worker.providers.boundary import Answer

#: Returns the messages of a session's succeeded turns, as its model is to be shown them.
ReadHistory = Callable[[Claim], Awaitable[Sequence[Message]]]
#: The same by the session.
OfSession = Callable[[SessionId], Awaitable[Sequence[Message]]]


def chosen(whole: OfSession, shortened: OfSession) -> ReadHistory:
    """Return what reads a history as its session wants it: whole, or without what is left out."""

    def read(claim: Claim) -> Awaitable[Sequence[Message]]:
        return (whole if kind_of(claim.settings) is None else shortened)(claim.session_id)

    return read


def history(read: ReadHistory, *, is_seen_once: Callable[[Claim], bool]) -> Layer:
    """Return the layer. It stands outside of all that may want to see, or to change, a history.

    `is_seen_once` tells of which claim nobody looks at it any more when it was sent.
    """

    def layer(call: Call, go: Go) -> Awaitable[Answer]:
        is_read = call.claim.history is None or _is_shortened(call)
        return completed(call, go) if is_read else go(call)

    async def completed(call: Call, go: Go) -> Answer:
        whole = await with_history(call, read)
        said = whole.request.history
        if isinstance(said, StoredHistory) and is_seen_once(call.claim):
            said.can_be_read_again(partial(_again, read, call.claim), call.claim.session_id)
        return await go(whole)

    return layer


async def _again(read: ReadHistory, claim: Claim, _: SessionId) -> StoredHistory:
    said = await read(claim)
    assert isinstance(said, StoredHistory)  # as it was before
    return said


def _is_shortened(call: Call) -> bool:
    """Tell whether the session lets parts of it be left out; what it brought along is whole."""
    return kind_of(call.claim.settings) is not None and not call.request.thread_ref


async def with_history(call: Call, read: ReadHistory) -> Call:
    """Return the call with all that we hold of its session, and of a thread that it adopts."""
    said = await from_store(read(call.claim))
    if call.claim.before:
        said = [*call.claim.before, *said]
    return replace(call, request=replace(call.request, history=said))
