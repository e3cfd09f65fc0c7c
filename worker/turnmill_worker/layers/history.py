"""History: what a claim did not bring along, because it is long, is read before the call."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from turnmill.domain.content import Message
from turnmill.domain.ids import SessionId
from turnmill_worker.layers.call import Call, Go, Layer, from_store
from turnmill_worker.providers.boundary import Answer

#: Returns the messages of all succeeded turns of a session.
ReadHistory = Callable[[SessionId], Awaitable[Sequence[Message]]]


def history(read: ReadHistory) -> Layer:
    """Return the layer. It stands outside of all that may want to see, or to change, a history."""

    async def layer(call: Call, go: Go) -> Answer:
        if call.claim.history is None:
            call = await with_history(call, read)
        return await go(call)

    return layer


async def with_history(call: Call, read: ReadHistory) -> Call:
    """Return the call with all that we hold of its session."""
    said = await from_store(read(call.claim.session_id))
    return replace(call, request=replace(call.request, history=said))
